"""Files with the weights of a model: read part by part, under the names of the model's own parameters."""

from blackbox_zo.checkpoints._base import Checkpoint as Checkpoint
from blackbox_zo.checkpoints._base import Safetensors as Safetensors
from blackbox_zo.checkpoints._base import Stored as Stored
from blackbox_zo.checkpoints._base import read_into as read_into
from blackbox_zo.checkpoints._gguf import GGUF as GGUF
from blackbox_zo.checkpoints._gguf import decoded as decoded
from blackbox_zo.checkpoints._gguf import hollow_gguf as hollow_gguf
from blackbox_zo.checkpoints._hollow import absent as absent
from blackbox_zo.checkpoints._hollow import emptied as emptied
from blackbox_zo.checkpoints._hollow import hollow_model as hollow_model
from blackbox_zo.checkpoints._hollow import replace_parameters as replace_parameters
from blackbox_zo.checkpoints._names import Piece as Piece
from blackbox_zo.checkpoints._names import Pieces as Pieces
from blackbox_zo.checkpoints._open import opened as opened
from blackbox_zo.checkpoints._open import pieces_of as pieces_of
from blackbox_zo.checkpoints._open import saved_buffers as saved_buffers
