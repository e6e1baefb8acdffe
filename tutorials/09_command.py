"""Tune a program that you only run: from Python, as the command line does.

You learn `CommandOracle`, parameters of three kinds, failed runs, and how to read the answer in the program's terms.
The program is written to a folder here; any program that prints a number works.
"""

import sys
import tempfile
from pathlib import Path

import blackbox_zo as bz
from oracles import CommandOracle

PROGRAM = """
import math, sys
lr, depth, kind = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if depth > 10:
    sys.exit("depth is too large: out of memory")      # a failed query, recorded with this line
loss = (math.log10(lr) + 2) ** 2 + (depth - 6) ** 2 / 10 + (0.5 if kind == "plain" else 0.0)
print("training ...")
print("loss", loss)                                    # the last word of the last line is the number
"""

with tempfile.TemporaryDirectory() as folder:
    program = Path(folder) / "train.py"
    program.write_text(PROGRAM)
    oracle = CommandOracle(
        [sys.executable, str(program), "{lr}", "{depth}", "{kind}"],
        {"lr": "1e-5:1:log", "depth": "2:16:int", "kind": "plain,fancy"},
        workers=2,
        timeout=20,
    )
    print("first command:", *oracle.command(oracle.x0)[2:])
    result = bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, budget=80)

best = oracle.decode(result.x)
print(f"{result.nfev} runs, {result.nfailed} failed; best loss {result.fun:.3f}")
print(f"lr = {best['lr']:.4f}, depth = {best['depth']}, kind = {best['kind']}")
