"""Kill a run with `kill -9`, resume it, and get the same bits as if nothing had happened.

You learn what a journal is for. A child process runs this very file, and kills itself in the middle of a step.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import blackbox_zo as bz

calls = 0


def f(x):
    """An expensive function, so to speak."""
    global calls
    calls += 1
    if calls == die_at:
        os.kill(os.getpid(), signal.SIGKILL)  # no clean-up, no exception handler, nothing
    return ((x - 1) ** 2).sum()


def run(journal):
    """The same call before and after."""
    return bz.minimize(f, np.zeros(5), budget=300, journal=journal)


if len(sys.argv) == 3:  # the child
    die_at = int(sys.argv[2])
    run(sys.argv[1])
    sys.exit("this line is never reached")

die_at = -1
with tempfile.TemporaryDirectory() as folder:
    journal = Path(folder) / "run.jsonl"
    child = subprocess.run([sys.executable, __file__, str(journal), "123"], check=False)
    answers = len(journal.read_text().splitlines()) - 1
    print(f"the child died of signal {-child.returncode}; the journal holds {answers} answers")

    resumed = run(journal)
    print(f"resumed: {calls} new calls, {resumed.nfev} in all")
    undisturbed = run(None)
    same = np.array_equal(resumed.x, undisturbed.x) and np.array_equal(resumed.center, undisturbed.center)
    print(f"bit-identical to a run that was never killed: {same}")
