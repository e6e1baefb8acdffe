"""Programs that ranks run in tests: `python -m tests.blackbox_zo.ranks.programs NAME ARGUMENTS`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

import blackbox_zo as bz


def bowl(x: Any) -> float:
    """Which fails on one side."""
    if x[0] >= 1.0:
        raise ValueError(f"{x[0]} is too far")
    return float(x @ x)


def search(ranks: bz.Ranks, path: Path | None, pairs: int = 1, seed: int = 0, rate: float = 0.05) -> bz.Search:
    return bz.Search(np.ones(3), bz.RandomVector(1e-2, pairs), bz.SGD(rate), seed=seed, journal=ranks.journal(path))


def same(folder: str, size: str, steps: str) -> None:
    """Two runs: of plain values of which some fail, and of means with standard errors."""
    with bz.Ranks(check_every=5) as ranks:
        for name, oracle in (
            ("plain", bz.FunctionOracle(bowl, on_error="skip")),
            ("means", bz.Repeat(bz.FunctionOracle(noisy()), 2)),
        ):
            at = Path(folder, f"{name}-{size}.jsonl")
            with search(ranks, at, pairs=3) as s:
                for _ in s.run(bz.AcrossRanks(oracle, ranks), steps=int(steps)):
                    pass


class noisy:
    """Another value for a point each time, the same whoever asks."""

    def __init__(self) -> None:
        self.seen: dict[bytes, int] = {}

    def __call__(self, x: Any) -> float:
        times = self.seen[x.tobytes()] = self.seen.get(x.tobytes(), 0) + 1
        return float(x @ x) * (1 + 0.01 * times)


def wire() -> None:
    """What a step hands to collectives, and gets from them: counted where they are called."""
    import torch.distributed

    dist: Any = torch.distributed
    with bz.Ranks() as ranks:
        counted, own = {"sent": 0, "received": 0}, dist.all_gather

        def gather(found: Any, tensor: Any, **more: Any) -> Any:
            counted["sent"] += tensor.nbytes
            counted["received"] += sum(t.nbytes for t in found) - tensor.nbytes
            return own(found, tensor, **more)

        s, oracle = search(ranks, None), bz.AcrossRanks(bz.FunctionOracle(lambda x: float(x @ x)), ranks)
        reports = s.run(oracle, steps=40)
        next(reports)  # the first compares what must be the same
        dist.all_gather = gather
        before = ranks.traffic
        for _ in reports:
            pass
        dist.all_gather = own
        after = ranks.traffic
        counted |= {"said": after.sent - before.sent, "heard": after.received - before.received}
        print(json.dumps({name: n / 39 for name, n in counted.items()}))


def differ(what: str) -> None:
    """Rank 1 does something else; all others must say so."""
    with bz.Ranks(check_every=4) as ranks:
        odd = ranks.rank == 1
        more: dict[str, Any] = {"seed": 7} if what == "seed" and odd else {}
        more |= {"rate": 0.06} if what == "rate" and odd else {}
        s = search(ranks, None, **more)
        steps = 3 if what == "steps" and odd else 10
        for report in s.run(bz.AcrossRanks(bz.FunctionOracle(lambda x: float(x @ x)), ranks), steps=steps):
            if what == "x" and odd and report.step == 5:
                s.variable.load({"z": s.variable.state()["z"] * (1 + 1e-12)}, s.variable.version)
            if what == "last" and odd and report.step == 9:
                s.variable.load({"z": s.variable.state()["z"] * (1 + 1e-12)}, s.variable.version)
            if what == "raises" and odd and report.step == 2:
                raise ZeroDivisionError("a fault of rank 1")
            if what == "stops" and odd and report.step == 2:
                break
            if what == "interrupted" and odd and report.step == 2:
                raise KeyboardInterrupt


def slow(path: str, steps: str) -> None:
    """A run that takes a while, so that it can be killed."""
    with bz.Ranks() as ranks, search(ranks, Path(path), pairs=4) as s:
        for report in s.run(bz.AcrossRanks(bz.FunctionOracle(waits), ranks), steps=int(steps)):
            if report.step == 3:
                print("at work", flush=True)


def waits(x: Any) -> float:
    time.sleep(0.005)
    return float(x @ x)


def leaves_inside() -> None:
    """Rank 1 dies while rank 0 waits for it."""
    with bz.Ranks() as ranks:
        if ranks.rank == 1:
            ranks.exchange("once", 1)
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.exchange("once", 1)
        ranks.exchange("twice", 1)


def waits_for(patience: str) -> None:
    """Rank 0 is busy for two seconds, as with a validation of its own."""
    from blackbox_zo.ranks import _wire

    if patience != "own":
        vars(_wire)["PATIENCE"] = timedelta(seconds=float(patience))
    with bz.Ranks() as ranks:
        if ranks.first:
            time.sleep(2)
        ranks.exchange("once", 1)


def limited() -> None:
    """A time limit by the clock of rank 0, on ranks of different speed."""
    with bz.Ranks() as ranks:
        limit = ranks.time_limit(0.3 if ranks.first else 1e-9)
        s = search(ranks, None, pairs=2)
        run = bz.Run(s, bz.AcrossRanks(bz.FunctionOracle(waits), ranks), time_limit=limit)
        print(run.to_the_end().name, s.moves)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
