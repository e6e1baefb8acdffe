"""Minimise a function that is noisy, and that sometimes gives nothing.

You learn that the best value is a lucky one, that more queries a step average the noise out, and what NaN and
exceptions do.
"""

import numpy as np

import blackbox_zo as bz

target = np.array([0.5, -1.0, 2.0])
rng = np.random.default_rng(0)


def measure(x):
    """A bowl with noise; one in ten measurements fails, and where x[0] > 1 all of them do."""
    if x[0] > 1 or rng.random() < 0.1:
        return float("nan")
    return ((x - target) ** 2).sum() + 0.2 * rng.normal()


result = bz.minimize(measure, np.zeros(3), budget=1500)
print(f"{result.nfev} calls, of which {result.nfailed} failed")
print(f"luckiest sample: value {result.fun:.3f} (the true value there is {((result.x - target) ** 2).sum():.3f})")

off = {}
for n_queries in (8, 40):  # `center`, where the search stands, is an average over the better half of each step
    method = bz.EvolutionStrategy(0.5, n_queries, covariance="isotropic")
    centers = [bz.minimize(measure, np.zeros(3), method, budget=1500, seed=seed).center for seed in range(8)]
    off[n_queries] = np.mean([np.abs(center - target).max() for center in centers])
    print(f"{n_queries:2d} queries a step: center is {off[n_queries]:.3f} from the optimum")
print(f"more queries a step average the noise out: {off[40] < off[8]}")


def crash(x):
    """A simulation that raises for large x."""
    if x[0] > 1:
        raise RuntimeError("the simulation diverged")
    return (x[0] - 0.8) ** 2


skipped = bz.minimize(crash, [0.0], budget=60, on_error="skip")  # an exception is a failed query
print(f"on_error='skip': f = {skipped.fun:.1e}, {skipped.nfailed} failed")
stopped = bz.minimize(crash, [0.0], budget=60, on_error="fail")  # it ends the run; the best so far is returned
print(f"on_error='fail': status {stopped.status}, {stopped.message}")
