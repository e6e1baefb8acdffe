"""Optimise by comparisons alone: no number is ever seen.

You learn `Ranking`, partial rankings and ties, and what a person who ranks only the best three loses.
"""

import numpy as np

import blackbox_zo as bz

taste = np.array([0.8, -0.4, 0.3, 0.6, -0.7])  # what this person likes best; the search never sees it


def ranked_by_a_person(points, best=None):
    """Which points are nearest to the person's taste: the `best` first ones in order, the two nearest as a tie."""
    order = [int(i) for i in np.argsort(((points - taste) ** 2).sum(axis=1))]
    shown = order[:best]
    return bz.Ranking([tuple(shown[:2]), *shown[2:]], n=len(points))


for best in (None, 4):
    search = bz.Search(np.zeros(5), bz.RankBased(radius=0.1, n_queries=8, n_ranked=best), seed=0)
    for _ in range(80):
        p = search.ask()
        search.tell(p, ranked_by_a_person(p.points, best))
    who = "all eight" if best is None else f"the best {best}"
    print(f"ranking {who}: after {search.nfev} candidates, distance {np.linalg.norm(search.x - taste):.3f}")

# A ranking, and values in that order, make the same move.
a, b = (bz.Search(np.zeros(5), bz.RankBased(0.2, 4), seed=3) for _ in range(2))
p, q = a.ask(), b.ask()
a.tell(p, bz.Ranking([2, 0, 3, 1], n=4))
b.tell(q, bz.Values([10.0, 4000.0, 0.001, 11.0]))
print(f"a ranking and values in that order agree: {np.array_equal(a.x, b.x)}")

try:
    search = bz.Search(np.zeros(5), bz.RandomVector(0.1))
    search.tell(search.ask(), bz.Ranking([0], n=2))
except bz.FeedbackError as error:
    print(error)
