from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz

A = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]], dtype=torch.float64)


def quadratic(x: torch.Tensor) -> torch.Tensor:
    """Of one tensor, or of n stacked."""
    return 0.5 * torch.einsum("...i,ij,...j->...", x, A.to(x.dtype), x)


def leaf(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([0.3, -1.0, 0.7], dtype=dtype, requires_grad=True)


def composed(f: Any, x: torch.Tensor) -> torch.Tensor:
    """White box before and after the black box."""
    return torch.tanh(f(torch.sin(x) * 2.0 + 1.0)) * 3.0 + x.sum()


@pytest.mark.parametrize("estimator", [bz.Coordinatewise(1e-3), bz.RandomVector(1e-3, 3, "orthogonal")], ids=repr)
@pytest.mark.parametrize("vectorized", [False, True])
def test_gradient_of_a_composed_graph_is_the_exact_one(estimator: bz.Estimator, vectorized: bool) -> None:
    """Both estimators are exact on a quadratic."""
    f = bz.as_autograd(lambda x: quadratic(x.detach()), estimator, vectorized=vectorized)
    x, exact = leaf(), leaf()
    value, expected = composed(f, x), composed(quadratic, exact)
    value.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and exact.grad is not None
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(x.grad, exact.grad, rtol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_device_and_shape_are_kept(dtype: torch.dtype) -> None:
    seen: list[torch.Tensor] = []

    def f(x: torch.Tensor) -> float:
        seen.append(x)
        return float((x.double() ** 2).sum())

    x = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    value = bz.as_autograd(f, bz.Coordinatewise(0.25))(x)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.dtype == dtype and value.shape == () and value.device == x.device
    assert x.grad is not None and x.grad.dtype == dtype and x.grad.shape == x.shape
    assert {(s.dtype, s.shape, s.device, s.requires_grad) for s in seen} == {(dtype, x.shape, x.device, False)}
    np.testing.assert_allclose(x.grad.double(), 2.0, rtol=1e-2)


def test_of_a_number() -> None:
    x = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bz.as_autograd(lambda x: float(x) ** 2, bz.Coordinatewise(0.1))(x).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.item() == pytest.approx(6.0)


def test_vectorized_takes_all_points_in_one_call() -> None:
    shapes = []

    def f(points: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(points.shape))
        return (points**2).sum(dim=(1, 2))

    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    bz.as_autograd(f, bz.RandomVector(1e-3, 4), vectorized=True)(x).backward()  # type: ignore[no-untyped-call]
    assert shapes == [(1, 2, 3), (8, 2, 3)]


def gradients(f: Any, count: int) -> list[list[float]]:
    out = []
    for _ in range(count):
        x = leaf()
        f(x).backward()
        assert x.grad is not None
        out.append(x.grad.tolist())
    return out


def test_every_backward_pass_draws_new_directions_and_every_run_the_same() -> None:
    def make(seed: int) -> Any:
        return bz.as_autograd(quadratic, bz.RandomVector(1e-3), seed=seed)

    first = gradients(make(0), 3)
    assert len({tuple(g) for g in first}) == 3
    assert gradients(make(0), 3) == first
    assert gradients(make(1), 3) != first


def test_no_gradient_asks_only_once() -> None:
    calls = []

    def f(x: torch.Tensor) -> float:
        calls.append(x)
        return 1.0

    with torch.no_grad():
        bz.as_autograd(f, bz.Coordinatewise(0.1))(leaf())
    assert len(calls) == 1


def test_failed_queries_leave_the_others() -> None:
    """The first axis fails on its plus side: its part is 0."""

    def f(x: torch.Tensor) -> float:
        return float("nan") if x[0] > 0.35 else float(quadratic(x))

    (g,) = gradients(bz.as_autograd(f, bz.Coordinatewise(0.1)), 1)
    exact = (A @ leaf().detach()).tolist()
    assert g[0] == 0.0 and g[1:] == pytest.approx(exact[1:])


def test_trains_a_white_box_through_a_black_box() -> None:
    torch.manual_seed(0)
    layer, target = torch.nn.Linear(3, 3, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    f = bz.as_autograd(lambda y: float(((y - target) ** 2).sum()), bz.RandomVector(1e-3, 2))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        f(layer(torch.ones(3, dtype=torch.float64))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert ((layer(torch.ones(3, dtype=torch.float64)) - target) ** 2).sum() < 1e-6


def test_a_function_that_writes_to_its_argument_does_no_harm() -> None:
    def f(x: torch.Tensor) -> float:
        value = float((x**2).sum())
        x.zero_()
        return value

    x = leaf()
    before = x.tolist()
    bz.as_autograd(f, bz.Coordinatewise(1e-3))(x).backward()  # type: ignore[no-untyped-call]
    assert x.tolist() == before
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, 2 * np.array(before), rtol=1e-6)


def test_second_derivatives_are_refused() -> None:
    """An estimate has none; without a word they would be taken as 0."""
    x = leaf()
    (g,) = torch.autograd.grad(bz.as_autograd(quadratic, bz.Coordinatewise(0.1))(x**2), x, create_graph=True)
    with pytest.raises(RuntimeError, match="`as_autograd` has no second derivatives"):
        g.sum().backward()  # type: ignore[no-untyped-call]


def test_first_derivatives_may_keep_their_graph() -> None:
    x = leaf()
    (g,) = torch.autograd.grad(bz.as_autograd(quadratic, bz.Coordinatewise(0.1))(x), x, create_graph=True)
    np.testing.assert_allclose(g.detach(), A @ x.detach(), rtol=1e-9)


class OnlyRanks(bz.Estimator):
    accepts = (bz.Ranking,)
    start = sample = estimate = None  # type: ignore[assignment]


def test_estimators_that_take_no_values_are_refused() -> None:
    with pytest.raises(bz.FeedbackError, match="Cannot use `OnlyRanks` with `as_autograd`: it takes no values"):
        bz.as_autograd(quadratic, OnlyRanks())


def test_residual_feedback_is_refused() -> None:
    with pytest.raises(ValueError, match="`as_autograd` needs an estimate from one step; residual feedback needs two"):
        bz.as_autograd(quadratic, bz.RandomVector(0.1, difference="residual"))


@pytest.mark.parametrize(
    ("fun", "vectorized", "words"),
    [
        (lambda x: None, False, "`fun` returned None; it must return one number."),
        (lambda x: x, False, "`fun` returned an array of shape (3,); it must return one number."),
        (lambda x: "low", False, "`fun` returned 'low' (str); it must return one number."),
        (
            lambda x: x,
            True,
            "`fun` returned shape (1, 3); with `vectorized=True` one number a point is",
        ),
    ],
)
def test_functions_that_give_no_number(fun: Any, vectorized: bool, words: str) -> None:
    with pytest.raises(TypeError) as error:
        bz.as_autograd(fun, bz.Coordinatewise(0.1), vectorized=vectorized)(leaf())
    assert words in str(error.value)


def test_torch_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys, blackbox_zo, blackbox_zo.testing; assert not {'torch', 'pytest', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
