"""blackbox_zo in nevergrad's registry: `import blackbox_zo.nevergrad` adds `BlackboxZO` and its relatives.

It needs nevergrad, and numpy below 2.3, on which nevergrad 1.0.12 breaks: `pip install 'blackbox-zo[nevergrad]'`.

| name | method |
|---|---|
| `BlackboxZO` | "auto": a quasi-Newton method, a CMA-ES, then restarts |
| `BlackboxZOCMA` | a CMA-ES, first with a quadratic model, then restarted without |
| `BlackboxZODiagonalCMA` | a CMA-ES with a diagonal covariance, with restarts |
| `BlackboxZOQuasiNewton` | the quasi-Newton method, with restarts |

Any other method is `BlackboxZO(method=...)`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from blackbox_zo._doors.one_by_one import Asked, OneByOne, check_method
from blackbox_zo._doors.packages import nevergrad
from blackbox_zo._doors.standardized import box, unit_of
from blackbox_zo._typing import Floats, override
from blackbox_zo.estimators import EvolutionStrategy, Portfolio, QuasiNewton

__all__ = ["BlackboxZO"]

ng = nevergrad()

FAILED = 5e20
"""What nevergrad makes of NaN, infinity, and all that is larger."""


class _Optimizer(ng.optimizers.base.Optimizer):  # type: ignore[misc, name-defined]
    """A method of blackbox_zo in nevergrad's standardized space, within its bounds.

    Args:
        parametrization: As for any optimizer of nevergrad.
        budget: The same.
        num_workers: The same.
        method: As for `minimize`.
    """

    def __init__(
        self, parametrization: Any, budget: int | None = None, num_workers: int = 1, method: Any = "auto"
    ) -> None:
        super().__init__(parametrization, budget=budget, num_workers=num_workers)
        self._wanted = check_method(method)
        self._penalize_cheap_violations = True  # a candidate that violates a constraint is told as a failure
        self._search: OneByOne | None = None
        self._handed: dict[str, Asked] = {}

    @property
    def search(self) -> OneByOne:
        """The search; its seed is the parametrization's."""
        if self._search is None:
            bounds, seed = box(self.parametrization), int(self._rng.randint(2**31))
            self._search = OneByOne(self._wanted, np.zeros(self.dimension), bounds, unit_of(bounds), seed)
        return self._search

    @override
    def _internal_ask_candidate(self) -> Any:
        asked = self.search.ask() or self.search.ask_aside()
        candidate = self.parametrization.spawn_child().set_standardized_data(asked.point)
        self._handed[candidate.uid] = asked
        return candidate

    @override
    def _internal_tell_candidate(self, candidate: Any, loss: float) -> None:
        value = loss if loss < FAILED else math.nan
        asked = self._handed.pop(candidate.uid, None)
        if asked is not None:
            self.search.tell(asked, value)
        else:
            self.search.know(candidate.get_standardized_data(reference=self.parametrization), value)

    @override
    def _internal_provide_recommendation(self) -> Floats | None:
        # None is nevergrad's own: the best candidate
        return None if self._search is None else self._search.recommended


class BlackboxZO(ng.optimizers.base.ConfiguredOptimizer):  # type: ignore[misc, name-defined]
    """A method of blackbox_zo as an optimizer of nevergrad.

    It may be asked any number of times at once, told in any order, and told candidates that it was not asked about,
    which are known points; it can be pickled. A loss of NaN or infinity, and a candidate that violates a cheap
    constraint, are failed queries. All randomness comes from `parametrization.random_state`.

    Args:
        method: As for `minimize`. Lengths are in nevergrad's standardized space, three of its standard deviations each.

    Raises:
        TypeError: `method` is none.

    Example:
        >>> import nevergrad as ng
        >>> import blackbox_zo.nevergrad
        >>> optimizer = ng.optimizers.registry["BlackboxZO"](parametrization=2, budget=100)
        >>> best = optimizer.minimize(lambda x: ((x - 0.5) ** 2).sum())
        >>> bool(abs(best.value - 0.5).max() < 1e-6)
        True
    """

    def __init__(self, *, method: Any = "auto") -> None:
        super().__init__(_Optimizer, locals())


def _register() -> None:
    cma, model = EvolutionStrategy(0.3), EvolutionStrategy(0.3, model=True)
    methods = {
        "BlackboxZO": "auto",
        "BlackboxZOCMA": Portfolio((model, cma), (2.0, 0.0)),
        "BlackboxZODiagonalCMA": Portfolio((EvolutionStrategy(0.3, covariance="diagonal"),), (2.0,)),
        "BlackboxZOQuasiNewton": Portfolio((QuasiNewton(0.2),)),
    }
    for name, method in methods.items():
        if name not in ng.optimizers.registry:  # as in a notebook that is run again
            BlackboxZO(method=method).set_name(name, register=True)


_register()
