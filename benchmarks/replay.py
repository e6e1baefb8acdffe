"""What going on with a run of 1,000,000 answers costs: CPU seconds and memory kept, d = 10, one line a step.

`RandomVector(0.1, 16)`, 32 queries a step; the search is made anew from its journal in a process of its own. Run:
OMP_NUM_THREADS=1 python benchmarks/replay.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import save

ANSWERS, ROUNDS = 1_000_000, 5

MAKE = """
import sys
import numpy as np, blackbox_zo as bz
with bz.Search(np.zeros(10), bz.RandomVector(0.1, 16), bz.SGD(0.01), journal=sys.argv[1]) as s:
    for _ in range(int(sys.argv[2]) // 32):
        p = s.ask()
        s.tell(p, bz.Values((p.points**2).sum(1)))
"""

RESUME = """
import gc, json, resource, sys, time
import numpy as np, blackbox_zo as bz
def memory(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 1e6
gc.collect(); before, begun = memory(), time.process_time()
s = bz.Search(np.zeros(10), bz.RandomVector(0.1, 16), bz.SGD(0.01), journal=sys.argv[1])
seconds = time.process_time() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
for _ in range(50):
    p = s.ask(); s.tell(p, bz.Values((p.points**2).sum(1)))
gc.collect()
print(json.dumps({"seconds": seconds, "kept_mb": memory() - before, "peak_mb": peak, "answers": s.nfev}))
"""


def main() -> None:
    given = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = f"{folder}/run.jsonl"
        subprocess.run([sys.executable, "-c", MAKE, path, str(ANSWERS)], env=given, check=True)
        size = Path(path).stat().st_size / 1e6
        found = []
        for _ in range(ROUNDS):
            run = subprocess.run(
                [sys.executable, "-c", RESUME, path], env=given, check=True, capture_output=True, text=True
            )
            found.append(json.loads(run.stdout))
    save(
        __file__,
        {
            "answers": ANSWERS,
            "journal_mb": round(size, 1),
            "unit": f"medians of {ROUNDS} resumes, each in a process of its own; memory beyond that of the imports",
            **{key: round(statistics.median(f[key] for f in found), 2) for key in ("seconds", "kept_mb", "peak_mb")},
        },
    )


if __name__ == "__main__":
    main()
