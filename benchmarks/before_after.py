"""This checkout beside another one of the project: what a query, a step and a call cost in each.

    git worktree add --detach ../before COMMIT
    python benchmarks/before_after.py --base ../before [--turns 7] [--only TEXT ...]

Each measurement of `_before_after_tasks.py` is a process of its own that imports the one or the other checkout. It
gives the least of what it took in two seconds. The two checkouts take turns, so that both meet the same machine;
which is first changes from turn to turn. Figures are medians of the turns. With `--only`, tasks whose name contains
one of these texts are measured again, and the rest of the JSON is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _before_after_tasks import TASKS
from _common import save

AIM = 1.03
"""What `after` may take of `before` at most."""

HERE = Path(__file__).resolve().parent


def measured(checkout: Path, task: str) -> float:
    """One task in a process of its own, by the packages of a checkout."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    given = {**os.environ, **threads, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(HERE / "_before_after_tasks.py"), task]
    run = subprocess.run(command, env=given, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{task!r} failed in {checkout}:\n{run.stderr}")
    found = json.loads(run.stdout.splitlines()[-1])
    if not Path(found["package"]).is_relative_to(checkout):
        raise SystemExit(f"{found['package']} was measured instead of {checkout}.")
    return float(found["took"])


def commit(checkout: Path) -> str:
    """The commit of a checkout, and whether what is measured differs from it."""
    git = ["git", "-C", str(checkout)]
    name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    status = [*git, "status", "--porcelain", "--", "blackbox_zo", "oracles"]
    changed = subprocess.run(status, capture_output=True, text=True).stdout.strip()
    return name + (", changed" if changed else "")


def compared(sides: dict[str, Path], task: str, turns: int) -> dict[str, Any]:
    """Both sides of one task in turn."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    load = []
    for turn in range(turns):
        load.append(os.getloadavg()[0])
        for side in sorted(sides, reverse=turn % 2 == 0):  # "before" comes first, then "after", and so on
            taken[side].append(measured(sides[side], task))
    median = {side: statistics.median(found) for side, found in taken.items()}
    return {
        "before": round(median["before"], 3),
        "after": round(median["after"], 3),
        "ratio": round(median["after"] / median["before"], 3),
        "load": {"median": round(statistics.median(load), 2), "highest": round(max(load), 2)},
        "all": {side: [round(x, 3) for x in found] for side, found in taken.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the other checkout")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT")
    given = parser.parse_args()
    if not (given.base / "blackbox_zo").is_dir():
        parser.error(f"there is no checkout of the project at {given.base}")
    sides = {"before": given.base.resolve(), "after": HERE.parent}
    path = Path(__file__).with_suffix(".json")
    known = json.loads(path.read_text()).get("tasks", {}) if path.exists() and given.only != [""] else {}
    commits, table = {side: commit(checkout) for side, checkout in sides.items()}, {}
    for task in TASKS:
        if any(text in task for text in given.only):
            table[task] = {"commits": commits, **compared(sides, task, given.turns)}
            row = table[task]
            print(f"{task:75s} {row['before']:10.3f} {row['after']:10.3f} {row['ratio']:6.3f}", flush=True)
        elif task in known:
            table[task] = known[task]
    save(__file__, {"unit": 'medians of the turns under "all", less is better', "aim, ratio": AIM, "tasks": table})


if __name__ == "__main__":
    main()
