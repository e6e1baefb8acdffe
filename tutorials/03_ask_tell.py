"""Your own loop: answers in parts, in any order, with several proposals open.

You learn `ask`, `tell` with ids, and that the order of the answers within a step makes no difference.
"""

import numpy as np

import blackbox_zo as bz


def f(x):
    """What the laboratory would measure."""
    return ((x - 1) ** 2).sum()


def new_search():
    """The same search each time: all randomness is a function of the seed."""
    return bz.Search(np.zeros(4), bz.EvolutionStrategy(0.5), seed=1, budget=400)


tidy = new_search()
while not tidy.exhausted:
    p = tidy.ask()
    tidy.tell(p, bz.Values([f(x) for x in p.points]))

messy, rng = new_search(), np.random.default_rng(0)
while not messy.exhausted:
    p = messy.ask()
    for i in rng.permutation(p.n):  # one at a time, in random order
        messy.tell(p, bz.Values([f(p.points[i])]), ids=[p.ids[i]])
print(f"answers in any order give the same run: {np.array_equal(tidy.x, messy.x)}")

# Two workers that never wait for each other: the next proposal is asked before the last one is told.
parallel = new_search()
waiting = [parallel.ask(), parallel.ask()]
while waiting:
    p = waiting.pop(int(rng.integers(len(waiting))))  # whichever is done first
    parallel.tell(p, bz.Values([f(x) for x in p.points]))
    try:
        waiting.append(parallel.ask())
    except bz.BudgetExhausted:
        pass
print(f"two proposals open at all times: {parallel.nfev} answers, f = {parallel.best.value:.1e}")
