from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.directions import OnBlocks
from blackbox_zo.rules import Rule, Schedule
from blackbox_zo.testing import check_rule

from ..helpers import bits, laws

D = 5
GRADIENTS = np.random.default_rng(0).standard_normal((30, D)) * 10.0 ** np.arange(-2, 3)


def trajectory(rule: Rule, x0: Floats, gradients: Floats) -> Floats:
    """Where x stands after each gradient, shape (steps, d)."""
    variable = bz.Vector(x0)
    state = rule.start(variable)
    out = []
    for g in gradients:
        state, step = rule.update(state, bz.Step(bz.Dense(variable.blocks, g[None, :]), np.ones(1)))
        variable.add_(bz.Step(step.directions, -step.w, step.shrink))
        out.append(variable.value)
    return np.array(out)


def torch_trajectory(
    make: Callable[..., torch.optim.Optimizer], x0: Floats, gradients: Floats, **options: Any
) -> Floats:
    x = torch.nn.Parameter(torch.tensor(x0))
    optimizer = make([x], **options)
    out = []
    for g in gradients:
        x.grad = torch.tensor(g)
        optimizer.step()
        out.append(x.detach().numpy().copy())
    return np.array(out)


X0: Floats = np.array([-1.0, -0.3, 0.4, 1.1, 1.8])


