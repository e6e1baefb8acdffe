"""Balance a pole: search a policy by the rewards of whole episodes, in seconds.

You learn `train`, what it finds and how good that is, and how to use it without this library.
"""

import json
import tempfile
from pathlib import Path

import gymnasium
import numpy as np

from oracles.rl import Training, load, train

# CartPole pays 1 for each step that the pole stands, at most 500. A linear policy has 8 numbers; this small, CMA-ES is
# the default. Every 5 steps the present policy is evaluated in 10 episodes of their own, and the best one is kept.
seen = []
found = train("CartPole-v1", steps=20, workers=2, evaluate=10, every=5, callback=seen.append)
for report in seen[4::5]:
    evaluated = report.measured["return"].values
    print(f"after {evaluated['steps']:>6,.0f} steps of the environment: evaluated {evaluated['return']:.0f}")
print(f"in 100 other episodes: {found.evaluate(100, seed=1).mean():.0f} of 500")

# The same run, for any number of workers: all candidates of a step meet the same episodes, whoever plays them.
with Training("CartPole-v1", workers=0) as training:
    first = [report.value for report in training.run(steps=3)]
print(f"the same with no workers at all: {first == [report.value for report in seen[:3]]}")

# It plays like this. `act` takes observations, and gives actions, as the environment has them.
env = gymnasium.make("CartPole-v1")
observation, _ = env.reset(seed=7)
total, over = 0.0, False
while not over:
    observation, reward, terminated, truncated, _ = env.step(found.act(observation))
    total, over = total + float(reward), terminated or truncated
print(f"one episode by hand: {total:.0f}")

# A saved policy is a few arrays, which numpy alone can run.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "policy.npz"
    found.save(path)
    with np.load(path) as file:
        w, b, about = file["w0"], file["b0"], json.loads(str(file["about"]))
    same = np.allclose(load(path)(observation), w @ observation + b)
print(f"{about['env']}: w has shape {w.shape}; by numpy alone the same: {same}")

# From the shell:  blackbox-zo train-policy --env CartPole-v1 --steps 20 --workers 2 --save policy.npz
