"""`Coordinatewise`: finite differences along the axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from blackbox_zo._checks import check_choice, check_positive
from blackbox_zo._typing import Ints, override
from blackbox_zo.directions import Coordinates
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.estimators._random_vector import differences, plan
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import Adam, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["Coordinatewise"]


@final
@dataclass(frozen=True)
class Coordinatewise(Estimator):
    """Finite differences along coordinate axes (CGE; Chen et al. 2024, DeepZero, eq. (1) for the forward one).

    `g_i = (f(x + h e_i) - f(x - h e_i)) / (2 h)` for the chosen i, 0 for the others. Central differences are exact on
    quadratics. Points are clipped at bounds, as if f were constant beyond them, so a central difference at a bound is
    half the inward slope.

    Args:
        radius: h, positive, in units of the variable.
        coordinates: None for all d; an array of flat indices; or "block:m", m axes a step in turn, all d in ⌈d/m⌉
            steps. The estimate is not scaled up for the axes left out.
        difference: "central" (two queries an axis) or "forward" (one, and one for x).

    Raises:
        ValueError: An argument is out of its range, or an index repeats or lies outside x.
    """

    radius: float
    coordinates: Any = None
    difference: Literal["central", "forward"] = "central"

    def __post_init__(self) -> None:
        check_positive("Coordinatewise", radius=self.radius)
        check_choice("Coordinatewise", ("central", "forward"), difference=self.difference)
        c = self.coordinates
        if isinstance(c, str):
            head, _, tail = c.partition(":")
            if head != "block" or not tail.isdecimal() or int(tail) < 1:
                raise ValueError(f'`Coordinatewise(coordinates=...)` must look like "block:16", got {c!r}.')
        elif c is not None:
            index = np.asarray(c)
            if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
                raise ValueError(
                    f"`Coordinatewise(coordinates=...)` must be a flat array of at least one index, got {c!r:.60}."
                )
            if len(np.unique(index)) < len(index) or index.min() < 0:
                raise ValueError(
                    f"`Coordinatewise(coordinates=...)` must name each index once, from 0 up; got {c!r:.60}."
                )
            object.__setattr__(self, "coordinates", tuple(int(i) for i in index))  # hashable, and no one else's

    @override
    def rule(self) -> Rule:
        """Adam with moves of 0.05."""
        return Adam(0.05)

    @override
    def start(self, variable: Variable) -> tuple[()]:
        if isinstance(self.coordinates, tuple) and max(self.coordinates) >= variable.size:
            raise ValueError(
                f"`Coordinatewise(coordinates=...)` names index {max(self.coordinates)}, "
                f"but x has {variable.size} elements, numbered from 0."
            )
        return ()

    def chosen(self, step: int, d: int) -> Ints:
        """The axes of one step."""
        if self.coordinates is None:
            return np.arange(d)
        if isinstance(self.coordinates, tuple):
            return np.array(self.coordinates, dtype=np.intp)
        m = int(self.coordinates.partition(":")[2])
        first = (step % -(-d // m)) * m
        return np.arange(first, min(first + m, d))

    @override
    def sample(self, state: tuple[()], variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        axes = Coordinates(variable.blocks, self.chosen(key.step, variable.size))
        index, scale = plan(axes.k, self.radius, self.difference)
        return Queries(axes, index, scale, variable.origin)

    @override
    def estimate(
        self, state: tuple[()], variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[tuple[()], Step]:
        # The estimate is 0 along an axis with a failed query
        assert isinstance(feedback, Values)
        difference = differences(feedback.values, self.radius, self.difference)
        w = np.zeros(queries.directions.k)
        w[: len(difference)] = np.where(np.isfinite(difference), difference, 0.0)
        return state, Step(queries.directions, w)