@pytest.mark.parametrize(
    ("rule", "make", "options"),
    [
        (bz.SGD(0.1), torch.optim.SGD, {"lr": 0.1}),
        (bz.Momentum(0.1), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (bz.Momentum(0.1, 0.5, nesterov=True), torch.optim.SGD, {"lr": 0.1, "momentum": 0.5, "nesterov": True}),
        (bz.Adam(0.1), torch.optim.Adam, {"lr": 0.1}),
        (bz.Adam(0.01, 0.5, 0.9, 1e-3), torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
        (bz.chain(bz.WeightDecay(0.3), bz.Adam(0.1)), torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}),
        (bz.chain(bz.WeightDecay(0.3), bz.SGD(0.1)), torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.3}),
    ],
    ids=lambda v: repr(v) if isinstance(v, Rule) else "",
)
def test_same_trajectory_as_torch(rule: Rule, make: Any, options: dict[str, Any]) -> None:
    found, expected = trajectory(rule, X0, GRADIENTS), torch_trajectory(make, X0, GRADIENTS, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_sign_sgd_moves_every_coordinate_by_the_rate() -> None:
    expected = X0 - 0.1 * np.cumsum(np.sign(GRADIENTS), axis=0)
    np.testing.assert_allclose(trajectory(bz.SignSGD(0.1), X0, GRADIENTS), expected, atol=1e-12)


def clip_up(x: Floats, gradients: Floats, alpha: float, v_max: float, m: float) -> Floats:
    """Toklu, Liskowski & Srivastava 2020, algorithm 1 (for descent)."""
    v = np.zeros_like(x)
    out = []
    for g in gradients:
        v = m * v + alpha * (g / np.linalg.norm(g))
        if np.linalg.norm(v) > v_max:
            v = v_max * (v / np.linalg.norm(v))
        x = x - v
        out.append(x)
    return np.array(out)


@pytest.mark.parametrize(("speed", "limit"), [(None, 0.2), (0.12, 0.12), (10.0, 10.0)])
def test_clip_up_is_algorithm_1(speed: float | None, limit: float) -> None:
    found = trajectory(bz.ClipUp(0.1, speed), X0, GRADIENTS)
    np.testing.assert_allclose(found, clip_up(X0, GRADIENTS, 0.1, limit, 0.9), rtol=1e-12)


def test_clip_up_keeps_below_its_speed() -> None:
    moves = np.diff(trajectory(bz.ClipUp(0.1), X0, GRADIENTS), axis=0)
    assert np.linalg.norm(moves, axis=1).max() <= 0.2 * (1 + 1e-12)


@laws
@given(st.integers(-300, 300))
def test_clip_up_does_not_depend_on_scale(exponent: int) -> None:
    """Without overflow or underflow of the norm."""
    g = np.array([[3.0, -4.0, 0.0]])
    moved = trajectory(bz.ClipUp(0.1), np.zeros(3), g * 10.0**exponent)
    np.testing.assert_allclose(moved, [[-0.06, 0.08, 0.0]], rtol=1e-12)


@pytest.mark.parametrize("norm", [0.1, 5.0, 1e9])
def test_clip_norm_shortens_and_keeps_the_direction(norm: float) -> None:
    for g, x in zip(GRADIENTS, trajectory(bz.ClipNorm(norm), np.zeros(D), GRADIENTS[:1]), strict=False):
        np.testing.assert_allclose(-x, g * min(1.0, norm / float(np.linalg.norm(g))), rtol=1e-12)


def test_clip_scalar_clips_weights_not_the_vector() -> None:
    blocks = bz.Vector(np.zeros(2)).blocks
    gradient = bz.Step(bz.Dense(blocks, np.array([[3.0, 0.0], [0.0, 1.0]])), np.array([7.0, -0.5]), 0.1)
    _, step = bz.ClipScalar(2.0).update((), gradient)
    assert step.w.tolist() == [2.0, -0.5] and step.shrink == 0.1


def test_std_norm_after_one_sided_differences_is_fzoo() -> None:
    """`x <- x - rate / (k std(f_1 … f_k)) sum_j (f_j - f_0) u_j`, with no radius in it."""
    x0, rate, k = np.array([0.5, -1.0, 2.0]), 0.1, 4
    for radius in (0.3, 1e-3):
        rule = bz.chain(bz.StdNorm(), bz.SGD(rate))
        search = bz.Search(x0, bz.RandomVector(radius, k, "rademacher", "forward"), rule, seed=3)
        proposal = search.ask()
        f = np.exp(proposal.points @ np.array([0.3, 0.2, -0.1]))
        search.tell(proposal, bz.Values(f))
        u = proposal.queries.directions.rows
        expected = x0 - rate / (k * np.std(f[1:])) * (f[1:] - f[0]) @ u
        np.testing.assert_allclose(search.x, expected, rtol=1e-9)


@pytest.mark.parametrize("w", [[3.0], [2.0, 2.0, 2.0], [0.0, 0.0]], ids=str)
def test_std_norm_without_any_spread_leaves_the_gradient(w: list[float]) -> None:
    directions = bz.Gaussian(bz.Vector(X0).blocks, len(w), bz.Key(0, 0))
    gradient = bz.Step(directions, np.array(w), 0.2)
    assert bz.StdNorm().update((), gradient) == ((), gradient)


def test_std_norm_does_not_depend_on_scale_and_keeps_the_pull() -> None:
    directions = bz.Gaussian(bz.Vector(X0).blocks, 3, bz.Key(0, 0))
    w = np.array([1.0, -2.0, 4.0])
    one, other = (bz.StdNorm().update((), bz.Step(directions, w * scale, 0.2))[1] for scale in (1.0, 1e-9))
    np.testing.assert_allclose(one.w, other.w, rtol=1e-12)
    assert np.std(one.w) == pytest.approx(1 / 3) and one.shrink == 0.2


# --------------------------------------------------------------------------------------- momentum without a velocity


def drawn_trajectory(rule: Rule, steps: int, directions: Callable[[int], bz.Directions] | None = None) -> Floats:
    """Where x stands after each of some gradients along drawn directions, shape (steps, d)."""
    variable = bz.Vector(X0)
    make = directions or (lambda t: bz.LowRank(variable.blocks, 2, bz.Key(9, t)))
    state, out = rule.start(variable), []
    for t in range(steps):
        state, step = rule.update(state, bz.Step(make(t), GRADIENTS[t, :2] + 1.0, 0.01))
        variable.add_(bz.Step(step.directions, -step.w, step.shrink))
        out.append(variable.value)
    return np.array(out)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("memory", [20, 50])
def test_momentum_from_memory_is_momentum(nesterov: bool, memory: int) -> None:
    found = drawn_trajectory(bz.Momentum(0.1, 0.8, nesterov, memory), 20)
    np.testing.assert_allclose(found, drawn_trajectory(bz.Momentum(0.1, 0.8, nesterov), 20), rtol=1e-10)


def test_momentum_of_one_estimate_is_sgd() -> None:
    found = drawn_trajectory(bz.Momentum(0.1, 0.8, memory=1), 9)
    np.testing.assert_allclose(found, drawn_trajectory(bz.SGD(0.1), 9), rtol=1e-12)


def test_what_a_short_memory_cuts_off_shrinks_with_its_length() -> None:
    exact = drawn_trajectory(bz.Momentum(0.1, 0.5), 20)
    away = [np.abs(drawn_trajectory(bz.Momentum(0.1, 0.5, memory=n), 20) - exact).max() for n in (2, 4, 8)]
    size = np.abs(np.diff(exact, axis=0)).max()
    assert [a < 20 * size * 0.5**n for a, n in zip(away, (2, 4, 8), strict=True)] == [True] * 3
    assert away[0] > 2 * away[1] > 4 * away[2] > 0


def test_momentum_from_memory_uses_the_last_gradients_by_hand() -> None:
    variable, rule = bz.Vector(np.zeros(D)), bz.Momentum(0.1, 0.5, memory=2)
    state = rule.start(variable)
    gradients = [bz.Step(bz.Rademacher(variable.blocks, 2, bz.Key(4, t)), np.array([1.0, t])) for t in range(3)]
    for gradient in gradients:
        state, step = rule.update(state, gradient)
    np.testing.assert_allclose(step.dense(), 0.1 * (gradients[2].dense() + 0.5 * gradients[1].dense()), rtol=1e-12)
    assert state.m.size == 0 and state.steps.tolist() == [1, 2] and state.weights.tolist() == [[1, 1], [1, 2]]


@pytest.mark.parametrize("make", [bz.Gaussian, bz.Sphere, bz.Orthogonal, bz.Rademacher, bz.LowRank])
def test_momentum_from_memory_draws_any_directions_again(make: Any) -> None:
    def some(t: int) -> bz.Directions:
        return OnBlocks(make((bz.Block("x", (D,)),), 2, bz.Key(9, t)), 1, bz.Key(9, t))

    found = drawn_trajectory(bz.Momentum(0.1, memory=6), 6, some)
    np.testing.assert_allclose(found, drawn_trajectory(bz.Momentum(0.1), 6, some), rtol=1e-10)


def test_momentum_from_memory_needs_drawn_directions() -> None:
    variable, rule = bz.Vector(X0), bz.Momentum(0.1, memory=3)
    with pytest.raises(TypeError) as error:
        rule.update(rule.start(variable), bz.Step(bz.Dense(variable.blocks, np.ones((1, D))), np.ones(1)))
    assert str(error.value) == "`Momentum(memory=...)` needs directions drawn from a seed, not `Dense`."


def test_sgd_keeps_the_weights_over_directions() -> None:
    """So that nothing of the size of x is stored."""
    gradient = bz.Step(bz.Gaussian(bz.Vector(np.zeros(9)).blocks, 2, bz.Key(0, 0)), np.array([1.0, -2.0]))
    _, step = bz.SGD(0.5).update(bz.SGD(0.5).start(bz.Vector(np.zeros(9))), gradient)
    assert step.directions is gradient.directions and step.w.tolist() == [0.5, -1.0]


def test_weight_decay_alone_shrinks() -> None:
    rule = bz.chain(bz.WeightDecay(0.25), bz.SGD(0.5))
    moved = trajectory(rule, X0, np.zeros((3, D)))
    np.testing.assert_allclose(moved, X0 * 0.875 ** np.arange(1, 4)[:, None], rtol=1e-12)


def test_decays_add_up() -> None:
    twice, once = (
        bz.chain(bz.WeightDecay(0.1), bz.WeightDecay(0.2), bz.SGD(0.5)),
        bz.chain(bz.WeightDecay(0.3), bz.SGD(0.5)),
    )
    np.testing.assert_allclose(trajectory(twice, X0, GRADIENTS), trajectory(once, X0, GRADIENTS), rtol=1e-9)


def test_chain_applies_in_order() -> None:
    g = np.array([[3.0, 4.0]])
    clipped_first = trajectory(bz.chain(bz.ClipNorm(1.0), bz.SGD(10.0)), np.zeros(2), g)
    clipped_last = trajectory(bz.chain(bz.SGD(10.0), bz.ClipNorm(1.0)), np.zeros(2), g)
    np.testing.assert_allclose(clipped_first, [[-6.0, -8.0]])
    np.testing.assert_allclose(clipped_last, [[-0.6, -0.8]])


def test_chain_of_one_is_that_rule() -> None:
    assert bz.chain(bz.SGD(0.1)) == bz.SGD(0.1)


# ------------------------------------------------------------------------------------------------------ schedules


def test_linear() -> None:
    assert [bz.Linear(1.0, 0.2, 4)(t) for t in (0, 1, 2, 4, 9)] == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2])


