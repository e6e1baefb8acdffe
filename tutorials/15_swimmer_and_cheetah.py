"""Teach MuJoCo's swimmer by rewards, and its half cheetah by rankings alone.

You learn the preset "ars", and "rank", for where nobody has a number but somebody can say which of some episodes was
better. This is a short form. In full, some minutes:

    python tutorials/15_swimmer_and_cheetah.py 5
"""

import contextlib
import sys
import tempfile

from oracles.rl import Training

TIMES = int(sys.argv[1]) if len(sys.argv) > 1 else 1


def learn(env, preset, steps):
    """Train, and say how it goes."""
    with Training(env, preset, workers=2, evaluate=3, every=steps // 4) as training:
        before = training.trained.evaluate(3).mean()
        for report in training.run(steps):
            for found in report.measured.values():
                steps_played, value = found.values["steps"], found.values["return"]
                print(
                    f"  step {found.step:>3}, {steps_played:>9,.0f} steps of the environment: {value:8.1f}", flush=True
                )
        best, after = training.best
        print(f"{env}: {before:.1f} before, {after:.1f} after {training.experience.episodes} episodes")
        return best


# MuJoCo writes a log into the folder where it runs.
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    # Augmented random search (Mania et al. 2018): 8 directions a step, the better 4 of them count.
    learn("Swimmer-v5", "ars", 4 * TIMES)

    # All that this search is told is which of 20 episodes went better, a step. A person could do that. A gait shows
    # soon, so it looks at the first 100 steps of each at first; what is evaluated are whole episodes, of 1,000.
    cheetah = learn("HalfCheetah-v5", "rank", 60 * TIMES)
    print(f"a policy for the cheetah: {cheetah.x.size} numbers, {[w.shape for w, _, _ in cheetah.layers()]}")

# From the shell, with a journal from which a killed run resumes, and a page with the learning curve and a video:
#   blackbox-zo train-policy --env HalfCheetah-v5 --preset rank --steps 200 --workers 2 --journal run.jsonl --save p.npz
#   blackbox-zo report run.jsonl
