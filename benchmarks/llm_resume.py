"""What a resume or an export costs after 100,000 steps over all weights of SmolLM2-135M: seconds, and ÷ loading it.

The run is MeZO's: one Gaussian direction a step, two values. Its journal and its snapshots are those of a search that
was asked and told so often; no forward is made, as neither a resume nor an export makes one. In all steps but the last
ten the two values are equal, so that the weights do not move: a move takes seconds, and neither the journal nor the
last snapshot is any shorter for it.

Each figure is a process of its own with everything imported, from the start of loading to where the next step could be
taken, or the weights be written; files are in the page cache. Without snapshots every move is replayed: some are timed,
and multiplied. Run: OMP_NUM_THREADS=1 python benchmarks/llm_resume.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import save
from data import smollm2

STEPS, MOVED, ROUNDS, REPLAYED = 100_000, 10, 5, {"gaussian": 10, "lowrank": 1000}

COMMON = """
import json, resource, sys, time
import numpy as np, torch, transformers
import blackbox_zo as bz
from transformers import AutoTokenizer, LlamaForCausalLM  # loaded before anything is timed
from oracles.llm import load_model, replay
from oracles.llm._finetune import Tuning
from blackbox_zo.journal import Journal

def begin():
    global wall, cpu
    wall, cpu = time.perf_counter(), time.process_time()

def end(**more):
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak_mb": most}
    print(json.dumps({**spent, **more}))

def search(model, path, kind="gaussian", every=0):
    x, rule = bz.Module(model), bz.SGD(1e-6)
    return bz.Search(x, bz.RandomVector(1e-3, 1, kind), rule, journal=Journal(path, snapshot_every=every))

def steps(s, n, moved):
    rng = np.random.default_rng(s.moves)
    for _ in range(n):
        p = s.ask()
        s.tell(p, bz.Values(3.0 + 1e-3 * (rng.normal(size=2) if moved else np.zeros(2))))

folder, path = sys.argv[1:3]
transformers.utils.logging.disable_progress_bar()
"""

PROGRAMS = {
    "make": """
moved, total = map(int, sys.argv[3:5])
model, _ = load_model(folder)
begin()
with search(model, path, every=total) as s:
    steps(s, total - moved, False)
    steps(s, moved, True)
end(moves=s.moves)
""",
    "load": """
begin(); load_model(folder); end()
""",
    "resume": """
begin(); model, _ = load_model(folder); s = search(model, path); end(moves=s.moves)
""",
    "export": """
begin(); model, _ = load_model(folder); module = replay(path, model, int(sys.argv[3])); end(moves=module.version)
""",
    "read": """
begin(); n = sum(1 for line in bz.read_journal(path)); end(lines=n)
""",
    "moves": """
kind, n = sys.argv[3], int(sys.argv[4])
model, _ = load_model(folder)
with search(model, path, kind) as s:
    steps(s, n, True)
model, _ = load_model(folder)
x = bz.Module(model)
fresh = bz.Search(x, s.estimator, s.rule)
begin(); fresh.replay(bz.read_journal(path)); end(moves=fresh.moves)
""",
}


def call(name: str, *arguments: Any) -> dict[str, float]:
    """One program in a process of its own."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", COMMON + PROGRAMS[name], *map(str, arguments)]
    run = subprocess.run(command, env=given, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    model = smollm2()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = f"{folder}/run.jsonl"
        made = call("make", model, path, MOVED, given.steps)
        sizes = {file.name: round(file.stat().st_size / 1e6, 1) for file in sorted(Path(folder).iterdir())}
        found: dict[str, list[dict[str, float]]] = {"load": [], "resume": [], "export": [], "read": []}
        for _ in range(given.rounds):
            for name, seen in found.items():
                seen.append(call(name, model, path, *([given.steps] if name == "export" else [])))
        assert all(f["moves"] == given.steps for name in ("resume", "export") for f in found[name])
        middle = {
            name: {key: round(statistics.median(f[key] for f in seen), 3) for key in ("wall", "cpu", "peak_mb")}
            for name, seen in found.items()
        }
        ratios = {
            name: {key: round(middle[name][key] / middle["load"][key], 2) for key in ("wall", "cpu")}
            for name in ("resume", "export")
        }
        without = {}
        for kind, n in REPLAYED.items():
            each = call("moves", model, f"{folder}/{kind}.jsonl", kind, n)
            without[kind] = {
                "moves_timed": n,
                "seconds_a_move": round(each["cpu"] / n, 4),
                "hours_for_all": round(each["cpu"] / n * given.steps / 3600, 1),
                "divided_by_loading": round(each["cpu"] / n * given.steps / middle["load"]["cpu"]),
            }
    save(
        __file__,
        {
            "steps": given.steps,
            "parameters": 134_515_008,
            "unit": f"medians of {given.rounds} processes each, in turn: seconds, and MB at most",
            "files_mb": sizes,
            "seconds_to_make": round(made["wall"], 1),
            **middle,
            "divided_by_loading": ratios,
            "without, CPU seconds, extrapolated": without,
        },
    )


if __name__ == "__main__":
    main()
