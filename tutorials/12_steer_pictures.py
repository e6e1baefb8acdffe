"""Steer pictures by rankings: show eight, hear which are the best three, show eight better ones.

You learn `SimulatedRater`, a person made of a function and a model of how people err, to try a study before anyone is
asked, and where the real person comes in. The pictures are posters in five colours, drawn from 15 numbers.
"""

import numpy as np

import blackbox_zo as bz
from oracles.ranking import BradleyTerry, Exact, SimulatedRater
from oracles.ranking.renderers.demo import palette

ROUNDS = 25
target = palette(np.random.default_rng(4).standard_normal(15))  # the poster that this person has in mind


def unlike(x):
    """How far a poster is from it: the colours' difference in per cent, root mean square over the picture."""
    return 100 * np.sqrt(np.mean((palette(x) - target) ** 2))


def study(rater, seed=0):
    """The poster that a rater is led to, and how unlike the wanted one it is."""
    search = bz.Search(np.array(palette.x0), bz.EvolutionStrategy(1.0, n_queries=8), seed=seed)
    for _ in search.run(rater, ROUNDS):
        pass
    return search.x, unlike(search.x)


print(f"the first poster: {unlike(palette.x0):.1f} % off")
print(f"all eight in order, without error: {study(SimulatedRater(unlike, Exact()))[1]:.1f} % off")

# People err where two pictures are nearly alike. Bradley and Terry: right with probability 1 / (1 + exp(-gap)),
# so that of two posters that are 1 and 2 % off, this person takes the wrong one 27 times in a hundred.
rater = SimulatedRater(unlike, BradleyTerry(temperature=1.0), n_ranked=3)
x, off = study(rater)
print(f"the best three, by someone who errs: {off:.1f} % off, after {rater.comparisons} comparisons of two")

# How much is luck? Studies with simulated people cost nothing.
several = [study(SimulatedRater(unlike, BradleyTerry(1.0), n_ranked=3, seed=s), s)[1] for s in range(1, 4)]
print(f"three such people: {min(several):.1f} to {max(several):.1f} % off")

# The same study with a person, on a page that this prints a link to (pip install 'blackbox-zo[human]'):
#
#     from oracles.ranking import HumanRanking
#
#     oracle = HumanRanking(palette, store="study.db", n_ranked=3)
#     print(oracle.url)
#     x, _ = study(oracle)
#
# or from the shell:  blackbox-zo rank --render oracles.ranking.renderers.demo:palette --ranked 3 --store study.db
