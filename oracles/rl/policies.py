"""Policies: map observations to actions; the search is over their parameters x."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self, TypeAlias

import numpy as np

from blackbox_zo._checks import check_at_least, check_choice
from blackbox_zo._typing import Floats, Tree, override
from blackbox_zo.randomness import Key
from oracles.rl._layers import ACTIVATIONS, Layer, Network
from oracles.rl._statistics import Statistics

__all__ = ["Act", "LinearPolicy", "MLPPolicy", "Policy", "TorchPolicy"]

Act: TypeAlias = Callable[[Floats], Floats]
"""Maps a flat observation, float64, to the outputs from which the action is made."""


class Policy(ABC):
    """A parametrised policy.

    Args:
        n_inputs: Size of a flat observation.
        n_outputs: Number of outputs: one per entry of a Box, one per choice of a Discrete.
        normalize: Whether to normalise observations to mean 0 and variance 1, by the statistics of all earlier steps.

    Attributes:
        x0: The starting point of a search.
        size: Number of parameters.
        layers: The shapes of its dense layers; empty if it is not a stack of dense layers.
    """

    x0: Tree
    size: int
    layers: tuple[Layer, ...] = ()

    def __init__(self, n_inputs: int, n_outputs: int, normalize: bool) -> None:
        name = type(self).__name__
        check_at_least(name, 1, n_inputs=n_inputs)
        check_at_least(name, 1, n_outputs=n_outputs)
        self.n_inputs, self.n_outputs, self.normalize = int(n_inputs), int(n_outputs), bool(normalize)

    @classmethod
    def for_env(cls, env: Any, **arguments: Any) -> Self:
        """Make a policy that fits an environment.

        Args:
            env: Its id, an `EnvSpec`, or a function that makes it.
            **arguments: Arguments of the policy.

        Raises:
            SpaceError: A policy cannot handle the spaces of the environment.
        """
        from oracles.rl._environment import sizes_of

        return cls(*sizes_of(env), **arguments)

    def described(self) -> dict[str, Any]:
        """A description that identifies the policy, as JSON data: the class name under "policy", and the arguments.

        A subclass with more arguments must add them, so that a journal of another policy is refused.
        """
        sizes = {"n_inputs": self.n_inputs, "n_outputs": self.n_outputs}
        return {"policy": type(self).__name__, **sizes, "normalize": self.normalize}

    @abstractmethod
    def acting(self, x: Floats, seen: Statistics | None = None) -> Act:
        """The policy with given parameters.

        Args:
            x: All parameters, shape (size,).
            seen: Statistics to normalise observations by; None leaves them unchanged.
        """

    def in_turn(self, n: int | None = None) -> Callable[[Floats, Statistics | None], Act]:
        """As `acting`, but faster: each call may overwrite the policies and outputs of earlier calls.

        Args:
            n: Number of policies evaluated together: the result takes parameters (n, size) and maps observations
                (n, o) to outputs (n, a). None for a single policy.
        """
        if n is None:
            return self.acting

        def acting(xs: Floats, seen: Statistics | None) -> Act:
            acts = [self.acting(x, seen) for x in xs]
            return lambda o: np.array([act(row) for act, row in zip(acts, o, strict=True)])

        return acting


class Dense(Policy):
    """A policy of dense layers, evaluated in numpy."""

    @override
    def acting(self, x: Floats, seen: Statistics | None = None) -> Act:
        act = self.in_turn()(x, seen)
        return lambda o: act(o).copy()

    @override
    def in_turn(self, n: int | None = None) -> Callable[[Floats, Statistics | None], Act]:
        return Network(self.layers, n).acting


class LinearPolicy(Dense):
    """Outputs are `W o`, or `W o + b` (Mania, Guy & Recht 2018, arXiv 1803.07055: enough for MuJoCo's walkers).

    Args:
        n_inputs: o.
        n_outputs: a.
        normalize: See `Policy`.
        bias: Whether to add b.

    Attributes:
        x0: W = 0, shape (a, o); with a bias, a dict of "W" and "b".
    """

    def __init__(self, n_inputs: int, n_outputs: int, *, normalize: bool = False, bias: bool = False) -> None:
        super().__init__(n_inputs, n_outputs, normalize)
        self.bias = bool(bias)
        self.layers = (Layer(self.n_outputs, self.n_inputs, self.bias, None),)
        self.size = sum(layer.size for layer in self.layers)
        w, b = np.zeros((self.n_outputs, self.n_inputs)), np.zeros(self.n_outputs)
        self.x0 = {"W": w, "b": b} if bias else w

    @override
    def described(self) -> dict[str, Any]:
        return {**super().described(), "bias": self.bias}


class MLPPolicy(Dense):
    """A network with hidden layers, in numpy.

    Args:
        n_inputs: See `Policy`.
        n_outputs: See `Policy`.
        hidden: Width of each hidden layer.
        activation: "tanh" or "relu".
        normalize: See `Policy`.
        seed: Seed of the initial weights.

    Attributes:
        x0: A dict of "W1", "b1", "W2", …: biases 0, weights N(0, 1 / inputs), the last layer's divided by 100.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        *,
        normalize: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(n_inputs, n_outputs, normalize)
        check_choice("MLPPolicy", ACTIVATIONS, activation=activation)
        for width in hidden:
            check_at_least("MLPPolicy", 1, hidden=width)
        self.hidden, self.activation, self.seed = tuple(map(int, hidden)), activation, int(seed)
        widths = [self.n_inputs, *self.hidden, self.n_outputs]
        names = [activation] * len(hidden) + [None]
        self.layers = tuple(Layer(out, in_, True, f) for (in_, out), f in zip(pairwise(widths), names, strict=True))
        self.size = sum(layer.size for layer in self.layers)
        self.x0 = {}
        for i, layer in enumerate(self.layers):
            scale = (0.01 if layer.activation is None else 1.0) / np.sqrt(layer.n_inputs)
            drawn = Key(seed, 0).generator(f"layer {i}").standard_normal((layer.n_outputs, layer.n_inputs))
            self.x0 |= {f"W{i + 1}": scale * drawn, f"b{i + 1}": np.zeros(layer.n_outputs)}

    @override
    def described(self) -> dict[str, Any]:
        # The seed of the initial weights is "policy_seed"
        more = {"hidden": list(self.hidden), "activation": self.activation, "policy_seed": self.seed}
        return {**super().described(), **more}


class TorchPolicy(Dense):
    """Any `torch.nn.Module` from observations (1, o) to outputs (1, a).

    A `Sequential` of `Linear`, `Tanh`, `ReLU`, `Identity` and `Flatten` runs in numpy, about five times as fast;
    anything else runs in torch, one observation at a time. The search is over all parameters; buffers stay fixed.

    Args:
        module: The network; it is not changed.
        n_inputs: o; None reads it from the first layer.
        n_outputs: a; None reads it from the last layer.
        normalize: See `Policy`.

    Attributes:
        x0: A dict of the module's own parameters, by name.
        converted: Whether it runs in numpy.

    Raises:
        ValueError: The number of inputs or outputs cannot be read or is wrong, or the module has no parameters.
    """

    def __init__(
        self, module: Any, n_inputs: int | None = None, n_outputs: int | None = None, *, normalize: bool = False
    ) -> None:
        from oracles.rl._torch import layers_in

        found = layers_in(module)
        if found and n_inputs is None:
            n_inputs = found[0].n_inputs
        if found and n_outputs is None:
            n_outputs = found[-1].n_outputs
        if n_inputs is None or n_outputs is None:
            raise ValueError(
                "`TorchPolicy(n_inputs=..., n_outputs=...)` must be given: they cannot be read from this module."
            )
        super().__init__(n_inputs, n_outputs, normalize)
        self.module, self.layers, self.converted = module, found, bool(found)
        self.x0 = {name: p.detach().cpu().double().numpy().copy() for name, p in module.named_parameters()}
        self.size = sum(array.size for array in self.x0.values())
        if not self.size:
            raise ValueError("`TorchPolicy(module)` has no parameters, so there is nothing to search.")
        self._check()

    def _check(self) -> None:
        """Run a copy of the module once in torch."""
        from oracles.rl._torch import acting

        start = np.concatenate([array.ravel() for array in self.x0.values()])
        try:
            shape = acting(self.module, start, None)(np.zeros(self.n_inputs)).shape
        except Exception as error:
            raise ValueError(
                f"The module cannot take observations of shape (1, {self.n_inputs}), one of {self.n_inputs} numbers: "
                f"{error}"
            ) from None
        if shape != (self.n_outputs,):
            raise ValueError(
                f"The module maps an observation to shape (1, {', '.join(map(str, shape))}), but "
                f"(1, {self.n_outputs}) is needed."
            )

    @classmethod
    @override
    def for_env(cls, env: Any, **arguments: Any) -> Self:
        """Make a policy that fits an environment.

        Args:
            env: Its id, an `EnvSpec`, or a function that makes it.
            **arguments: Arguments of the policy. `module` is a network, or a function that makes one from
                (n_inputs, n_outputs).

        Raises:
            ValueError: The network does not fit the environment.
        """
        from oracles.rl._environment import sizes_of

        n_inputs, n_outputs = sizes_of(env)
        module = arguments.pop("module")
        if not hasattr(module, "named_parameters"):
            module = module(n_inputs, n_outputs)
        return cls(module, n_inputs, n_outputs, **arguments)

    @override
    def acting(self, x: Floats, seen: Statistics | None = None) -> Act:
        if self.converted:
            return super().acting(x, seen)
        from oracles.rl._torch import acting

        return acting(self.module, x, seen)

    @override
    def in_turn(self, n: int | None = None) -> Callable[[Floats, Statistics | None], Act]:
        return super().in_turn(n) if self.converted else Policy.in_turn(self, n)
