"""Two processes that share each step against one, and what a step sends: SmolLM2-135M, a central pair on all weights.

A thread each. The control is two processes that know nothing of each other, each at whole steps of its own: more than
what they gain over one, two ranks cannot. All processes stay, and take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import save


def started(rows: int, tokens: int, size: int) -> list[subprocess.Popen[str]]:
    """Ranks that know each other, once each has taken its first step."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = str(holder.getsockname()[1])
    out = []
    for rank in range(size):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
        command = [sys.executable, str(Path(__file__).with_name("_ranks.py")), str(rows), str(tokens)]
        out.append(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    return out


def steps(processes: list[subprocess.Popen[str]], n: int) -> list[dict[str, Any]]:
    """All take so many steps at the same time."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{n}\n")
        process.stdin.flush()
    return [heard(process) for process in processes]


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    given = parser.parse_args()
    one, two, other = (started(given.rows, given.tokens, size) for size in (1, 2, 1))
    sides = {"one": one, "two ranks": two, "two apart": [*one, *other]}
    every = [*one, *two, *other]
    first = [heard(process)["value"] for process in every]
    rates: dict[str, list[float]] = {name: [] for name in sides}
    said: dict[str, dict[str, Any]] = {}
    for _ in range(given.rounds):
        for name, processes in sides.items():
            found = steps(processes, 1)
            queries = 2 * (1 if name == "two ranks" else len(processes))
            rates[name].append(queries / max(answer["seconds"] for answer in found))
            said[name] = found[0]
    for process in every:  # ranks leave together
        assert process.stdin is not None
        process.stdin.close()
    for process in every:
        process.wait(timeout=120)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    gains = {
        name: statistics.median(b / a for a, b in zip(rates["one"], rates[name], strict=True))
        for name in ("two ranks", "two apart")
    }
    result = {
        "rows": given.rows,
        "tokens": given.tokens,
        "rounds": given.rounds,
        "queries_a_second": {name: round(value, 4) for name, value in medians.items()},
        "against_one": {name: round(value, 3) for name, value in gains.items()},
        "two_ranks_against_two_apart": round(
            statistics.median(b / a for a, b in zip(rates["two apart"], rates["two ranks"], strict=True)), 3
        ),
        "first_values": first,
        "bytes_a_step": {key: said["two ranks"][key] for key in ("sent", "received", "collectives")},
        "rates": {name: [round(value, 4) for value in values] for name, values in rates.items()},
    }
    save(__file__, result)


if __name__ == "__main__":
    main()
