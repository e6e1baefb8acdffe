"""Rows of a data file, and the text that a template makes of a row."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from blackbox_zo._paths import expanded
from oracles.llm._tables import parquet

__all__ = ["RowError", "Template", "field_to_learn", "is_nothing", "read_rows", "unescaped"]

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}:]*)(?::([^{}]*))?\}|[{}]")
_LIMIT = re.compile(r"[1-9][0-9]*t?")


class RowError(ValueError):
    """A row of the data cannot be used.

    Args:
        row: Index of the row, from 0.
        trouble: What is wrong; the message is `rows[row]` followed by this text.
    """

    def __init__(self, row: int, trouble: str) -> None:
        super().__init__(f"rows[{row}]{trouble}")
        self.row, self.trouble = row, trouble


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the rows of a data file.

    Args:
        path: A .jsonl file with one object per line, a .json file with a list of objects, or a .csv or .tsv file whose
            first line names the fields, all encoded in UTF-8; or a .parquet file, which needs pyarrow or fastparquet.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file has another extension, is empty, is not UTF-8, or has a malformed line or row.
        ModuleNotFoundError: It is a .parquet file, and no package that reads it is installed.
    """
    path = expanded(path)
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"File {str(path)!r}: the name must end in {', '.join(readers)}.")
    if not path.is_file():
        raise FileNotFoundError(f"File {str(path)!r} does not exist; check the path.")
    try:
        rows = reader(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"File {str(path)!r} is not UTF-8 text ({error.reason}); save it as UTF-8.") from None
    if not rows:
        raise ValueError(f"File {str(path)!r} has no rows; it is empty.")
    return rows


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"Line {number} of {str(path)!r}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{where} is not JSON: {error}; write one object per line.") from None
                rows.append(_object(row, where))
    return rows


def _json(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return []
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"Line {error.lineno} of {str(path)!r} is not JSON: {error}.") from None
    if not isinstance(rows, list):
        raise ValueError(f"File {str(path)!r} must hold a list of objects, got {type(rows).__name__}.")
    return [_object(row, f"Row {i} of {str(path)!r}, counted from 0,") for i, row in enumerate(rows)]


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f'{where} must be an object such as {{"text": "…", "label": "…"}}, got {row!r:.80}.')
    return row


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            names = next(lines, [])
            if len(set(names)) < len(names):
                raise ValueError(f"The first line of {str(path)!r} must have different names, got {names}.")
            return [_named(names, line, f"Line {lines.line_num} of {str(path)!r}") for line in lines if line]
        except csv.Error as error:
            raise ValueError(f"Line {lines.line_num} of {str(path)!r} cannot be read: {error}.") from None


def _named(names: list[str], values: list[str], where: str) -> dict[str, Any]:
    if len(values) != len(names):
        raise ValueError(f"{where} has {len(values)} fields, but the first line names {len(names)}: {names}.")
    return dict(zip(names, values, strict=True))


def field_to_learn(row: Mapping[str, Any]) -> str:
    """The field, by trl's names, that says what a row is: that of a conversation, "prompt", or "" for none."""
    found = next((name for name in ("messages", "conversations") if name in row), "")
    return found or ("prompt" if "prompt" in row and "completion" in row else "")


def unescaped(text: str) -> str:
    r"""A text as it is typed in a shell, with `\n`, `\t`, `\r` and `\\` as in Python; other backslashes are kept."""
    return re.sub(r"\\([ntr\\])", lambda found: {"n": "\n", "t": "\t", "r": "\r"}.get(found[1], "\\"), text)


