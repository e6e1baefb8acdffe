"""One side of `llm_quantised.py` in a process of its own: the peak of its anonymous memory while it takes three steps.

It is given the side, qzo, qes or adamw, the file, the numbers of rows and of tokens, and the rows in a pass.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from oracles.llm import Examples, LabelWords, LossOracle


class Peak(threading.Thread):
    """Looks at the anonymous resident memory every few milliseconds, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.on = 0.0, True

    @staticmethod
    def now() -> float:
        """What there is now; pages of files, which the system can take back, are not in it."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024

    def run(self) -> None:
        """Look."""
        while self.on:
            self.most = max(self.most, self.now())
            time.sleep(0.004)


def qzo(path: Path, examples: Examples, loss: LabelWords) -> Any:
    """Steps of a search of the scales."""
    import blackbox_zo as bz
    from blackbox_zo.quantised import load_gguf

    model = load_gguf(path)
    oracle = LossOracle(model, examples.shuffled(len(examples)), loss, micro_batch=int(sys.argv[5]))
    search = bz.Search(bz.Module(model, "scale_shift"), bz.RandomVector(1e-2), bz.SGD(1e-4))
    return iter(search.run(oracle, steps=100))


def qes(path: Path, examples: Examples, loss: LabelWords) -> Any:
    """Steps of a search of the integers."""
    import blackbox_zo as bz
    from blackbox_zo.quantised import load_gguf

    model = load_gguf(path, moves="codes")
    oracle = LossOracle(model, examples.shuffled(len(examples)), loss, micro_batch=int(sys.argv[5]))
    search = bz.Search(bz.Module(model, "code_shift"), bz.RandomVector(1 / 8, 1, "sparse"), bz.SGD(4e-2))
    return iter(search.run(oracle, steps=100))


def adamw(path: Path, examples: Examples, loss: LabelWords) -> Any:
    """Steps of AdamW over all weights in bf16, its states too."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16)
    optimizer, batches = torch.optim.AdamW(model.parameters(), 1e-5), examples.shuffled(len(examples))
    while True:
        loss(model, batches(0)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        yield


def main() -> None:
    side, path, n, tokens = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    rows = torch.randint(100, 40_000, (n, tokens), generator=torch.Generator().manual_seed(0)).tolist()
    examples, loss = Examples(rows, pad=0, label=[i % 2 for i in range(n)]), LabelWords((1219, 8888))
    from blackbox_zo.checkpoints import hollow_gguf

    hollow_gguf(path, torch.float32)  # what both import, and the model without weights
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, steps = Peak.now(), {"qzo": qzo, "qes": qes, "adamw": adamw}[side](path, examples, loss)
    next(steps)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    peak = Peak()
    peak.start()
    begun = time.perf_counter()
    for _ in range(2):
        next(steps)
    seconds = (time.perf_counter() - begun) / 2
    peak.on = False
    peak.join()
    print(json.dumps({"MiB": round(peak.most - before), "seconds a step": round(seconds, 2)}))


if __name__ == "__main__":
    main()
