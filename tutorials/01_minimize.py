"""Minimise a function with one call.

You learn what `minimize` needs, what it returns, and how it compares with scipy's Nelder-Mead at the same budget.
"""

import numpy as np
import scipy.optimize

import blackbox_zo as bz


def rosenbrock(x):
    """A curved valley in six dimensions; the least value, 0, is at (1, …, 1)."""
    return sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


start = np.zeros(6)
result = bz.minimize(rosenbrock, start, budget=1500)
print(f"blackbox_zo:  f = {result.fun:.2e} after {result.nfev} calls, at {result.x.round(4)}")
print(f"it stopped because: {result.message}")

options = {"maxfev": 1500, "maxiter": 10_000}
peer = scipy.optimize.minimize(rosenbrock, start, method="Nelder-Mead", options=options)
print(f"Nelder-Mead:  f = {peer.fun:.2e} after {peer.nfev} calls")

# The same through scipy's interface.
again = scipy.optimize.minimize(rosenbrock, start, method=bz.scipy_method(), options={"maxfev": 1500})
print(f"the same through scipy: {again.fun == result.fun}")
