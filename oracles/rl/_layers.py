"""Dense layers in numpy, one observation at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from oracles.rl._statistics import Statistics

__all__ = ["ACTIVATIONS", "Layer", "Weights", "compiled", "folded", "layers_of"]

ACTIVATIONS = ("tanh", "relu")


class Layer(NamedTuple):
    """The shape of a layer; its parameters are the weights row by row, then the bias."""

    n_outputs: int
    n_inputs: int
    bias: bool
    activation: str | None

    @property
    def size(self) -> int:
        """Number of its parameters."""
        return self.n_outputs * (self.n_inputs + self.bias)


class Weights(NamedTuple):
    """A layer with its parameters: `activation(w o + b)`."""

    w: Floats
    b: Floats | None
    activation: str | None


def layers_of(x: Floats, layers: Sequence[Layer]) -> list[Weights]:
    """The layers that a row of parameters, shape (size,), stands for."""
    out, at = [], 0
    for n_outputs, n_inputs, bias, activation in layers:
        end = at + n_outputs * n_inputs
        w = x[at:end].reshape(n_outputs, n_inputs)
        at = end + n_outputs * bias
        out.append(Weights(w, x[end:at] if bias else None, activation))
    return out


def folded(layers: list[Weights], seen: Statistics | None) -> list[Weights]:
    """The same function with the normalisation of observations inside the first layer."""
    if seen is None or not seen.n:
        return layers
    w, b, activation = layers[0]
    w = w * seen.scale()
    shift = -(w @ seen.mean)
    return [Weights(w, shift if b is None else b + shift, activation), *layers[1:]]


def compiled(layers: list[Weights], seen: Statistics | None) -> Callable[[Floats], Floats]:
    """One function for all layers, of a flat float64 observation."""
    layers = folded(layers, seen)
    if len(layers) == 1 and layers[0].activation is None:
        w, b, _ = layers[0]
        dot = np.ascontiguousarray(w).dot
        return dot if b is None else lambda o: dot(o) + b
    steps = []
    for w, b, activation in layers:
        steps.append((np.ascontiguousarray(w).dot, np.zeros(len(w)) if b is None else b, activation))
    tanh, maximum = np.tanh, np.maximum

    def act(h: Floats) -> Floats:
        for dot, b, activation in steps:
            h = dot(h)
            h += b
            if activation == "tanh":
                tanh(h, h)
            elif activation is not None:
                maximum(h, 0.0, h)
        return h

    return act
