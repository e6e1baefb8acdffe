"""Give x in the structure that your code already uses.

You learn to start from nested dicts and arrays, to vectorise, to bound, and to set units.
"""

import numpy as np

import blackbox_zo as bz

rng = np.random.default_rng(0)
inputs = rng.normal(size=(64, 3))
wanted = np.tanh(inputs @ [1.0, -2.0, 0.5]) + 0.3


def loss(net):
    """Mean squared error of a tiny network, whose parameters come as they were given in x0."""
    hidden = np.tanh(inputs @ net["layer"]["weight"] + net["layer"]["bias"])
    return np.mean((hidden @ net["out"] - wanted) ** 2)


start = {"layer": {"weight": 0.1 * rng.normal(size=(3, 2)), "bias": np.zeros(2)}, "out": np.zeros(2)}
result = bz.minimize(loss, start, budget=3000)
print(f"loss {loss(start):.3f} -> {result.fun:.5f}; weight has shape {result.x['layer']['weight'].shape}")


def all_at_once(p):
    """All points of a step in one call: each leaf has the points as its first axis."""
    return (p["a"] - 0.7) ** 2 + ((p["b"] - [[1.0, -2.0]]) ** 2).sum(axis=1)


bounded = bz.minimize(
    all_at_once, {"a": 0.5, "b": [0.0, 0.0]}, vectorized=True, bounds=[(0, 1), (None, None), (-3, 3)], budget=600
)
print(f"within bounds: a = {bounded.x['a']:.4f}, b = {bounded.x['b'].round(4)}")


def scaled(x):
    """One variable lives near 1e-6, the other near 1000."""
    return (x[0] / 1e-6 - 2) ** 2 + (x[1] / 1000 - 3) ** 2


result = bz.minimize(scaled, [1e-6, 1000.0], unit=[1e-6, 1000.0], budget=300)
print(f"with units: f = {result.fun:.1e} at {result.x}")
