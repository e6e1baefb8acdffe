"""The virtual best solver of COCO's reference data, as shares: `oracles/bench/vbs.json`.

For each function, dimension and target COCO has the least expected running time of all solvers of some years. A target
counts at a budget when that time is within it. 51 targets, 1e2 to 1e-8, as in `bbob.py`.
Run: pip download --no-deps --no-binary :all: cocopp==2.9.1; python benchmarks/vbs.py cocopp-2.9.1.tar.gz
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np

from oracles.bench.problem import TARGETS

SUITES = {
    "bbob": ("best09-16-bbob", (5, 10, 20, 40), "solvers of 2009 to 2016"),
    "bbob-largescale": ("best2019-bbob-largescale", (160, 640), "eleven CMA-ES and L-BFGS of 2019"),
}
BUDGETS = sorted({1, 3, 10, 30, 100, 300, 1000, 3000, 10_000} | {round(10 ** (k / 10), 2) for k in range(41)})


def times(text: str) -> np.ndarray:
    """Expected running time to each target, infinite if none reached it."""
    rows = [line.split()[:2] for line in text.splitlines() if line and not line.startswith("%")]
    found = np.array([(float(time), float(target)) for time, target in rows if float(time) < np.inf])
    reached = [found[found[:, 1] <= target * (1 + 1e-9), 0] for target in TARGETS]
    return np.array([r.min() if len(r) else np.inf for r in reached])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sdist", type=Path, help="cocopp-2.9.1.tar.gz")
    path = parser.parse_args().sdist
    result: dict = {
        "from": f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}",
        "what": "share of 24 functions x 51 targets, 1e2 to 1e-8, whose expected running time is within budget * d",
        "budgets": BUDGETS,
        "suites": {},
    }
    with tarfile.open(path) as sdist:
        for suite, (name, dimensions, who) in SUITES.items():
            member = next(m for m in sdist.getnames() if m.endswith(f"/refalgs/{name}.tar.gz"))
            shares = {}
            with tarfile.open(fileobj=io.BytesIO(sdist.extractfile(member).read())) as inner:
                for d in dimensions:
                    texts = {
                        int(re.search(r"_f(\d+)_", m)[1]): inner.extractfile(m).read().decode()
                        for m in inner.getnames()
                        if m.endswith(f"_d{d:02}.dat")
                    }
                    all_times = np.array([times(texts[f]) for f in sorted(texts)])
                    shares[str(d)] = [round(float((all_times <= b * d).mean()), 4) for b in BUDGETS]
                    at = {b: shares[str(d)][BUDGETS.index(b)] for b in (10, 30, 100, 300, 1000, 10_000)}
                    print(f"{suite}, d = {d}, {len(texts)} functions: {at}")
            result["suites"][suite] = {"data": name, "who": who, "shares": shares}
    out = Path(__file__).parent.parent / "oracles" / "bench" / "vbs.json"
    out.write_text(json.dumps(result).replace("], ", "],\n").replace("}, ", "},\n") + "\n")


if __name__ == "__main__":
    main()
