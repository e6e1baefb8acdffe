"""Directions: the vectors U along which a step asks and x moves."""

from blackbox_zo.directions._base import Block as Block
from blackbox_zo.directions._base import Directions as Directions
from blackbox_zo.directions._combined import Joined as Joined
from blackbox_zo.directions._combined import Mixed as Mixed
from blackbox_zo.directions._combined import OnBlocks as OnBlocks
from blackbox_zo.directions._fixed import Coordinates as Coordinates
from blackbox_zo.directions._fixed import Dense as Dense
from blackbox_zo.directions._gaussian import Gaussian as Gaussian
from blackbox_zo.directions._gaussian import Orthogonal as Orthogonal
from blackbox_zo.directions._gaussian import Sphere as Sphere
from blackbox_zo.directions._signs import LowRank as LowRank
from blackbox_zo.directions._signs import Rademacher as Rademacher
from blackbox_zo.directions._sparse import Sparse as Sparse
