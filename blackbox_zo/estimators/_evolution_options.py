"""The options of `EvolutionStrategy`: which go together, and what they are by default."""

from __future__ import annotations

import math
from typing import Protocol

from blackbox_zo._checks import check_at_least, check_choice, check_positive

__all__ = ["LARGE", "check_options", "population", "step_size"]

LARGE = 100
"""Above this dimension defaults cost O(d)."""

ENOUGH_FOR_A_LINE = 12
"""From this many queries on, three of them may lie on a line by default."""

LEAST_FOR_A_LINE = 5
"""Three on the line, and two besides."""


class Options(Protocol):
    """What `EvolutionStrategy` is made with."""

    @property
    def radius(self) -> float: ...
    @property
    def n_queries(self) -> int | None: ...
    @property
    def covariance(self) -> str | None: ...
    @property
    def adapt_radius(self) -> bool: ...
    @property
    def model(self) -> bool: ...
    @property
    def step_size(self) -> str | None: ...
    @property
    def learning_rate(self) -> str: ...


def check_options(e: Options) -> None:
    """Raise ValueError where an option is out of its range, or does not go with another."""
    check_positive("EvolutionStrategy", radius=e.radius)
    if e.n_queries is not None:
        check_at_least("EvolutionStrategy", 2, n_queries=e.n_queries)
    for name, choices in (
        ("covariance", ("full", "low-rank", "diagonal", "isotropic")),
        ("weights", ("best", "all")),
        ("step_size", ("path", "line", "both")),
    ):
        if getattr(e, name) is not None:
            check_choice("EvolutionStrategy", choices, **{name: getattr(e, name)})
    check_choice("EvolutionStrategy", ("constant", "adapted"), learning_rate=e.learning_rate)
    if e.model and e.covariance not in (None, "full"):
        raise ValueError(f'`EvolutionStrategy(model=True)` needs covariance="full", got {e.covariance!r}.')
    line = e.step_size in ("line", "both")
    if e.model and line:
        raise ValueError(
            f'`EvolutionStrategy(step_size="{e.step_size}")` does not go with a model, which asks a few queries at a '
            'time; use "path".'
        )
    if e.learning_rate == "adapted" and (e.model or line or not e.adapt_radius or e.covariance == "low-rank"):
        raise ValueError(
            '`EvolutionStrategy(learning_rate="adapted")` goes neither with a model, a line, a constant radius nor a '
            "low-rank covariance."
        )
    if line and not e.adapt_radius:
        raise ValueError(f'`EvolutionStrategy(step_size="{e.step_size}")` does not go with `adapt_radius=False`.')
    if line and e.n_queries is not None and e.n_queries < LEAST_FOR_A_LINE:
        raise ValueError(
            f"`EvolutionStrategy(n_queries=...)` must be at least {LEAST_FOR_A_LINE} for a line, got {e.n_queries}."
        )


def population(e: Options, d: int) -> int:
    """Lambda for dimension d (Hansen 2016, eq. (48))."""
    least = LEAST_FOR_A_LINE if e.step_size in ("line", "both") else 0
    return e.n_queries or max(4 + math.floor(3 * math.log(d)), least)


def step_size(e: Options, d: int) -> str:
    """How sigma changes in d dimensions."""
    if e.step_size is not None:
        return e.step_size
    if e.model or e.covariance == "full" or e.learning_rate == "adapted" or not e.adapt_radius:
        return "path"
    if e.covariance == "low-rank":
        return "line" if population(e, d) >= LEAST_FOR_A_LINE else "path"
    return "both" if d > LARGE and population(e, d) >= ENOUGH_FOR_A_LINE else "path"