def test_cosine() -> None:
    rates = [bz.Cosine(1.0, 0.2, 4)(t) for t in (0, 1, 2, 3, 4, 9)]
    quarter = 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2
    assert rates == pytest.approx([1.0, quarter, 0.6, 1.2 - quarter, 0.2, 0.2])


def test_warmup_of_a_rate_and_of_a_schedule() -> None:
    assert [bz.Warmup(4, 0.8)(t) for t in (0, 1, 3, 4, 9)] == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8])
    assert [bz.Warmup(2, bz.Linear(1.0, 0.0, 4))(t) for t in range(5)] == pytest.approx([0.5, 0.75, 0.5, 0.25, 0.0])


def halving(step: int) -> float:
    return 0.1 * 0.5**step


@pytest.mark.parametrize("make", [bz.SGD, bz.Momentum, bz.Adam, bz.SignSGD, bz.ClipUp], ids=lambda m: m.__name__)
def test_rules_ask_the_schedule_with_the_number_of_moves(make: Callable[[float | Schedule], Rule]) -> None:
    """A schedule that gives one rate at step t is the same as that rate at step t."""
    variable = bz.Vector(X0)
    schedule, state = make(halving), make(0.1).start(variable)
    for t, g in enumerate(GRADIENTS[:4]):
        gradient = bz.Step(bz.Dense(variable.blocks, g[None, :]), np.ones(1), 0.1)
        (_, found), (state, expected) = schedule.update(state, gradient), make(halving(t)).update(state, gradient)
        assert bits(found.dense()) == bits(expected.dense()) and found.shrink == expected.shrink


