"""Control a simulator of your own, one that crashes.

You learn what an environment needs, how `score=` says what is wanted, and that a simulator that kills its process costs
an episode, not the run.
"""

import os

import gymnasium
import numpy as np
from gymnasium import spaces

from oracles.rl import LinearPolicy, train


class Boiler(gymnasium.Env):
    """Heat water to 60 degrees with little gas. Above 75 the simulator dies, as an old one in C might."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(0.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        """Begin an episode. All randomness is a function of the seed."""
        self.rng = np.random.default_rng(seed)
        self.t, self.water, self.flame = 0, 15.0 + 10.0 * self.rng.random(), 0.0
        return self._seen(), {}

    def step(self, action):
        """Burn gas for a minute. The reward is always 0; `score` below says what is wanted."""
        self.t += 1
        self.flame += 0.3 * (float(action[0]) - self.flame)  # it answers late
        self.water += 4.0 * self.flame - 0.02 * (self.water - 15.0) + 0.3 * self.rng.standard_normal()
        if self.water > 75.0:
            os._exit(11)
        return self._seen(), 0.0, False, self.t >= 100, {}

    def _seen(self):
        return np.array([(self.water - 60.0) / 20.0, self.flame])


def score(episode):
    """Minus the degrees off in the second half, and a little for the gas."""
    water = 60.0 + 20.0 * episode.observations[50:, 0]
    return -np.abs(water - 60.0).mean() - np.mean(episode.actions)


policy = LinearPolicy.for_env(Boiler, bias=True)
seen = []
found = train(Boiler, "cma", policy, steps=25, workers=2, score=score, callback=seen.append)
half, end = seen[12], seen[-1]
print(f"{end.failed} of {end.nfev} candidates killed the simulator, {end.failed - half.failed} in the second half")
print(f"mean score of a step's candidates: {-seen[0].value:.1f} in the first, {-end.value:.1f} in the last")

boiler = Boiler()
observation, _ = boiler.reset(seed=123)
water = []
for _ in range(100):
    observation, *_ = boiler.step(found.act(observation))
    water.append(boiler.water)
print(f"water after 20, 50 and 100 steps: {water[19]:.0f}, {water[49]:.0f}, {water[99]:.0f} degrees")

# From the shell, with the class in boiler.py (its rewards count then, as there is no option for a score):
#   blackbox-zo train-policy --env boiler:Boiler --preset cma --workers 2 --journal run.jsonl