@final
@dataclass(frozen=True)
class Template:
    """Text with placeholders for the fields of a row.

    Args:
        text: `{name}` is replaced by the field, `{name:57}` by its first 57 characters, and `{name:57t}` by its first
            57 tokens, counted on the field alone. `{{` and `}}` are literal braces.

    Attributes:
        names: Names of the fields.
        tail: The text after the last field.

    Raises:
        ValueError: A brace is unmatched, a field has no name, or a limit is not a positive number.

    Example:
        >>> Template("{text:12} It was").fill({"text": "Too salty for me."})
        'Too salty fo It was'
    """

    text: str
    names: tuple[str, ...] = field(init=False)
    tail: str = field(init=False)
    _pieces: tuple[tuple[str, str, str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pieces, tail = self._parse()
        object.__setattr__(self, "_pieces", pieces)
        object.__setattr__(self, "names", tuple(name for _, name, _ in pieces))
        object.__setattr__(self, "tail", tail)

    def _parse(self) -> tuple[tuple[tuple[str, str, str], ...], str]:
        """The text as a list of (plain text, the field after it, the field's limit), and the text after the last."""
        pieces, plain, at = [], "", 0
        for match in _PIECE.finditer(self.text):
            plain, at = plain + self.text[at : match.start()], match.end()
            found, name, limit = match.group(), match.group(1), match.group(2)
            if found in ("{{", "}}"):
                plain += found[0]
            elif not name:
                raise ValueError(
                    f"The template {self.text!r} has {found!r} without a field; write {{name}}, or {{{{ and }}}}."
                )
            elif limit is not None and not _LIMIT.fullmatch(limit):
                raise ValueError(
                    f"The template {self.text!r}: {found} must end in a number of characters, such as {{{name}:57}}, "
                    f"or of tokens, such as {{{name}:57t}}."
                )
            else:
                pieces.append((plain, name, limit or ""))
                plain = ""
        return tuple(pieces), plain + self.text[at:]

    def fill(self, row: Mapping[str, Any], tokenizer: Any = None, index: int = 0) -> str:
        """Fill in the fields of a row.

        Args:
            row: The fields by name.
            tokenizer: Required if a limit is in tokens.
            index: Index of the row, for error messages.

        Raises:
            ValueError: A field is missing, null or empty, or neither text nor a number; or a limit in tokens has no
                tokenizer.
        """
        parts = [text + _cut(self._value(row, name, index), limit, tokenizer) for text, name, limit in self._pieces]
        return "".join(parts) + self.tail

    def uncut(self, row: Mapping[str, Any]) -> str:
        """A row whose fields can be filled in, filled in without their limits."""
        return "".join(text + str(row[name]) for text, name, _ in self._pieces) + self.tail

    def _value(self, row: Mapping[str, Any], name: str, index: int) -> str:
        value = row.get(name)
        if trouble := is_nothing(value):
            if name not in row:
                trouble = f"is missing; the row has {', '.join(map(repr, row))}"
            raise RowError(index, f": field {name!r} of the template {self.text!r} {trouble}.")
        if not isinstance(value, str | int | float):
            raise RowError(index, f": field {name!r} must be text or a number, got {value!r:.80}.")
        return str(value)


def is_nothing(value: Any) -> str:
    """What is wrong with a field that holds nothing, "" if it holds something. In CSV, what is null is empty."""
    if value is None or value != value:  # NaN is what pandas makes of null
        return "is null; leave the row out"
    return "is empty; leave the row out" if isinstance(value, str) and not value.strip() else ""


def _cut(value: str, limit: str, tokenizer: Any) -> str:
    """The field, truncated to its limit."""
    if not limit:
        return value
    if not limit.endswith("t"):
        return value[: int(limit)]
    if tokenizer is None:
        raise ValueError(f"The limit {limit!r} of a field is in tokens; pass the tokenizer to `fill`.")
    most = int(limit[:-1])
    found = tokenizer(value, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    if len(found["input_ids"]) <= most:
        return value
    if not tokenizer.is_fast:
        return str(tokenizer.decode(found["input_ids"][:most]))
    end, next_start = found["offset_mapping"][most - 1][1], found["offset_mapping"][most][0]
    return value[: min(end, next_start)]  # never split a character that spans several tokens
