"""What is left of a study after every fault at once: 20 raters, 200 rounds.

    python benchmarks/study_faults.py [--raters 20] [--rounds 200] [--kills 50]

Two studies. On SQLite, the server is killed by SIGKILL 50 times at random instants, and its disk (a file system of its
own, 64 MB) is filled to the last byte twice, for five seconds. On PostgreSQL, the server is killed as often, and the
database is stopped at once ("immediate") twice, for two seconds. The raters are those of `page.py`: each sends an
answer until the server says it has it. Then the store is compared with what was acknowledged: no answer may be lost or
counted twice, and everybody must have answered every round. Needs Linux, root and PostgreSQL.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import save
from page import PROGRAM, Rater, compared

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.disks import Ballast, small_disk
from tests.oracles.ranking.databases import postgresql


def run(store: str, raters: int, rounds: int, kills: int, disturb: Callable[[], None]) -> dict[str, Any]:
    """One study; what was lost, doubled or never answered. `disturb` is called twice, on a thread of its own."""
    words = [sys.executable, "-c", PROGRAM, store, str(raters), str(rounds)]

    def start() -> tuple[subprocess.Popen[str], list[str]]:
        while True:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert process.stdout is not None
            urls = process.stdout.readline()
            if urls:
                return process, urls.split()
            process.communicate()  # the disk was full, or the database away, while it began
            restarts.append(process.returncode)
            time.sleep(0.5)

    restarts: list[int] = []
    process, urls = start()
    people = [Rater(url, rounds, i) for i, url in enumerate(urls)]
    for person in people:
        person.start()
    rng, killed, disturbed, disturbing = np.random.default_rng(0), 0, 0, None
    begun = time.perf_counter()
    while any(person.is_alive() for person in people):
        done = sum(len(person.sent) for person in people) / (raters * rounds)
        if disturbed < 2 and done > (0.3, 0.6)[disturbed] and (disturbing is None or not disturbing.is_alive()):
            disturbing = threading.Thread(target=disturb)
            disturbing.start()
            disturbed += 1
        time.sleep(float(rng.uniform(0.02, 1.0)))
        if killed < kills and any(person.is_alive() for person in people):
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            process, _ = start()
    seconds = time.perf_counter() - begun
    if disturbing is not None:
        disturbing.join()
    process.communicate(timeout=120)
    return {
        "kills": killed,
        "disturbances": disturbed,
        "starts refused meanwhile": len(restarts),
        **compared(store, people),
        "locked out": sum(len(person.sent) < rounds for person in people),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    sizes = (given.raters, given.rounds, given.kills)
    out: dict[str, Any] = {"raters": given.raters, "rounds": given.rounds}
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk", "64m") as disk:

        def fill() -> None:
            ballast = Ballast(disk)
            ballast.fill()
            time.sleep(5)
            ballast.release()

        out["SQLite, killed, its disk full twice"] = run(str(disk / "s.db"), *sizes, fill)
        print(out, flush=True)
    with postgresql() as (url, told):

        def restart() -> None:
            told("stop")
            time.sleep(2)
            told("start")

        out["PostgreSQL, killed, restarted twice"] = run(f"{url}/postgres", *sizes, restart)
    save(__file__, out)


if __name__ == "__main__":
    main()
