"""Several processes and machines that run one search together, started by `torchrun`."""

from blackbox_zo.ranks._across import AcrossRanks as AcrossRanks
from blackbox_zo.ranks._ranks import Ranks as Ranks
from blackbox_zo.ranks._wire import Traffic as Traffic
from blackbox_zo.ranks._words import versions as versions
