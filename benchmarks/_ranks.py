"""One process of `llm_ranks.py`. It reads a command a line from standard input and answers each with a line of JSON."""

from __future__ import annotations

import json
import sys
import time

import torch
from data import smollm2

import blackbox_zo as bz
from oracles.llm import Completion, LossOracle, load_model


def main() -> None:
    rows, tokens = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    model, _ = load_model(str(smollm2()))
    ids = torch.randint(3, 30_000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    with bz.Ranks() as ranks:
        oracle = LossOracle(model, [batch], Completion(), ranks=ranks)
        search = bz.Search(bz.Module(model), bz.RandomVector(1e-3, 1, "lowrank"), bz.SGD(1e-6))
        run = iter(search.run(oracle, steps=10_000))
        first = next(run).value  # which tries the sweep, and compares the ranks
        print(json.dumps({"value": first}), flush=True)
        for line in sys.stdin:
            steps, before, begun = int(line), ranks.traffic, time.perf_counter()
            values = [next(run).value for _ in range(steps)]
            after = ranks.traffic
            print(
                json.dumps(
                    {
                        "seconds": time.perf_counter() - begun,
                        "values": values,
                        "sent": (after.sent - before.sent) / steps,
                        "received": (after.received - before.received) / steps,
                        "collectives": (after.calls - before.calls) / steps,
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
