"""Land on the moon: four engines to choose from, a longer run, and what a video and a journal are for.

You learn how discrete actions are chosen, why a candidate may need several episodes, and how to resume a run. This
is a short form, which learns to come down more softly but seldom lands. In full, some minutes:

    python tutorials/16_lunar_lander.py 150

It needs box2d:  pip install 'gymnasium[box2d]'
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from oracles.rl import LinearPolicy, Training

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 21

# Eight observations and four outputs; the largest output says what is fired: nothing, left, main or right engine.
policy = LinearPolicy.for_env("LunarLander-v3", bias=True, normalize=True)
print(f"{policy.n_inputs} inputs, {policy.n_outputs} outputs, {policy.size} parameters")

with tempfile.TemporaryDirectory() as folder:
    journal = Path(folder) / "run.jsonl"

    # The ground and the first push differ from episode to episode. One of them says little about a candidate, so each
    # plays 3, and all candidates of a step play the same 3.
    def training():
        """The same run each time."""
        return Training("LunarLander-v3", "cma", policy, workers=2, episodes=3, journal=journal, evaluate=20, every=7)

    with training() as run:
        before = run.trained.evaluate(20).mean()
        for _ in run.run(7):
            pass
    # Some other day, the same lines continue where the journal ends.
    with training() as run:
        print(f"it continues after step {run.search.steps}")
        for report in run.run(STEPS - 7):
            for found in report.measured.values():
                episodes, value = found.values["episodes"], found.values["return"]
                print(f"  step {found.step:>3}, {episodes:>5,.0f} episodes: {value:6.1f}", flush=True)
        best, value = run.best

returns = best.evaluate(50, seed=1)
print(
    f"{before:.0f} before, {value:.0f} after; in 50 other episodes {returns.mean():.0f}, the best {returns.max():.0f}"
)
print(f"200 and more, which is a safe landing: {np.mean(returns >= 200):.0%} of them")

# From the shell, with a page that shows the learning curve and an episode as a video:
#   blackbox-zo train-policy --env LunarLander-v3 --preset cma --episodes 3 --workers 2 --journal run.jsonl --save p.npz
#   blackbox-zo report run.jsonl