# ----------------------------------------------------------------------------------------------------------- laws

RULES: list[tuple[Rule, bool]] = [  # and whether the move depends on the vector w U alone
    (bz.SGD(0.1), True),
    (bz.SGD(bz.Linear(0.1, 0.01, 3)), True),
    (bz.Momentum(0.1), True),
    (bz.Momentum(0.1, nesterov=True), True),
    (bz.Momentum(0.1, memory=5), False),
    (bz.chain(bz.WeightDecay(0.1), bz.Momentum(0.1, 0.5, True, memory=2)), False),
    (bz.Adam(0.1), True),
    (bz.SignSGD(0.1), True),
    (bz.ClipUp(0.1), True),
    (bz.ClipNorm(0.5), True),
    (bz.ClipScalar(0.5), False),
    (bz.StdNorm(), False),
    (bz.chain(bz.StdNorm(), bz.SGD(0.1)), False),
    (bz.WeightDecay(0.1), True),
    (bz.chain(bz.ClipNorm(1.0), bz.WeightDecay(0.1), bz.Adam(bz.Warmup(3, bz.Cosine(0.1, 0.01, 9)))), True),
]


@pytest.mark.parametrize(("rule", "of_vector"), RULES, ids=lambda v: repr(v) if isinstance(v, Rule) else "")
def test_rules_obey_the_laws(rule: Rule, of_vector: bool) -> None:
    check_rule(rule, of_vector=of_vector)


