"""Write your own estimator, and let the checker try it.

You learn the three methods of an estimator, and what `check_estimator` finds. The method is stochastic three points
(Bergou, Gorbunov & Richtárik 2020): ask about x and a step to either side, and go to the best of the three.
"""

from dataclasses import dataclass

import numpy as np

import blackbox_zo as bz
from blackbox_zo.testing import check_estimator


@dataclass(frozen=True)
class ThreePoints(bz.Estimator):
    """Go to the best of x, x + radius u and x - radius u, u on the unit sphere."""

    radius: float
    accepts = (bz.Values, bz.Ranking)  # only the order matters

    def start(self, variable):
        """There is no state."""
        return ()

    def sample(self, state, variable, key):
        """Three points along one direction, which is drawn from the key alone."""
        u = bz.Sphere(variable.blocks, 1, key)
        return bz.Queries(u, np.zeros(3, dtype=int), np.array([0.0, self.radius, -self.radius]), variable.origin)

    def estimate(self, state, variable, queries, feedback):
        """Minus the move, so that `SGD(1.0)`, the rule of all population methods, makes it."""
        best = np.argmin(feedback.ranking().net_losses())
        return state, bz.Step(queries.directions, np.array([-queries.scale[best]]))


check_estimator(ThreePoints(0.1))
print("ThreePoints keeps the laws of an estimator")

result = bz.minimize(lambda x: ((x - 1) ** 2).sum(), np.zeros(5), ThreePoints(0.05), budget=2000)
print(f"sphere: f = {result.fun:.1e}")


@dataclass(frozen=True)
class Backwards(ThreePoints):
    """The same, with a mistake: it gives the move instead of minus the move."""

    def estimate(self, state, variable, queries, feedback):
        """Forget the minus."""
        state, step = super().estimate(state, variable, queries, feedback)
        return state, step.scaled(-1.0)


try:
    check_estimator(Backwards(0.1))
except AssertionError as error:
    print(f"and Backwards does not: {error}")
