"""Memory of a search over the scales (QZO) or integers (QES) of SmolLM2's Q4_1 file, against AdamW over all weights.

    python benchmarks/llm_quantised.py

Anonymous memory above that of a process that has imported the same and made the model without weights; pages of the
mapped file, which the system can take back, are not in it. AdamW's weights, gradients and states are measured with
hardly any activations (8 tokens), as bf16 is slow on CPUs; those of the search, of 16 x 64 tokens, are added.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import machine
from data import smollm2_file

RESULT = Path(__file__).with_suffix(".json")
PARAMETERS = 134_515_008
CODES = 106_168_320


def side(name: str, rows: int, tokens: int, each: int = 16) -> dict[str, float]:
    """What a process of `_quantised.py` measures."""
    command = [sys.executable, str(Path(__file__).with_name("_quantised.py")), name, str(smollm2_file())]
    done = subprocess.run([*command, str(rows), str(tokens), str(each)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(name, rows, tokens, each, found, flush=True)
    return found


def main() -> None:
    qzo, bare, adamw = side("qzo", 16, 64), side("qzo", 1, 8), side("adamw", 1, 8)
    some, qes = side("qzo", 16, 64, 4), side("qes", 16, 64)
    activations = qzo["MiB"] - bare["MiB"]
    wider = 2 * 2 * PARAMETERS / 2**20  # two states of four bytes in place of two
    result: dict[str, Any] = {
        "machine": machine(),
        "qzo, 16 x 64 tokens": qzo,
        "qzo, 8 tokens": bare,
        "qzo, 16 x 64 tokens, 4 rows at a time": some,
        "qes, 16 x 64 tokens": qes,
        "qes, file of what was added to the codes, MiB": round(2 * CODES / 2**20),
        "adamw, 8 tokens": adamw,
        "activations, MiB": activations,
        "adamw over qzo": round((adamw["MiB"] + activations) / qzo["MiB"], 1),
        "adamw over qes": round((adamw["MiB"] + activations) / qes["MiB"], 1),
        "adamw with states in fp32 over qzo": round((adamw["MiB"] + wider + activations) / qzo["MiB"], 1),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
