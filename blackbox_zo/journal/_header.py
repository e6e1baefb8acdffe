"""Whether a journal is that of this run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blackbox_zo._describe import spell
from blackbox_zo.errors import JournalError

__all__ = ["compare", "same_start"]

_CHANGE = ", or change the method: `change=True`, or `blackbox-zo resume FILE --method NAME`"


def compare(found: dict[str, Any], mine: dict[str, Any], path: Path, names: Mapping[str, str]) -> None:
    """Refuse the header of another run, and name what differs."""
    found, mine = dict(found), dict(mine)
    found["library"], mine["library"] = (".".join(str(h.get("library")).split(".")[:2]) for h in (found, mine))
    for name in ("library", "format"):  # patch releases never change a number
        if found.get(name) != mine[name]:
            raise JournalError(
                f"Journal '{path}' was written by {name} version {found.get(name)}, this is {mine[name]}. "
                "Resume it with that version, or use another file."
            )
    for name in ("seed", "problem", "estimator", "rule", "dimension", "start", "max_staleness"):
        theirs, ours = found.get(name), mine.get(name)
        if theirs == ours or (name == "start" and same_start(theirs, ours)):
            continue
        called = names.get(name, name)
        whole, owner = {"start": ("variable", "variable's "), "problem": ("problem", "")}.get(name, ("", ""))
        a, b = found.get(whole), mine.get(whole)
        if isinstance(a, dict) and isinstance(b, dict):
            part = next((part for part in (*b, *a) if a.get(part) != b.get(part)), None)
            if part is not None:
                called, theirs, ours = names.get(part, f"{owner}{part}"), a.get(part), b.get(part)
        raise JournalError(
            f"Journal '{path}' belongs to another run: "
            f"its {called} is {_spelt(theirs):.200}, here it is {_spelt(ours):.200}. "
            f"Use another file, or the same arguments as before{_CHANGE if name in ('estimator', 'rule') else ''}."
        )


def same_start(recorded: Any, now: Any) -> bool:
    """Whether a recorded fingerprint is that of this start.

    Journals that say nothing of a model's buffers, after "+", were written before these counted.
    """
    return bool(recorded == now or (isinstance(now, str) and "+" in now and recorded == now.partition("+")[0]))


def _spelt(entry: Any) -> str:
    """A method as it would be typed; anything else as it is in the file."""
    return spell(entry) if isinstance(entry, dict) else repr(entry)
