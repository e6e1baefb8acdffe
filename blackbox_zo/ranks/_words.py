"""What ranks say of what they are about to do, so that one that differs is noticed."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from blackbox_zo._typing import Ints
from blackbox_zo._version import __version__
from blackbox_zo.proposal import Proposal

__all__ = ["asked_in", "digests_of", "flags_of", "message", "spelt", "versions"]


def versions() -> dict[str, str]:
    """The versions of this package and of those loaded that decide numbers."""
    found = {"blackbox_zo": __version__, "numpy": np.__version__}
    for name in ("torch", "transformers", "peft"):
        if name in sys.modules:
            found[name] = str(sys.modules[name].__version__)
    return {f"version of {name}": version for name, version in found.items()}


def asked_in(proposal: Proposal, m: int) -> dict[str, Any]:
    """What must be the same in a step."""
    queries, key = proposal.queries, getattr(proposal.queries.directions, "key", None)
    h = hashlib.blake2b(digest_size=8)
    for array in (proposal.ids, queries.index):
        h.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    h.update(np.ascontiguousarray(queries.scale, dtype=np.float64).tobytes())
    h.update(f"{type(queries.directions).__name__}{queries.directions.k}{key}".encode())
    return {
        "place in the run": f"step {proposal.step}",
        "number of moves": proposal.variable.version,
        "queries of the step": h.hexdigest(),
        "numbers to tell": m,
    }


def message(flags: int, items: Mapping[str, Any], value: float = 0.0) -> Ints:
    """A control word of 8 bits of flags and a digest in 56, and the bits of a value."""
    digest = hashlib.blake2b(json.dumps(items).encode(), digest_size=7).digest() if items else bytes(7)
    return np.frombuffer(bytes([flags]) + digest + np.float64(value).tobytes(), dtype=np.int64).copy()


def flags_of(words: Ints) -> list[int]:
    return [row.tobytes()[0] for row in words]


def digests_of(words: Ints) -> list[bytes]:
    return [row.tobytes()[1:8] for row in words]


def spelt(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
