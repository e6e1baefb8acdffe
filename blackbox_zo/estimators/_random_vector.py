"""`RandomVector`: finite differences along random directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_choice, check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import (
    Block,
    Directions,
    Gaussian,
    LowRank,
    OnBlocks,
    Orthogonal,
    Rademacher,
    Sparse,
    Sphere,
)
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import Adam, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["RandomVector"]


class RandomVectorState(NamedTuple):
    """The mean value of the last step, which only residual feedback uses; NaN before the first."""

    previous: float


@final
@dataclass(frozen=True)
class RandomVector(Estimator):
    """Finite differences along k random directions u, an unbiased estimate of the gradient of a smoothed f.

    With `mu` the radius and c = 1, or c = d for the unit vectors of "sphere" and "orthogonal":

    - central: `g = c/k sum_j (f(x + mu u_j) - f(x - mu u_j)) / (2 mu) u_j`, 2 k queries
      (Nesterov & Spokoiny 2017, eq. (30), item 2);
    - forward: `g = c/k sum_j (f(x + mu u_j) - f(x)) / mu u_j`, k + 1 queries (ibid., item 1);
    - residual: `g = c/k sum_j (f(x_t + mu u_j) - F_{t-1}) / mu u_j`, k queries, F the mean value of the step before
      (the residual feedback of Zhang et al. 2022, for k = 1). The first step gives no estimate;
    - relative: `g = c/k sum_j (f(x + mu u_j) - F_j) / mu u_j`, k queries, F_j the mean value of the other directions of
      its group (the leave-one-out baseline of Kool et al. 2019). A query more is a direction more, so where directions
      are many and noise is small, it needs little more than half the queries of central differences.

    For "gaussian" the smoothed function is `E f(x + mu u)` (ibid., eq. (21)); for "sphere" and "orthogonal" u in it is
    uniform in the unit ball (Flaxman et al. 2005, lemma 2.1). With "rademacher", "sparse" and "lowrank" the mean is the
    gradient of f itself, exactly on quadratics and up to O(mu²) elsewhere.

    Args:
        radius: mu, positive, in units of the variable.
        n_directions: k ≥ 1.
        distribution: "gaussian" N(0, I); "sphere", uniform unit vectors; "rademacher", random signs (SPSA);
            "orthogonal", orthonormal unit vectors; "lowrank", signs of rank `rank` for each matrix; "sparse", 0 but in
            one element of each run of `sparsity`, there plus or minus its root (see Achlioptas 2003).
        difference: "central", "forward", "residual" or "relative".
        group: For "relative": directions that are compared with each other, at least 2; it must divide k. None for all.
            An oracle that gives each direction its own examples gives those of a group the same.
        rank: Rank of "lowrank" directions.
        n_blocks: Number of groups of blocks that a step perturbs, drawn at random; None for all. A group is a layer
            (blocks whose names agree up to the first number) or a single block. Layers below the perturbed ones need to
            run only once for all queries of a step.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> g = bz.gradient(lambda x: x @ x, np.ones(3), bz.RandomVector(1e-3, 3, "orthogonal"))
        >>> np.allclose(g, 2.0)
        True
    """

    radius: float
    n_directions: int = 1
    distribution: Literal["gaussian", "sphere", "rademacher", "orthogonal", "lowrank", "sparse"] = "gaussian"
    difference: Literal["central", "forward", "residual", "relative"] = "central"
    rank: int = 1
    n_blocks: int | None = None
    group: int | None = field(default=None, metadata={"since": "0.2"})
    sparsity: int = field(default=64, metadata={"since": "0.2"})

    def __post_init__(self) -> None:
        check_positive("RandomVector", radius=self.radius)
        check_at_least("RandomVector", 1, n_directions=self.n_directions, rank=self.rank)
        if self.n_blocks is not None:
            check_at_least("RandomVector", 1, n_blocks=self.n_blocks)
        choices = ("gaussian", "sphere", "rademacher", "orthogonal", "lowrank", "sparse")
        check_choice("RandomVector", choices, distribution=self.distribution)
        check_choice("RandomVector", ("central", "forward", "residual", "relative"), difference=self.difference)
        self._check_group()
        check_at_least("RandomVector", 1, sparsity=self.sparsity)

    def _check_group(self) -> None:
        if self.difference == "relative":
            check_at_least("RandomVector", 2, n_directions=self.n_directions)
        if self.group is None:
            return
        if self.difference != "relative":
            raise ValueError(f"`RandomVector(group=...)` is for difference='relative', not {self.difference!r}.")
        check_at_least("RandomVector", 2, group=self.group)
        if self.n_directions % self.group:
            raise ValueError(
                f"`RandomVector(group={self.group})` must divide `n_directions`, which is {self.n_directions}."
            )

    @property
    def n_groups(self) -> int:
        """Groups of directions whose values are compared with each other; without "relative" each is one by itself."""
        if self.difference != "relative":
            return self.n_directions
        return self.n_directions // (self.group or self.n_directions)

    @property
    @override
    def warmup(self) -> int:  # type: ignore[override]
        """1 for residual feedback, which compares with the step before; else 0."""
        return int(self.difference == "residual")

    @override
    def rule(self) -> Rule:
        """Adam with moves of 0.05."""
        return Adam(0.05)

    @override
    def start(self, variable: Variable) -> RandomVectorState:
        return RandomVectorState(np.nan)

    @override
    def sample(self, state: RandomVectorState, variable: Variable, key: Key) -> Queries:
        if self.distribution == "sparse" and variable.size < self.sparsity:
            raise ValueError(
                f"`RandomVector(distribution='sparse')` moves one of {self.sparsity} elements, but x has only "
                f"{variable.size}: most steps would do nothing. Give a smaller `sparsity`."
            )
        # The two points of a pair are neighbours, so the end of the budget splits at most one pair
        index, scale = plan(self.n_directions, self.radius, self.difference)
        group = self.n_directions // self.n_groups
        return Queries(self.directions(variable.blocks, key), index, scale, variable.origin, group=group)

    def directions(self, blocks: tuple[Block, ...], key: Key) -> Directions:
        """The k directions of a step."""
        drawn = self._drawn(blocks, key)
        return drawn if self.n_blocks is None else OnBlocks(drawn, self.n_blocks, key)

    def _drawn(self, blocks: tuple[Block, ...], key: Key) -> Directions:
        match self.distribution:
            case "gaussian":
                return Gaussian(blocks, self.n_directions, key)
            case "sphere":
                return Sphere(blocks, self.n_directions, key)
            case "rademacher":
                return Rademacher(blocks, self.n_directions, key)
            case "orthogonal":
                return Orthogonal(blocks, self.n_directions, key)
            case "lowrank":
                return LowRank(blocks, self.n_directions, key, self.rank)
            case "sparse":
                return Sparse(blocks, self.n_directions, key, self.sparsity)

    @override
    def estimate(
        self, state: RandomVectorState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[RandomVectorState, Step]:
        # The mean is over the directions without a failed query
        assert isinstance(feedback, Values)
        f = feedback.values
        difference = differences(f, self.radius, self.difference, state.previous, queries.group)
        if self.distribution in ("sphere", "orthogonal"):
            difference *= variable.size  # Flaxman et al. 2005, lemma 2.1
        w = mean_weights(difference, self.n_directions)
        if self.difference == "residual":
            usable = f[np.isfinite(f)]
            state = RandomVectorState(float(usable.mean()) if usable.size else state.previous)
        return state, Step(queries.directions, w)


@lru_cache(maxsize=64)
def plan(k: int, radius: float, kind: str) -> tuple[Ints, Floats]:
    """Which direction each query follows and how far, for differences along k directions."""
    radius = float(radius)
    if kind == "central":
        index, scale = np.repeat(np.arange(k), 2), np.tile((radius, -radius), k)
    elif kind == "forward":
        index, scale = np.concatenate(([0], np.arange(k))), np.full(k + 1, radius)
        scale[0] = 0.0
    else:
        index, scale = np.arange(k), np.full(k, radius)
    index.flags.writeable = scale.flags.writeable = False
    return index, scale


def differences(f: Floats, radius: float, kind: str, previous: float = np.nan, group: int = 1) -> Floats:
    """The difference quotients along each direction, from answers in the order that `sample` asks them.

    Args:
        f: Values, NaN where a query failed; may end early.
        radius: The step of the difference.
        kind: "central", "forward", "residual" or "relative".
        previous: The value that residual feedback compares with.
        group: Directions that "relative" compares with each other.
    """
    if kind == "relative":
        return _less_others(f, group) / radius
    if kind == "central":
        pairs = len(f) // 2
        up, down, gap = f[0 : 2 * pairs : 2], f[1 : 2 * pairs : 2], 2.0 * radius
    elif kind == "forward":
        up, down, gap = f[1:], f[:1], radius
    else:
        up, down, gap = f, np.array([previous]), radius
    quotients: Floats = (up - down) / gap
    return quotients


def _less_others(f: Floats, group: int) -> Floats:
    """Each value less the mean of the others of its group; NaN where there is no other. Failed ones do not count."""
    padded = np.full(-(-len(f) // group) * group, np.nan)
    padded[: len(f)] = np.where(np.isfinite(f), f, np.nan)
    values = padded.reshape(-1, group)
    count = np.count_nonzero(np.isfinite(values), axis=1, keepdims=True)
    mean = np.nansum(values, axis=1, keepdims=True) / np.maximum(count, 1)
    out: Floats = np.where(count > 1, (values - mean) * (count / np.maximum(count - 1, 1)), np.nan)
    return out.reshape(-1)[: len(f)]


def mean_weights(difference: Floats, k: int) -> Floats:
    """Weights, shape (k,), that average over the directions whose quotient is finite; all 0 if there is none."""
    usable = np.isfinite(difference)
    count = np.count_nonzero(usable)
    if count == k:
        return difference / k
    w = np.zeros(k)
    if count:
        w[: len(difference)] = np.where(usable, difference, 0.0) / count
    return w
