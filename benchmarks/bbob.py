"""`minimize(fun, x0)` with no method named, beside its peers: share of (function, target) pairs at 10 to 1,000 d.

Suites: bbob, bbob-largescale, bbob-noisy, bbob-gaussian (bbob + N(0, 1)), ma-bbob, plain. Each has its JSON beside this
script, with the run lengths of all solvers; solvers that are not named keep their rows there, so that one can be
measured again beside the others. Without --solvers nothing is measured; the table and the plot are made of the JSON.
`oracles/bench/solvers.py` has the solvers and their settings. COCO's virtual best solver is `vbs.py`'s.
Run: OMP_NUM_THREADS=1 python benchmarks/bbob.py --solvers ours slsqp --dimensions 5 10; needs the extra bbob.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import itertools
import sys
import time
from pathlib import Path

from _common import MACHINE

from oracles.bench.plot import plot
from oracles.bench.solvers import SOLVERS
from oracles.bench.store import load, merged, saving
from oracles.bench.suites import SUITES
from oracles.bench.table import table
from oracles.bench.trials import measured, tasks
from oracles.cli.bench import numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, default="bbob")
    parser.add_argument("--solvers", nargs="*", choices=SOLVERS, default=[])
    parser.add_argument("--dimensions", type=int, nargs="+")
    parser.add_argument("--functions", type=numbers)
    parser.add_argument("--instances", type=numbers, default=[1, 2, 3], help="such as 1-3,11; default 1-3")
    parser.add_argument("--budget", type=int, default=1000, help="queries per dimension; default 1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="default: SUITE.json beside this script")
    given = parser.parse_args()
    suite = SUITES[given.suite]
    out = given.out or Path(__file__).with_name(f"{suite.name.replace('-', '_')}.json")
    kept = load(out)
    functions = given.functions or range(1, suite.functions + 1)
    every = tasks(
        suite, given.solvers, given.dimensions or suite.dimensions, given.budget, functions, given.instances, given.seed
    )
    began = time.monotonic()
    trials = saving(out, measured(every, given.processes), MACHINE)
    for (d, solver), some in itertools.groupby(trials, lambda trial: (trial.task.d, trial.task.solver)):
        kept = merged(kept, some)
        print(f"{solver}, d = {d}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(kept))
    if kept and not suite.noisy:
        plot(kept, out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
