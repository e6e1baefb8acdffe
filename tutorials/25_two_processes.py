"""Fine-tune a model with two processes that tell each other sixteen bytes a step; machines do it in the same way.

You learn `Ranks`: every rank holds the model, answers a part of the queries, and makes the same moves from all answers.
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import blackbox_zo as bz
from oracles.llm import LossOracle

STEPS = 200


def loss(model, batch):
    """One value for each example."""
    return (model(batch["x"])[:, 0] - batch["y"]) ** 2


def tune(journal):
    """What each process runs, the same program on all; alone it is an ordinary run."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    x = torch.randn(64, 8)
    batches = [{"x": x, "y": torch.sin(x.sum(1))}]
    with bz.Ranks(check_every=50) as ranks:
        oracle = LossOracle(model, batches, loss, sweep="scratch", ranks=ranks)
        search = bz.Search(bz.Module(model), bz.RandomVector(1e-3), bz.SGD(2e-2), journal=ranks.journal(journal))
        reports, before = [], ranks.traffic
        for report in search.run(oracle, steps=STEPS):
            if not reports:
                before = ranks.traffic  # the first step compares versions, weights and batches
            reports.append(report)
        search.close()
        if ranks.first:  # rank 0 alone keeps the journal, and speaks
            sent = (ranks.traffic.sent - before.sent) / (STEPS - 1)
            print(
                f"{ranks.size} ranks: loss {reports[0].value:.3f} before, {reports[-1].value:.3f} after {STEPS} steps"
            )
            print(f"  each sent {sent:.0f} bytes a step, for {sum(p.numel() for p in model.parameters())} weights")


if len(sys.argv) > 1:
    tune(sys.argv[1])
    sys.exit()

with tempfile.TemporaryDirectory() as folder:
    tune(Path(folder, "one.jsonl"))

    # `torchrun --nproc-per-node 2 program.py` does this, on several machines with `--nnodes` and `--rdzv-endpoint`
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, __file__, str(Path(folder, "two.jsonl"))]
    both = [subprocess.Popen(command, env={**os.environ, **place, "RANK": str(rank)}) for rank in range(2)]
    if [process.wait() for process in both] != [0, 0]:
        sys.exit("a rank has failed")
    same = Path(folder, "one.jsonl").read_bytes() == Path(folder, "two.jsonl").read_bytes()
    print(f"the same journal, byte for byte: {same}")
