"""Dense layers in numpy, one observation at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from oracles.rl._statistics import Statistics

__all__ = ["ACTIVATIONS", "Layer", "Network", "Weights", "folded", "layers_of"]

ACTIVATIONS = ("tanh", "relu")


class Layer(NamedTuple):
    """The shape of a layer. Its parameters are the weights row by row, then the bias."""

    n_outputs: int
    n_inputs: int
    bias: bool
    activation: str | None

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.n_outputs * (self.n_inputs + self.bias)


class Weights(NamedTuple):
    """A layer with its parameters: `activation(w o + b)`."""

    w: Floats
    b: Floats | None
    activation: str | None


def layers_of(x: Floats, layers: Sequence[Layer]) -> list[Weights]:
    """Unpack parameters x, shape (size,), into layers."""
    out, at = [], 0
    for n_outputs, n_inputs, bias, activation in layers:
        end = at + n_outputs * n_inputs
        w = x[at:end].reshape(n_outputs, n_inputs)
        at = end + n_outputs * bias
        out.append(Weights(w, x[end:at] if bias else None, activation))
    return out


def folded(layers: list[Weights], seen: Statistics | None) -> list[Weights]:
    """The same function, with the normalisation of observations folded into the first layer."""
    if seen is None or not seen.n:
        return layers
    w, b, activation = layers[0]
    w = w * seen.scale()
    shift = -(w @ seen.mean)
    return [Weights(w, shift if b is None else b + shift, activation), *layers[1:]]


class Network:
    """Preallocated buffers for a forward pass, reused for every policy.

    The bias is the last column of the weights and each input ends with a 1, so one product computes `W o + b`.

    Args:
        layers: The shapes of the layers.
        n: Number of policies evaluated together, with one row of observations each; None for a single policy.
    """

    def __init__(self, layers: Sequence[Layer], n: int | None = None) -> None:
        lead = () if n is None else (n,)
        self._parts: list[tuple[Floats, slice, Floats, slice]] = []
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._seen: Statistics | None = None
        self._scale: Floats = np.empty(0)
        values: Floats = np.ones((*lead, layers[0].n_inputs + 1))
        self._given = values[..., :-1]
        at = 0
        for layer in layers:
            weights = np.zeros((*lead, layer.n_outputs, layer.n_inputs + 1))
            result = np.ones((*lead, layer.n_outputs + 1))
            out = result[..., :-1]
            end = at + layer.n_outputs * layer.n_inputs
            bias = slice(end, at + layer.size)
            self._parts.append((weights[..., :-1], slice(at, end), weights[..., -1], bias))
            at = bias.stop
            if n is None:
                self._calls.append((weights.dot, (values, out)))
            else:
                self._calls.append((np.matmul, (weights, values[..., None], out[..., None])))
            if layer.activation == "tanh":
                self._calls.append((np.tanh, (out, out)))
            elif layer.activation == "relu":
                self._calls.append((np.maximum, (out, 0.0, out)))
            values = result
        self._out = values[..., :-1]

    def acting(self, x: Floats, seen: Statistics | None) -> Callable[[Floats], Floats]:
        """The network with parameters x, as a function of flat observations; it returns the same array at each call.

        Functions from earlier calls use the new parameters from then on.

        Args:
            x: Parameters, shape (size,), or (n, size).
            seen: Statistics to normalise by.
        """
        for w, own, b, bias in self._parts:
            w[...] = x[..., own].reshape(w.shape)
            b[...] = x[..., bias] if bias.start < bias.stop else 0.0
        if seen is not None and seen.n:
            self._normalize(seen)
        given, calls, out = self._given, self._calls, self._out

        def act(o: Floats) -> Floats:
            given[:] = o
            for call, arguments in calls:
                call(*arguments)
            return out

        return act

    def _normalize(self, seen: Statistics) -> None:
        """Fold the normalisation into the first layer; see `folded`."""
        if seen is not self._seen:  # all candidates of a step share the statistics
            self._seen, self._scale = seen, seen.scale()
        w, _, b, _ = self._parts[0]
        w *= self._scale
        b -= w @ seen.mean