nan = float("nan")


def wrong(value: Any) -> Any:
    """Past the type checker."""
    return value


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bz.SGD(0), "`SGD(learning_rate=...)` must be a positive number, got 0."),
        (lambda: bz.SGD(nan), "`SGD(learning_rate=...)` must be a positive number, got nan."),
        (lambda: bz.SGD(wrong("fast")), "`SGD(learning_rate=...)` must be a positive number, got 'fast'."),
        (lambda: bz.SGD(True), "`SGD(learning_rate=...)` must be a positive number, got True."),
        (lambda: bz.Momentum(-1), "`Momentum(learning_rate=...)` must be a positive number, got -1."),
        (lambda: bz.Momentum(0.1, 1.0), "`Momentum(beta=...)` must be at least 0 and below 1, got 1.0."),
        (lambda: bz.Momentum(0.1, memory=0), "`Momentum(memory=...)` must be a whole number of at least 1, got 0."),
        (lambda: bz.Adam(float("inf")), "`Adam(learning_rate=...)` must be a positive number, got inf."),
        (lambda: bz.Adam(0.1, -0.1), "`Adam(beta1=...)` must be at least 0 and below 1, got -0.1."),
        (lambda: bz.Adam(0.1, beta2=1.5), "`Adam(beta2=...)` must be at least 0 and below 1, got 1.5."),
        (lambda: bz.Adam(0.1, epsilon=0.0), "`Adam(epsilon=...)` must be a positive number, got 0.0."),
        (lambda: bz.SignSGD(0.0), "`SignSGD(learning_rate=...)` must be a positive number, got 0.0."),
        (lambda: bz.ClipUp(0.0), "`ClipUp(learning_rate=...)` must be a positive number, got 0.0."),
        (lambda: bz.ClipUp(0.1, 0.0), "`ClipUp(max_speed=...)` must be a positive number, got 0.0."),
        (lambda: bz.ClipUp(0.1, momentum=1), "`ClipUp(momentum=...)` must be at least 0 and below 1, got 1."),
        (lambda: bz.ClipNorm(0), "`ClipNorm(max_norm=...)` must be a positive number, got 0."),
        (lambda: bz.ClipScalar(-2), "`ClipScalar(limit=...)` must be a positive number, got -2."),
        (lambda: bz.WeightDecay(1.0), "`WeightDecay(decay=...)` must be at least 0 and below 1, got 1.0."),
        (lambda: bz.Linear(0.0, 1.0, 3), "`Linear(start=...)` must be a positive number, got 0.0."),
        (lambda: bz.Linear(1.0, 0.1, 0), "`Linear(steps=...)` must be a whole number of at least 1, got 0."),
        (lambda: bz.Cosine(1.0, 0.1, wrong(2.5)), "`Cosine(steps=...)` must be a whole number of at least 1, got 2.5."),
        (lambda: bz.Cosine(nan, 0.1, 2), "`Cosine(start=...)` must be a positive number, got nan."),
        (lambda: bz.Warmup(0, 0.1), "`Warmup(steps=...)` must be a whole number of at least 1, got 0."),
        (lambda: bz.chain(), "`chain()` needs at least one rule, for example `chain(ClipNorm(1.0), SGD(0.1))`."),
    ],
)
def test_bad_arguments(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == words
