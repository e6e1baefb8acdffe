"""The kind of run that a journal holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oracles.kind import Kind
from oracles.options import BadInput

__all__ = ["kind_of"]


def kind_of(header: Mapping[str, Any], path: Path, kinds: Sequence[Kind]) -> Kind:
    """The kind of a journal.

    Raises:
        BadInput: No kind recognises it.
    """
    found = next((kind for kind in kinds if kind.recognises(header)), None)
    if found is None:
        problem = header.get("problem") or {}
        known = ", ".join(kind.name for kind in kinds if kind.name)
        raise BadInput(
            f"'{path}' holds a run of unknown kind {problem.get('kind')!r}; known kinds: {known}. Use the program that "
            "started it."
        )
    return found
