"""Rankings: people who compare, and models of them."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from oracles._lazy import lazy as _lazy

if _TYPE_CHECKING:
    from oracles.ranking.methods import ranking_method as ranking_method
    from oracles.ranking.raters._models import Utilities as Utilities
    from oracles.ranking.raters._models import utilities as utilities
    from oracles.ranking.raters._noise import BradleyTerry as BradleyTerry
    from oracles.ranking.raters._noise import Exact as Exact
    from oracles.ranking.raters._noise import FixedFlip as FixedFlip
    from oracles.ranking.raters._noise import GapDependent as GapDependent
    from oracles.ranking.raters._noise import Noise as Noise
    from oracles.ranking.raters._noise import PlackettLuce as PlackettLuce
    from oracles.ranking.raters._noise import Thurstone as Thurstone
    from oracles.ranking.raters._pairs import AllPairs as AllPairs
    from oracles.ranking.raters._pairs import Pairs as Pairs
    from oracles.ranking.raters._pairs import PairwiseOracle as PairwiseOracle
    from oracles.ranking.raters._pairs import RandomPairs as RandomPairs
    from oracles.ranking.raters._pairs import Swiss as Swiss
    from oracles.ranking.raters._plan import Planned as Planned
    from oracles.ranking.raters._plan import plan as plan
    from oracles.ranking.raters._raters import SimulatedRater as SimulatedRater
    from oracles.ranking.raters._reliability import Agreement as Agreement
    from oracles.ranking.raters._reliability import Duplicate as Duplicate
    from oracles.ranking.raters._reliability import Fatigue as Fatigue
    from oracles.ranking.raters._reliability import RaterModel as RaterModel
    from oracles.ranking.raters._reliability import Standing as Standing
    from oracles.ranking.raters._reliability import Trend as Trend
    from oracles.ranking.study._design import StudyDesign as StudyDesign
    from oracles.ranking.study._host import StudyServer as StudyServer
    from oracles.ranking.study._vote import Votes as Votes
    from oracles.ranking.study.human import HumanRanking as HumanRanking

__getattr__ = _lazy(
    __name__,
    {
        "HumanRanking": "study.human",
        "StudyDesign": "study._design",
        "StudyServer": "study._host",
        "Votes": "study._vote",
        "ranking_method": "methods",
        **dict.fromkeys(("Utilities", "utilities"), "raters._models"),
        **dict.fromkeys(
            ("BradleyTerry", "Exact", "FixedFlip", "GapDependent", "Noise", "PlackettLuce", "Thurstone"),
            "raters._noise",
        ),
        **dict.fromkeys(("AllPairs", "Pairs", "PairwiseOracle", "RandomPairs", "Swiss"), "raters._pairs"),
        "SimulatedRater": "raters._raters",
        **dict.fromkeys(("Planned", "plan"), "raters._plan"),
        **dict.fromkeys(
            ("Agreement", "Duplicate", "Fatigue", "RaterModel", "Standing", "Trend"), "raters._reliability"
        ),
    },
    extra="human",
)
