"""Teach MuJoCo's swimmer by rewards, and its half cheetah by rankings alone.

You learn the preset "ars", and "rank", for where nobody has a number but somebody can say which of some episodes was
better. This is a short form: a few steps, of short episodes. In full, some minutes:

    python tutorials/15_swimmer_and_cheetah.py 100
"""

import contextlib
import sys
import tempfile

from oracles.rl import Training

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
LENGTH = 1000 if len(sys.argv) > 1 else 400  # steps of an episode


def learn(env, preset):
    """Train, and say how it goes."""
    with Training(env, preset, workers=2, max_steps=LENGTH, evaluate=3, every=max(1, STEPS // 5)) as training:
        before = training.trained.evaluate(3, rules=training.oracle.rules).mean()
        for p in training.run(STEPS):
            if p.evaluated == p.evaluated:
                print(f"  step {p.step + 1:>3}, {p.steps:>9,} steps of the environment: {p.evaluated:8.1f}", flush=True)
        best, after = training.best
        print(f"{env}: {before:.1f} before, {after:.1f} after {p.episodes} episodes")
        return best


# MuJoCo writes a log into the folder where it runs.
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    # Augmented random search (Mania et al. 2018): 8 directions a step, the better 4 of them count.
    swimmer = learn("Swimmer-v5", "ars")

    # The same episodes, but all that the search is told is which went better. A person could do that.
    cheetah = learn("HalfCheetah-v5", "rank")
    print(f"a policy for the cheetah: {cheetah.x.size} numbers, {[w.shape for w, _, _ in cheetah.layers()]}")

# From the shell, with a journal that a killed run goes on from, and a page with the learning curve and a video:
#   blackbox-zo train-policy --env HalfCheetah-v5 --preset rank --steps 100 --workers 2 --journal run.jsonl --save p.npz
#   blackbox-zo report run.jsonl
