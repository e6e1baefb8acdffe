"""Policies against the formulas, and torch's own forward pass."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.rl import LinearPolicy, MLPPolicy, Policy, Statistics, TorchPolicy
from tests.oracles.rl.environments import Line, Spaces

RNG = np.random.default_rng(3)
SEEN = Statistics.of(RNG.normal([1.0, -2.0, 30.0], [0.5, 2.0, 0.0], (50, 3)))
SEES = RNG.normal(1.0, 1.0, (5, 3))


def parts(policy: Policy, x: Floats) -> Any:
    """x in the structure of x0, by which a search would give it."""
    return bz.Vector(policy.x0).treedef.unflatten(x)


def normalised(o: Floats) -> Floats:
    std = np.sqrt(SEEN.squares / (SEEN.n - 1))
    return np.asarray((o - SEEN.mean) * np.array([1 / std[0], 1 / std[1], 0.0]))


def check(policy: Policy, expected: Any, x: Floats) -> None:
    """With and without statistics."""
    for seen, see in ((None, lambda o: o), (Statistics.none(3), lambda o: o), (SEEN, normalised)):
        act = policy.acting(x, seen)
        kept = [act(o) for o in SEES]  # each in memory of its own
        np.testing.assert_allclose(kept, [expected(see(o)) for o in SEES], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias: bool) -> None:
    policy = LinearPolicy(3, 2, bias=bias)
    x = RNG.normal(size=policy.size)
    tree = parts(policy, x)
    w, b = (tree["W"], tree["b"]) if bias else (tree, 0.0)
    assert w.shape == (2, 3) and policy.size == 6 + 2 * bias
    check(policy, lambda o: w @ o + b, x)


@pytest.mark.parametrize("hidden", [(), (4,), (5, 4)])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_mlp(hidden: tuple[int, ...], activation: str) -> None:
    policy = MLPPolicy(3, 2, hidden, activation, seed=1)
    x = RNG.normal(size=policy.size)
    tree = parts(policy, x)
    f = np.tanh if activation == "tanh" else lambda h: np.maximum(h, 0.0)

    def expected(h: Floats) -> Floats:
        for i in range(1, len(hidden) + 1):
            h = f(tree[f"W{i}"] @ h + tree[f"b{i}"])
        return np.asarray(tree[f"W{len(hidden) + 1}"] @ h + tree[f"b{len(hidden) + 1}"])

    check(policy, expected, x)


def test_mlp_starts_by_its_seed() -> None:
    one, same, other = (MLPPolicy(3, 2, (4,), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.x0["W1"], same.x0["W1"]) and not np.array_equal(one.x0["W1"], other.x0["W1"])
    assert not one.x0["b1"].any() and np.abs(one.x0["W2"]).max() < 0.1


def of_torch(module: nn.Module, x: Floats) -> Any:
    """What torch makes of an observation, by the documented names of x0."""
    module = copy.deepcopy(module).double().eval()
    tree = parts(TorchPolicy(module, 3, 2), x)
    module.load_state_dict({k: torch.tensor(v) for k, v in tree.items()}, strict=False)
    return lambda o: module(torch.tensor(o)[None])[0].detach().numpy()


class Own(nn.Module):
    """A module that nobody knows, with a buffer."""

    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.inside = nn.Linear(3, 2)
        self.register_buffer("shift", torch.tensor([1.0, 1.0]))

    def forward(self, o: Any) -> Any:
        return torch.sin(self.inside(o)) * self.gain + self.shift


class Twice(nn.Linear):
    """A Linear by name only."""

    def forward(self, o: Any) -> Any:
        return 2 * super().forward(o)


def tied() -> nn.Module:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Linear(3, 2))


def hooked() -> nn.Module:
    layer = nn.Linear(3, 2)
    layer.register_forward_hook(lambda _m, _i, out: out + 1)
    return nn.Sequential(layer)


def shared() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("make", "converted"),
    [
        (lambda: nn.Linear(3, 2), True),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False)), True),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)), True),
        (lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Identity(), nn.Linear(4, 2)), True),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh()), True),
        (lambda: nn.Sequential(nn.Tanh(), nn.Linear(3, 2)), False),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Tanh()), False),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), False),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9), nn.Linear(4, 2)), False),
        (lambda: nn.Sequential(Twice(3, 2)), False),
        (Own, False),
        (tied, False),
        (shared, False),
        (hooked, False),
        (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)), False),
    ],
)
def test_torch(make: Any, converted: bool) -> None:
    torch.manual_seed(0)
    module = make()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    policy = TorchPolicy(module, 3, 2)
    assert policy.converted == converted
    x = np.concatenate([np.asarray(a).ravel() for a in policy.x0.values()]) + RNG.normal(0, 0.1, policy.size)
    expected = of_torch(module, x)
    x.flags.writeable = False  # as a search gives it
    for seen, see in ((None, lambda o: o), (SEEN, normalised)):
        act = policy.acting(x, seen)
        for o in SEES:
            np.testing.assert_allclose(act(o), expected(see(o)), rtol=1e-6, atol=2e-6)
    after = module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before) and module.training


def test_torch_starts_at_the_modules_parameters() -> None:
    last = nn.Linear(4, 2)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), last)
    policy = TorchPolicy(module)
    assert (policy.n_inputs, policy.n_outputs, policy.size) == (3, 2, 26)
    assert list(policy.x0) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_array_equal(policy.x0["2.weight"], last.weight.detach().numpy().astype(float))
    policy.x0["2.weight"][:] = 9.0
    assert float(last.weight.detach().max()) < 1.0


def test_a_policy_is_made_to_fit() -> None:
    assert LinearPolicy.for_env(Line).size == 3
    assert MLPPolicy.for_env(Line, hidden=(7,), activation="relu").size == 3 * 7 + 7 + 7 + 1
    assert TorchPolicy.for_env(Line, module=lambda o, a: nn.Linear(o, a)).size == 4
    assert TorchPolicy.for_env(Line, module=nn.Linear(3, 1), normalize=True).normalize


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LinearPolicy(0, 1), r"LinearPolicy\(n_inputs=...\)` must be a whole number of at least 1, got 0"),
        (lambda: MLPPolicy(1, 1, (3, 0)), r"MLPPolicy\(hidden=...\)` must be .* at least 1, got 0"),
        (lambda: MLPPolicy(1, 1, activation="gelu"), r"activation=...\)` must be one of 'tanh', 'relu'; got 'gelu'"),
        (lambda: TorchPolicy(Own()), r"n_inputs=..., n_outputs=...\)` must be given"),
        (lambda: TorchPolicy(nn.Tanh(), 2, 2), "has no parameters, so there is nothing to search"),
        (lambda: TorchPolicy.for_env(Line, module=nn.Linear(4, 1)), r"cannot take observations of shape \(1, 3\)"),
        (
            lambda: TorchPolicy.for_env(Line, module=nn.Linear(3, 2)),
            r"maps an observation to shape \(1, 2\), but \(1, 1\)",
        ),
        (lambda: TorchPolicy(Own(), 3, 1), r"maps an observation to shape \(1, 2\), but \(1, 1\) is needed"),
        (
            lambda: LinearPolicy.for_env(lambda: Spaces(Line().observation_space, None)),
            "supports the action space `None`",
        ),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
