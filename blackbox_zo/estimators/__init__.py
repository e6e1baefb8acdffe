"""Estimators and population methods: which points a step asks, and what it estimates from the answers."""

from blackbox_zo.estimators._asynchronous import Asynchronous as Asynchronous
from blackbox_zo.estimators._augmented_random_search import AugmentedRandomSearch as AugmentedRandomSearch
from blackbox_zo.estimators._base import Estimator as Estimator
from blackbox_zo.estimators._block_descent import BlockDescent as BlockDescent
from blackbox_zo.estimators._consensus_based import ConsensusBased as ConsensusBased
from blackbox_zo.estimators._coordinate_search import CoordinateSearch as CoordinateSearch
from blackbox_zo.estimators._coordinatewise import Coordinatewise as Coordinatewise
from blackbox_zo.estimators._evolution_strategy import EvolutionStrategy as EvolutionStrategy
from blackbox_zo.estimators._nevergrad import Nevergrad as Nevergrad
from blackbox_zo.estimators._noisy_quasi_newton import NoisyQuasiNewton as NoisyQuasiNewton
from blackbox_zo.estimators._ordinal_coordinate_search import OrdinalCoordinateSearch as OrdinalCoordinateSearch
from blackbox_zo.estimators._ordinal_surrogate import OrdinalSurrogate as OrdinalSurrogate
from blackbox_zo.estimators._pgpe import PGPE as PGPE
from blackbox_zo.estimators._portfolio import Portfolio as Portfolio
from blackbox_zo.estimators._portfolio_state import Spent as Spent
from blackbox_zo.estimators._preference_gp import PreferenceGP as PreferenceGP
from blackbox_zo.estimators._quasi_newton import QuasiNewton as QuasiNewton
from blackbox_zo.estimators._random_vector import RandomVector as RandomVector
from blackbox_zo.estimators._rank_based import RankBased as RankBased
from blackbox_zo.estimators._rank_sgd import RankSGD as RankSGD
from blackbox_zo.estimators._restarts import Restarts as Restarts
from blackbox_zo.estimators._spsa import SPSA as SPSA
from blackbox_zo.estimators._surrogate import Surrogate as Surrogate
from blackbox_zo.estimators._trust_region import TrustRegion as TrustRegion
