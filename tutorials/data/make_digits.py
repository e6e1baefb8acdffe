"""Make `digits.vw.gz`, the handwritten digits of scikit-learn in the text format of Vowpal Wabbit.

Run it as `python make_digits.py`; it needs scikit-learn and writes the same bytes every time.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]

SEED = 0
"""Of the shuffle. A learner that sees each example once would otherwise depend on the order of the source."""


def lines() -> list[str]:
    """One example a line: `label | pixel:value ...`. Labels are 1 to 10 (the digit plus 1), values run from 0 to 1."""
    images, digits = load_digits(return_X_y=True)
    out = []
    for row in np.random.default_rng(SEED).permutation(len(images)):
        pixels = " ".join(f"{i}:{value / 16:g}" for i, value in enumerate(images[row]) if value)
        out.append(f"{digits[row] + 1} | {pixels}\n")
    return out


def main() -> None:
    """Write the file beside this script."""
    target = Path(__file__).with_name("digits.vw.gz")
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:  # no name, no date
        packed.write("".join(lines()).encode())
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
