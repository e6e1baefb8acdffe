"""`check_rule`."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.directions import Dense, Gaussian
from blackbox_zo.randomness import Key
from blackbox_zo.rules import Rule
from blackbox_zo.steps import Step
from blackbox_zo.testing._laws import bits, check_configuration, check_state, close, copied, require, same
from blackbox_zo.variables import Vector

__all__ = ["check_rule"]


def check_rule(rule: Rule, *, of_vector: bool = True, d: int = 5) -> None:
    """Check the laws of `Rule`.

    - the configuration is a frozen dataclass; the state is made of numbers, arrays and tuples, and can be saved;
    - `start` and `update` are pure: the same arguments give the same bits, and no argument is modified;
    - the first step is finite and points along the gradient (it is subtracted from x), and is 0 for a gradient of 0;
    - the gradient's `shrink`, from `WeightDecay` before it in a chain, is passed on;
    - `of_vector`: the step depends on the vector `w U` alone, not on how it is split over directions;
    - after saving and loading its state during a run, the rule gives the same bits.

    Args:
        rule: The rule.
        of_vector: False for a rule that uses the weight of each direction, such as `ClipScalar`.
        d: Dimension of the test problem.

    Raises:
        AssertionError: A law does not hold.

    Example:
        >>> import blackbox_zo as bz
        >>> from blackbox_zo.testing import check_rule
        >>> check_rule(bz.chain(bz.WeightDecay(0.01), bz.Adam(0.1)))
    """
    require(isinstance(rule, Rule), f"`{rule!r:.120}` is not a `Rule`; inherit from that abstract class.")
    check_configuration(rule)
    name = f"`{rule!r:.120}`"
    variable = Vector(np.ones(d))
    start = rule.start(variable)
    require(same(rule.start(variable), start), f"`start` of {name} gives another state the second time.")
    check_state(start, name)
    gradients = [_gradient(variable, step) for step in range(6)]
    _check_first(rule, start, _gradient(variable, 0), name)

    states, moves = [start], []
    for gradient in gradients:
        before = bits(states[-1]), bits(gradient.w)
        state, move = rule.update(states[-1], gradient)
        moves.append(_vector(move, d, name))
        require(
            before == (bits(states[-1]), bits(gradient.w)),
            f"`update` of {name} writes to the state or the gradient; return new arrays instead.",
        )
        twice, again = rule.update(states[-1], gradient)
        require(
            same(again.dense(), moves[-1]) and same(twice, state),
            f"`update` of {name} gives another step or state the second time; it must depend on its arguments alone.",
        )
        check_state(state, name)
        states.append(state)
    _check_saved(rule, states, gradients, moves, name)
    if of_vector:
        state = start
        for gradient, expected in zip(gradients, moves, strict=True):
            whole = Step(Dense(variable.blocks, gradient.dense()[None, :]), np.ones(1))
            state, move = rule.update(state, whole)
            require(
                close(move.dense(), expected, float(np.abs(expected).max()) + 1.0),
                f"{name} makes another step from the same vector when it is split over other directions. Use "
                "`gradient.dense()`; where weights matter by design, pass `of_vector=False`.",
            )


def _gradient(variable: Vector, step: int, shrink: float = 0.0) -> Step:
    return Step(Gaussian(variable.blocks, 3, Key(11, step)), np.array([0.7, -0.4, 1.1]), shrink)


def _vector(move: Step, d: int, name: str) -> Floats:
    require(bool(np.isfinite(move.w).all()), f"`update` of {name} gives the weights {move.w}; they must be finite.")
    out = move.dense()
    require(
        out.shape == (d,) and bool(np.isfinite(out).all()) and 0.0 <= move.shrink < 1.0,
        f"`update` of {name} gives the step {out} with shrink {move.shrink}; it must be ({d},), finite, and shrink in "
        "[0, 1).",
    )
    return out


def _check_first(rule: Rule, start: Any, gradient: Step, name: str) -> None:
    d, g = gradient.directions.size, gradient.dense()
    along = float(_vector(rule.update(start, gradient)[1], d, name) @ g)
    require(
        along > 0.0,
        f"The first step of {name} points away from the gradient: their inner product is {along:.3g}. A rule's "
        "step is subtracted from x, so it must keep the sign.",
    )
    nothing = Step(gradient.directions, np.zeros(gradient.directions.k))
    still = _vector(rule.update(start, nothing)[1], d, name)
    require(not still.any(), f"{name} moves by {still} at its first step although the gradient is 0.")
    for w in (gradient.w, nothing.w):
        pulled = rule.update(start, Step(gradient.directions, w, 0.25))[1]
        require(
            pulled.shrink > 0.0,
            f"{name} drops the gradient's weight decay: `shrink` 0.25 becomes {pulled.shrink}. Return "
            "`Step(..., shrink=gradient.shrink * rate)`, or `WeightDecay` before it in a chain has no effect.",
        )


def _check_saved(rule: Rule, states: list[Any], gradients: list[Step], moves: list[Floats], name: str) -> None:
    state = copied(states[3])
    for gradient, move in zip(gradients[3:], moves[3:], strict=True):
        state, again = rule.update(state, gradient)
        require(
            same(again.dense(), move),
            f"{name} makes other steps after its state was saved and loaded; keep all they depend on in the state.",
        )
