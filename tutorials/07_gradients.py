"""Compare gradient estimators on one function.

You learn what an estimate costs, how far off a single one is, and that the mean of many is right.
"""

import numpy as np

import blackbox_zo as bz


def f(x):
    """A smooth function of eight variables."""
    return np.sin(x).sum() + 0.5 * (x @ x) + x[0] * x[1] * x[2]


x = np.linspace(-1, 1, 8)
true = np.cos(x) + x
true[:3] += [x[1] * x[2], x[0] * x[2], x[0] * x[1]]

queries = 0


def counted(x):
    """Count what an estimate costs."""
    global queries
    queries += 1
    return f(x)


estimators = {
    "gaussian, central": bz.RandomVector(1e-3, 4),
    "gaussian, forward": bz.RandomVector(1e-3, 4, difference="forward"),
    "rademacher": bz.RandomVector(1e-3, 4, "rademacher"),
    "sphere": bz.RandomVector(1e-3, 4, "sphere"),
    "orthogonal": bz.RandomVector(1e-3, 4, "orthogonal"),
    "orthogonal, k = d": bz.RandomVector(1e-3, 8, "orthogonal"),
    "coordinatewise": bz.Coordinatewise(1e-3),
}
print(f"{'estimator':20} {'queries':>7} {'error of one':>12} {'of the mean of 400':>18}")
for name, estimator in estimators.items():
    queries = 0
    estimates = [bz.gradient(counted, x, estimator, seed=seed) for seed in range(400)]
    one = np.sqrt(np.mean([np.sum((g - true) ** 2) for g in estimates])) / np.linalg.norm(true)
    mean = np.linalg.norm(np.mean(estimates, axis=0) - true) / np.linalg.norm(true)
    print(f"{name:20} {queries // 400:7d} {one:12.2e} {mean:18.2e}")
    assert mean < 3 * one / np.sqrt(400) + 1e-3, "the mean of unbiased estimates shrinks like 1 / sqrt(their number)"
print("all unbiased, within three standard errors")
