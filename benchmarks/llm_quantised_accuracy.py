"""What is learned where: in the scales of SmolLM2's Q4_1 file (QZO), in its integers (QES), in its weights in fp32.

    python benchmarks/llm_quantised_accuracy.py [STEPS]

The task of `_foods.py`, steps of 16 examples, the defaults of the command line for each. All three start from the same
numbers: the fp32 model is the file, decoded.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import _foods
from _common import machine
from data import smollm2_file

import blackbox_zo as bz
from blackbox_zo.quantised import load_gguf
from oracles.llm import Accuracy, LossOracle, evaluate
from oracles.llm.models import load_tokenizer

RESULT = Path(__file__).with_suffix(".json")
BATCH, HELD_OUT, EVERY = 16, 128, 40
SIDES: dict[str, tuple[str, bz.RandomVector, float]] = {
    "QZO": ("scale_shift", bz.RandomVector(1e-2, BATCH, "lowrank"), 1e-3),
    "QES": ("code_shift", bz.RandomVector(1 / 8, 1, "sparse"), 4e-2),
    "fp32": ("all", bz.RandomVector(1e-3, BATCH, "lowrank"), 1e-4),
}


def main() -> None:
    steps, path = int(sys.argv[1]) if len(sys.argv) > 1 else 200, smollm2_file()
    tokenizer = load_tokenizer(path)
    train, test = _foods.reviews(tokenizer, HELD_OUT)
    loss = _foods.words(tokenizer)
    measures = {"loss": loss, "accuracy": Accuracy(loss)}
    rows: dict[str, Any] = {}
    for name, (select, estimator, rate) in SIDES.items():
        model = _foods.model()[0] if name == "fp32" else load_gguf(path, moves="codes" if name == "QES" else "scales")
        per = "example" if estimator.n_directions == BATCH else "step"
        oracle = LossOracle(model, train.shuffled(BATCH, 0), loss, directions_per=per)
        search = bz.Search(bz.Module(model, select), estimator, bz.SGD(rate), seed=0)
        curve, begun = [{"step": 0, **evaluate(model, test, measures)}], time.perf_counter()
        for report in search.run(oracle, steps=steps):
            if (report.step + 1) % EVERY == 0 or report.step + 1 == steps:
                curve.append({"step": report.step + 1, **evaluate(model, test, measures)})
                print(name, curve[-1], round(time.perf_counter() - begun), flush=True)
        rows[name] = {"curve": curve, "seconds": round(time.perf_counter() - begun)}
        RESULT.write_text(json.dumps({"machine": machine(), "steps": steps, "held out": HELD_OUT, **rows}, indent=1))


if __name__ == "__main__":
    main()
