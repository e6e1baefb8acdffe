"""Optimise what can only be asked: zeroth-order estimators and population methods behind one ask/tell interface."""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from blackbox_zo import rules as rules
from blackbox_zo import stopping as stopping
from blackbox_zo._begin import read_known as read_known
from blackbox_zo._doors.scipy_method import scipy_method as scipy_method
from blackbox_zo._version import __version__ as __version__
from blackbox_zo.autograd import as_autograd as as_autograd
from blackbox_zo.directions import Block as Block
from blackbox_zo.directions import Coordinates as Coordinates
from blackbox_zo.directions import Dense as Dense
from blackbox_zo.directions import Directions as Directions
from blackbox_zo.directions import Gaussian as Gaussian
from blackbox_zo.directions import LowRank as LowRank
from blackbox_zo.directions import Orthogonal as Orthogonal
from blackbox_zo.directions import Rademacher as Rademacher
from blackbox_zo.directions import Sparse as Sparse
from blackbox_zo.directions import Sphere as Sphere
from blackbox_zo.errors import BudgetExhausted as BudgetExhausted
from blackbox_zo.errors import FeedbackError as FeedbackError
from blackbox_zo.errors import JournalError as JournalError
from blackbox_zo.errors import JournalLocked as JournalLocked
from blackbox_zo.errors import MeasureError as MeasureError
from blackbox_zo.errors import OracleError as OracleError
from blackbox_zo.errors import RankError as RankError
from blackbox_zo.errors import Rewind as Rewind
from blackbox_zo.errors import StopRun as StopRun
from blackbox_zo.errors import TellError as TellError
from blackbox_zo.errors import WorkerError as WorkerError
from blackbox_zo.estimators import PGPE as PGPE
from blackbox_zo.estimators import SPSA as SPSA
from blackbox_zo.estimators import Asynchronous as Asynchronous
from blackbox_zo.estimators import AugmentedRandomSearch as AugmentedRandomSearch
from blackbox_zo.estimators import BlockDescent as BlockDescent
from blackbox_zo.estimators import ConsensusBased as ConsensusBased
from blackbox_zo.estimators import CoordinateSearch as CoordinateSearch
from blackbox_zo.estimators import Coordinatewise as Coordinatewise
from blackbox_zo.estimators import Estimator as Estimator
from blackbox_zo.estimators import EvolutionStrategy as EvolutionStrategy
from blackbox_zo.estimators import Nevergrad as Nevergrad
from blackbox_zo.estimators import NoisyQuasiNewton as NoisyQuasiNewton
from blackbox_zo.estimators import OrdinalCoordinateSearch as OrdinalCoordinateSearch
from blackbox_zo.estimators import OrdinalSurrogate as OrdinalSurrogate
from blackbox_zo.estimators import Portfolio as Portfolio
from blackbox_zo.estimators import PreferenceGP as PreferenceGP
from blackbox_zo.estimators import QuasiNewton as QuasiNewton
from blackbox_zo.estimators import RandomVector as RandomVector
from blackbox_zo.estimators import RankBased as RankBased
from blackbox_zo.estimators import RankSGD as RankSGD
from blackbox_zo.estimators import Restarts as Restarts
from blackbox_zo.estimators import Surrogate as Surrogate
from blackbox_zo.estimators import TrustRegion as TrustRegion
from blackbox_zo.feedback import Feedback as Feedback
from blackbox_zo.feedback import Ranking as Ranking
from blackbox_zo.feedback import Values as Values
from blackbox_zo.function import FunctionOracle as FunctionOracle
from blackbox_zo.gradient import gradient as gradient
from blackbox_zo.journal import Journal as Journal
from blackbox_zo.journal import JournalReader as JournalReader
from blackbox_zo.journal import Measured as Measured
from blackbox_zo.journal import read_journal as read_journal
from blackbox_zo.measure import Measure as Measure
from blackbox_zo.minimize import minimize as minimize
from blackbox_zo.observers import LoggingObserver as LoggingObserver
from blackbox_zo.oracle import Oracle as Oracle
from blackbox_zo.oracle import Part as Part
from blackbox_zo.proposal import Proposal as Proposal
from blackbox_zo.randomness import Key as Key
from blackbox_zo.retry import Retry as Retry
from blackbox_zo.rules import SGD as SGD
from blackbox_zo.rules import Adam as Adam
from blackbox_zo.rules import ClipNorm as ClipNorm
from blackbox_zo.rules import ClipScalar as ClipScalar
from blackbox_zo.rules import ClipUp as ClipUp
from blackbox_zo.rules import Cosine as Cosine
from blackbox_zo.rules import Linear as Linear
from blackbox_zo.rules import Momentum as Momentum
from blackbox_zo.rules import Rule as Rule
from blackbox_zo.rules import Schedule as Schedule
from blackbox_zo.rules import SignSGD as SignSGD
from blackbox_zo.rules import StdNorm as StdNorm
from blackbox_zo.rules import Warmup as Warmup
from blackbox_zo.rules import WeightDecay as WeightDecay
from blackbox_zo.rules import chain as chain
from blackbox_zo.run import Ended as Ended
from blackbox_zo.run import Observer as Observer
from blackbox_zo.run import Report as Report
from blackbox_zo.run import Run as Run
from blackbox_zo.search import Best as Best
from blackbox_zo.search import Search as Search
from blackbox_zo.steps import Queries as Queries
from blackbox_zo.steps import Step as Step
from blackbox_zo.stopping import MedianRule as MedianRule
from blackbox_zo.stopping import SuccessiveHalving as SuccessiveHalving
from blackbox_zo.stopping import report as report
from blackbox_zo.timeout import Timeout as Timeout
from blackbox_zo.variables import Starts as Starts
from blackbox_zo.variables import Variable as Variable
from blackbox_zo.variables import Vector as Vector
from blackbox_zo.wrappers import Cache as Cache
from blackbox_zo.wrappers import RankOnly as RankOnly
from blackbox_zo.wrappers import Repeat as Repeat

if _TYPE_CHECKING:
    from blackbox_zo.modules import Module as Module
    from blackbox_zo.ranks import AcrossRanks as AcrossRanks
    from blackbox_zo.ranks import Ranks as Ranks
    from blackbox_zo.streaming import StreamedModule as StreamedModule


def __getattr__(name: str) -> _Any:
    """`Module`, `StreamedModule` and `Ranks` need torch, each door another package; imported when first used."""
    if name == "Module":
        from blackbox_zo.modules import Module

        return Module
    if name == "StreamedModule":
        from blackbox_zo.streaming import StreamedModule

        return StreamedModule
    if name in ("AcrossRanks", "Ranks"):
        from blackbox_zo import ranks

        return getattr(ranks, name)
    if name in ("nevergrad", "optuna", "ray", "sklearn"):
        from importlib import import_module

        return import_module(f"blackbox_zo.{name}")
    raise AttributeError(f"module 'blackbox_zo' has no attribute {name!r}")
