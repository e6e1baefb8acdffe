"""Tune a simulator whose every run gives another number: how fast two counters serve, from days of 400 customers.

You learn what `minimize` recommends under noise, what its standard error says, and why the value of the luckiest run is
too good to be true.
"""

import numpy as np

import blackbox_zo as bz

rng = np.random.default_rng(0)


def cost(speeds, customers=400):
    """One simulated day: two counters in a row, whose speeds cost money, and the time that customers wait."""
    arrived = rng.exponential(1.0, customers).cumsum()
    ready = arrived.copy()  # for the next counter
    for speed in speeds:
        service, free = rng.exponential(1.0 / speed, customers), 0.0
        for i in range(customers):
            ready[i] = free = max(free, ready[i]) + service[i]
    return (ready - arrived).mean() + 2.0 * sum(speeds)


def true(speeds):
    """The mean of many days."""
    return np.mean([cost(speeds) for _ in range(300)])


start = [1.2, 3.0]
print(f"start {start}: days cost {np.std([cost(start) for _ in range(50)]):.1f} more or less than {true(start):.2f}")
result = bz.minimize(cost, start, bounds=(1.05, 5.0), budget=1500)
print(f"recommended: speeds {np.round(result.x, 2)}, cost {result.fun:.2f} ± {result.stderr:.2f}")
print(f"the mean of many days there is {true(result.x):.2f}")
lucky = result.luckiest
print(f"the luckiest of 1,500 days cost {lucky.value:.2f}, but with its speeds the mean is {true(lucky.x):.2f}")
off = abs(true(result.x) - result.fun)
print(f"better than the start: {true(result.x) < true(start)}; within three standard errors: {off < 3 * result.stderr}")
