"""The language-model oracle on a CUDA card: whether it is right there, how fast, and in how much memory.

    python benchmarks/llm_cuda.py --out llm_cuda.json [--base OTHER_CHECKOUT]
    python benchmarks/llm_cuda.py --device cpu --small     # to try the script

Every part has a time limit, and one that fails does not stop the others; the file is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import MACHINE

HERE = Path(__file__).resolve().parent
BEGUN = time.perf_counter()
PARTS = ("checks", "speed", "base", "streaming")


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after so many seconds."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


class Worker:
    """`_cuda_speed.py` with the code of one checkout."""

    def __init__(self, checkout: Path, device: str, batch: int, tokens: int) -> None:
        self.checkout = checkout
        self.command = [sys.executable, str(HERE / "_cuda_speed.py"), device, str(batch), str(tokens)]
        self._start()

    def _start(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(self.checkout)}
        self.lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            self.command, env=env, cwd=self.checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def _read(process: Any, lines: queue.Queue[str]) -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def ask(self, late: float, **asked: Any) -> dict[str, Any]:
        """What it measures; an error in words if it ends or takes over `late` seconds, and it is then begun anew."""
        if self.process.poll() is not None:
            self._start()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        end = time.perf_counter() + late
        while (left := end - time.perf_counter()) > 0:
            try:
                line = self.lines.get(timeout=left)
            except queue.Empty:
                break
            if not line or line.startswith("="):
                return json.loads(line[1:]) if line else {"error": "the process has ended"}
        self.close()
        return {"error": f"longer than {late} s"}

    def close(self) -> None:
        """End it, and give its memory back."""
        self.process.kill()
        self.process.wait()


class Book:
    """The result, written after each part."""

    def __init__(self, path: Path) -> None:
        self.path, self.parts = path, dict[str, Any]()

    def note(self, name: str, found: Any) -> None:
        """Write a part and show it."""
        self.parts[name] = found
        self.path.write_text(json.dumps(self.parts, indent=1, default=str) + "\n")
        print(f"[{time.perf_counter() - BEGUN:6.1f} s] {name}: {json.dumps(found, default=str)[:1500]}", flush=True)


def check(book: Book, device: str, small: bool, only: list[str] | None) -> None:
    """All checks of `_cuda_checks.py` and `_cuda_uses.py`."""
    from _cuda_checks import CHECKS
    from _cuda_uses import USES

    for function in (*CHECKS, *USES):
        name, begun = function.__name__, time.perf_counter()
        if only is not None and name not in only:
            continue
        try:
            with limit(40):
                found = function(device, small)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
            found = {"ok": False, "error": f"{type(error).__name__}: {error}"[:800], "where": where[-1500:]}
        book.note(f"check {name}", {**found, "took": round(time.perf_counter() - begun, 1)})


def relative(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each variant's time over two forwards, and its peak memory over that of one."""
    plain, one = found.get("two forwards", {}), found.get("one forward", {})
    out: dict[str, Any] = {}
    for name, value in found.items():
        if "seconds" in value and "seconds" in plain:
            out[name] = {"time": round(value["seconds"] / plain["seconds"], 3)}
            if "peak" in value and "peak" in one:
                out[name]["memory"] = round(value["peak"] / one["peak"], 3)
    return out


def speed(book: Book, now: Worker, args: argparse.Namespace) -> None:
    """Steps of several kinds against two plain forwards, in turn, for each size."""
    variants = ["two forwards", "one forward", "MeZO", "lowrank", "default", "lowrank scratch", "rademacher"]
    jobs = [("tiny", "bfloat16"), ("tiny2", "float32")] if args.small else [
        ("125M", "bfloat16"), ("1.3B", "bfloat16"), ("6.7B", "bfloat16")]  # fmt: skip
    for size, dtype in jobs:
        if time.perf_counter() - BEGUN > args.deadline:
            book.note(f"speed {size} {dtype}", "left out: too late")
            continue
        found: dict[str, Any] = {}
        for variant in variants:
            seconds = 2.0 if size in ("125M", "tiny", "tiny2") else 3.0
            found[variant] = now.ask(45, size=size, dtype=dtype, variant=variant, seconds=seconds, steps=args.steps)
        book.note(f"speed {size} {dtype}", found)
        book.note(f"ratios {size} {dtype}", relative(found))
        if size in ("tiny", "1.3B") and dtype == "bfloat16":
            for variant in ("lowrank", "default"):
                book.note(
                    f"profile {size} {variant}", now.ask(30, what="profile", size=size, dtype=dtype, variant=variant)
                )
    book.note("thin products, ms", now.ask(30, what="thin"))


def streaming(book: Book, now: Worker, args: argparse.Namespace) -> None:
    """Weights that stream against weights that stay."""
    from _cuda_streaming import measured

    now.close()  # for its memory
    for size in ("tiny",) if args.small else ("1.3B", "7B"):
        found: dict[str, Any] = {}
        try:
            with limit(200):
                for name, value in measured(args.device, size, 1.0 if args.small else 5.0):
                    found[name] = value
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"[:800]
        book.note(f"streamed {size} bfloat16, 2,048 tokens", found)


def before_and_after(book: Book, now: Worker, args: argparse.Namespace) -> None:
    """The same step by the code of another checkout, taking turns."""
    if args.base is None:
        return
    base = Worker(args.base.resolve(), args.device, args.batch, args.tokens)
    try:
        for size in ("tiny",) if args.small else ("125M", "1.3B"):
            if time.perf_counter() - BEGUN > args.deadline:
                book.note(f"before / after {size}", "left out: too late")
                continue
            rounds: dict[str, list[dict[str, Any]]] = {}
            for _ in range(1 if size == "1.3B" else 2):
                for name, worker in (("before", base), ("after", now)):
                    for variant in ("lowrank", "default"):
                        job = {
                            "size": size,
                            "dtype": "bfloat16",
                            "variant": variant,
                            "seconds": 1.0,
                            "steps": args.steps,
                        }
                        rounds.setdefault(f"{name} {variant}", []).append(worker.ask(45, **job))
            best = {name: min(r.get("seconds", float("nan")) for r in found) for name, found in rounds.items()}
            ratio = {v: best[f"before {v}"] / best[f"after {v}"] for v in ("lowrank", "default")}
            book.note(f"before / after {size}", {"ratio": ratio, "least medians": best, "rounds": rounds})
    finally:
        base.close()


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--base", type=Path, help="another checkout, to compare with")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--deadline", type=float, default=270.0, help="seconds after which no size is begun")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--check", nargs="*", help="names of the checks to make, all unless given")
    args = parser.parse_args()
    args.batch, args.tokens = (4, 16) if args.small else (16, 256)
    import torch
    import transformers

    book = Book(args.out)
    card = torch.cuda.get_device_name() if args.device == "cuda" else "none"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "card": card}
    book.note("machine", {**MACHINE, **versions, "TF32": torch.backends.cuda.matmul.allow_tf32})
    if "checks" in args.only:
        check(book, args.device, args.small, args.check)
        if args.device == "cuda":
            torch.cuda.empty_cache()
    now = Worker(HERE.parent, args.device, args.batch, args.tokens)
    try:
        for name, part in (("speed", speed), ("base", before_and_after), ("streaming", streaming)):
            if name in args.only:
                try:
                    part(book, now, args)
                except Exception as error:
                    book.note(f"{name} failed", f"{type(error).__name__}: {error}")
    finally:
        now.close()
    failed = [name for name, found in book.parts.items() if isinstance(found, dict) and found.get("ok") is False]
    book.note("failed", failed)


if __name__ == "__main__":
    main()
