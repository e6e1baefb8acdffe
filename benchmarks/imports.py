"""Time of `import blackbox_zo` in a fresh interpreter, beside an empty one and `import numpy` alone, in turn.

Run: python benchmarks/imports.py
"""

from __future__ import annotations

import subprocess
import sys
import time

from _common import interleaved, save

CODE = {
    "nothing": "",
    "numpy": "import numpy",
    "blackbox_zo": "import blackbox_zo",
    "nevergrad": "import nevergrad",
    "cmaes": "import cmaes",
}


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    found = interleaved({name: lambda code=code: seconds(code) for name, code in CODE.items()}, rounds=9)
    inside = "import time; a = time.perf_counter(); import blackbox_zo; print(time.perf_counter() - a)"
    runs = sorted(float(subprocess.check_output([sys.executable, "-c", inside])) for _ in range(9))
    heavy = "import sys, blackbox_zo; print(sorted({'torch', 'scipy', 'nevergrad', 'rich'} & set(sys.modules)))"
    save(
        __file__,
        {
            "unit": "seconds, median of 9",
            "import blackbox_zo, inside a running interpreter": round(runs[4], 3),
            "whole process": {name: round(value, 3) for name, value in found.items()},
            "of torch, scipy, nevergrad, rich loaded with it": subprocess.check_output(
                [sys.executable, "-c", heavy], text=True
            ).strip(),
        },
    )


if __name__ == "__main__":
    main()
