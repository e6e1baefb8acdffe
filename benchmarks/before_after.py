"""This checkout beside another one of the project: ask + tell, journals, replays, in turn and in one run.

Each measurement is a process of its own that imports the one or the other. Run, with another checkout beside this one
(`git worktree add --detach ../before COMMIT`): python benchmarks/before_after.py ../before
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from _common import save

ROUNDS = 7

SETUP = """
import json, os, sys, tempfile, time
import numpy as np, blackbox_zo as bz
rng = np.random.default_rng(0)
def told(estimator, d, n, batch=16, journal=None):
    s = bz.Search(np.zeros(d), estimator, bz.SGD(1e-3), journal=journal)
    answers = [bz.Values(rng.random(batch)) for _ in range(n // batch)]
    def go(some):
        for a in some:
            p = s.ask(); p.points; s.tell(p, a)
    go(answers[:5])
    begun = time.process_time(); go(answers[5:]); took = time.process_time() - begun
    s.close()
    return took / (n - 5 * batch) * 1e6
folder = tempfile.mkdtemp(dir=".")
path = os.path.join(folder, "run.jsonl")
"""

TASKS = {
    "ask + tell, d = 10, RandomVector, us a query": "result = told(bz.RandomVector(0.1, 8), 10, 16000)",
    "ask + tell, d = 1000, RandomVector, us a query": "result = told(bz.RandomVector(0.1, 8), 1000, 4800)",
    "ask + tell, d = 10, CMA + model, us a query": "result = told(bz.EvolutionStrategy(0.1, 16, model=True), 10, 1600)",
    "ask + tell with a journal, d = 10, us a query": "result = told(bz.RandomVector(0.1, 8), 10, 16000, journal=path)",
    "minimize, a part a query, d = 10, us a query": """
bz.minimize(lambda x: 1.0, np.ones(10), budget=20)
begun = time.process_time()
bz.minimize(lambda x: 1.0, np.ones(10), (bz.RandomVector(0.1, 8), bz.SGD(1e-3)), budget=8000)
result = (time.process_time() - begun) / 8000 * 1e6
""",
    "minimize with a journal, d = 10, us a query": """
bz.minimize(lambda x: 1.0, np.ones(10), budget=20)
begun = time.process_time()
bz.minimize(lambda x: 1.0, np.ones(10), (bz.RandomVector(0.1, 8), bz.SGD(1e-3)), budget=8000, journal=path)
result = (time.process_time() - begun) / 8000 * 1e6
""",
    "replay of 200,000 answers, a line a step, d = 10, CPU s": """
told(bz.RandomVector(0.1, 16), 10, 200000, 32, path)
begun = time.process_time()
bz.Search(np.zeros(10), bz.RandomVector(0.1, 16), bz.SGD(1e-3), journal=path).close()
result = time.process_time() - begun
""",
    "replay of 50,000 answers, a line each, d = 10, CPU s": """
bz.minimize(lambda x: 1.0, np.ones(10), (bz.RandomVector(0.1, 16), bz.SGD(1e-3)), budget=50000, journal=path)
begun = time.process_time()
bz.Search(np.ones(10), bz.RandomVector(0.1, 16), bz.SGD(1e-3), journal=path, budget=50000).close()
result = time.process_time() - begun
""",
}
END = "\nimport shutil; shutil.rmtree(folder); print(json.dumps(result))"


def measured(checkout: Path, task: str) -> float:
    """One task in a process of its own."""
    given = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SETUP + TASKS[task] + END], env=given, capture_output=True, text=True, check=True
    )
    return float(json.loads(run.stdout.splitlines()[-1]))


def main() -> None:
    before, after = Path(sys.argv[1]).resolve(), Path(__file__).resolve().parent.parent
    commit = subprocess.run(["git", "-C", str(before), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    table = {}
    for task in TASKS:
        found: dict[str, list[float]] = {"before": [], "after": []}
        for _ in range(ROUNDS):
            found["before"].append(measured(before, task))
            found["after"].append(measured(after, task))
        old, new = (statistics.median(found[side]) for side in ("before", "after"))
        table[task] = {"before": round(old, 3), "after": round(new, 3), "ratio": round(new / old, 3)}
        print(task, table[task], flush=True)
    save(__file__, {"unit": f"medians of {ROUNDS} turns; before is commit {commit.stdout.strip()}", **table})


if __name__ == "__main__":
    main()
