from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optunahub
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

import blackbox_zo.optuna


class BlackboxZOSampler(optunahub.samplers.SimpleBaseSampler):
    """Samples parameters together by blackbox-zo's portfolio of zeroth-order methods.

    Args:
        search_space: The parameters, by name; by default those that every finished trial had.
        seed: Determines all randomness.
        method: ``"auto"``, or an estimator of blackbox-zo such as ``blackbox_zo.EvolutionStrategy(0.3)``.
        x0: Where to start: values of some or all parameters.
    """

    def __init__(
        self,
        search_space: dict[str, BaseDistribution] | None = None,
        seed: int | None = None,
        *,
        method: Any = "auto",
        x0: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(search_space, seed)
        self._sampler = blackbox_zo.optuna.Sampler(method, search_space=search_space, x0=x0, seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()
