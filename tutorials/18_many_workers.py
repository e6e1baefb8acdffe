"""A program on many workers: none of them waits, and a run that goes badly is ended early.

You learn what a step costs when one run in ten takes far longer, what `asynchronous=True` changes, how a program says
on the way how it is doing, and what a stopping rule saves. The program here "trains" by sleeping.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import blackbox_zo as bz
from oracles import CommandOracle

TRAIN = """
import random, sys, time
rate, momentum = float(sys.argv[1]), float(sys.argv[2])
pace = min(random.Random(f"{rate}{momentum}").lognormvariate(-6.6, 1.5), 0.1)    # seconds of an epoch: a heavy tail
final = (rate - 0.3) ** 2 + (momentum - 0.8) ** 2
for epoch in range(1, 10):
    time.sleep(pace)
    print("report", final + 0.5 / epoch, flush=True)     # at once: what stays in a buffer helps nobody
print(final)
"""

SPACE = ["rate=0:1", "momentum=0:1"]


def tuned(program, label, **how):
    """Tune the program with eight workers; say how long it took and what was found."""
    settings = {"stopping": how.pop("stopping")} if "stopping" in how else {}
    oracle = CommandOracle([sys.executable, "-S", str(program), "{rate}", "{momentum}"], SPACE, workers=8, **settings)
    begun = time.monotonic()
    result = bz.minimize(oracle, oracle.x0, budget=64, bounds=oracle.bounds, **how)
    found = oracle.decode(result.x)
    print(
        f"{label}: {result.nfev} runs in {time.monotonic() - begun:.1f} s; "
        f"rate = {found['rate']:.2f}, momentum = {found['momentum']:.2f}"
    )
    return result


with tempfile.TemporaryDirectory() as folder:
    program, journal = Path(folder) / "train.py", Path(folder) / "run.jsonl"
    program.write_text(TRAIN)

    # Step by step, all workers wait for the slowest run of a generation.
    tuned(program, "step by step", method=bz.EvolutionStrategy(0.3))

    # Without generations a worker that is done gets the next run at once.
    tuned(program, "asynchronous", method=bz.EvolutionStrategy(0.3), asynchronous=True)

    # At the reports 1, 3 and 9 only the best third goes on. The others are ended, with all that they have started.
    rule = bz.SuccessiveHalving(eta=3)
    tuned(program, "stopped early", asynchronous=True, stopping=rule, journal=journal)
    notes = [info for line in bz.read_journal(journal).answers() for info in line.info or () if info]
    early, epochs = [note for note in notes if note.get("stopped")], sum(note.get("reports", 0) for note in notes)
    print(f"of {len(notes)} runs {len(early)} were stopped; {epochs} of {9 * len(notes)} epochs")

    # The journal has the reports too, so a resumed run decides by all that is known.
    line = json.loads(journal.read_text().splitlines()[-1])
    print(f"the last line of the journal: query {line['id']}, its reports {line['learnt']['CommandOracle'][:2]} ...")

# On a command line:  blackbox-zo minimize --run 'python train.py {rate} {momentum}' --param rate=0:1 momentum=0:1 \
#                         --workers 8 --asynchronous --stopping halving --journal run.jsonl
