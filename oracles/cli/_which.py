"""Which kind a journal is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oracles.kind import BadInput, Kind

__all__ = ["kind_of"]


def kind_of(header: Mapping[str, Any], path: Path, kinds: Sequence[Kind]) -> Kind:
    """The kind of a journal.

    Raises:
        BadInput: It is of none that this program knows.
    """
    found = next((kind for kind in kinds if kind.recognises(header)), None)
    if found is None:
        problem = header.get("problem") or {}
        known = ", ".join(kind.name for kind in kinds if kind.name)
        raise BadInput(
            f"'{path}' is a run of the kind {problem.get('kind')!r}, which this program does not know; it knows "
            f"{known}. Use the program that began it."
        )
    return found
