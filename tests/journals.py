"""A journal as plain records, one for each answer or ranking, read without our own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["measures", "read"]


def read(path: Path | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header, and a record per answer; a line for a whole step is taken apart."""
    header, *entries = [json.loads(line) for line in Path(path).read_text().splitlines()]
    records: list[dict[str, Any]] = []
    for entry in entries:
        if "measure" in entry:
            continue
        if "values" not in entry:
            records.append(entry)
            continue
        step, at = entry["step"], entry.get("at", entry["step"])
        records += [{"step": step, "at": at, "id": entry["id"] + i, "value": v} for i, v in enumerate(entry["values"])]
    return header, records


def measures(path: Path | str) -> list[dict[str, Any]]:
    """The lines of measures."""
    entries = [json.loads(line) for line in Path(path).read_text().splitlines()[1:]]
    return [entry for entry in entries if "measure" in entry]
