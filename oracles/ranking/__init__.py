"""Rankings: people who compare, and models of them."""

from typing import TYPE_CHECKING, Any

from oracles.ranking._models import Utilities as Utilities
from oracles.ranking._models import utilities as utilities
from oracles.ranking._noise import BradleyTerry as BradleyTerry
from oracles.ranking._noise import Exact as Exact
from oracles.ranking._noise import FixedFlip as FixedFlip
from oracles.ranking._noise import GapDependent as GapDependent
from oracles.ranking._noise import Noise as Noise
from oracles.ranking._noise import PlackettLuce as PlackettLuce
from oracles.ranking._noise import Thurstone as Thurstone
from oracles.ranking._pairs import AllPairs as AllPairs
from oracles.ranking._pairs import Pairs as Pairs
from oracles.ranking._pairs import PairwiseOracle as PairwiseOracle
from oracles.ranking._pairs import RandomPairs as RandomPairs
from oracles.ranking._pairs import Swiss as Swiss
from oracles.ranking._raters import SimulatedRater as SimulatedRater
from oracles.ranking._reliability import Fatigue as Fatigue
from oracles.ranking._reliability import RaterModel as RaterModel
from oracles.ranking._reliability import Trend as Trend

if TYPE_CHECKING:
    from oracles.ranking.human import HumanRanking as HumanRanking


def __getattr__(name: str) -> Any:
    """`HumanRanking`, loaded with its web server when it is first asked for."""
    if name != "HumanRanking":
        raise AttributeError(f"module 'oracles.ranking' has no attribute {name!r}")
    try:
        from oracles.ranking.human import HumanRanking
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`HumanRanking` needs {error.name}, which is not installed: pip install 'blackbox-zo[human]'"
        ) from error
    return HumanRanking
