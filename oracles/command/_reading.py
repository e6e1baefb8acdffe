"""Where a program's number is found: its output, a field of its JSON, or a file it writes."""

from __future__ import annotations

import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

from blackbox_zo._paths import expanded
from blackbox_zo._typing import override
from oracles.command._program import LIMIT
from oracles.command._template import Template

__all__ = ["Reader", "Unreadable", "lines_of", "reader_of"]


class Unreadable(Exception):
    """The program succeeded, but its number was not where it should be; says what was found instead."""


class Reader(ABC):
    """Reads the number of a run."""

    def before(self, values: Mapping[str, object]) -> Any:
        """Called before the run with the values of its placeholders; `number` gets the result."""
        del values

    @abstractmethod
    def number(self, stdout: str, stderr: str, before: Any) -> float:
        """The number, which may be NaN.

        Raises:
            Unreadable: There is no number.
        """


def reader_of(read: str, known: Iterable[str], cwd: str | None, workers: int) -> Reader:
    """The reader that `read` specifies; see `CommandOracle`.

    Args:
        read: "last", "json:a.b", "file:PATH" or "regex:PATTERN".
        known: Names that a path may use in braces.
        cwd: The folder of the program, which a path starts from.
        workers: Number of programs at a time.

    Raises:
        ValueError: `read` is none of these, or cannot work.
    """
    kind, _, what = str(read).partition(":")
    if read == "last":
        return _Last()
    if kind == "json" and what and all(what.split(".")):
        return _Json(what)
    if kind == "regex" and what:
        try:
            pattern = re.compile(what, re.MULTILINE)
        except re.error as error:
            raise ValueError(f"`read={read!r}` is not a regular expression: {error}.") from None
        if not pattern.groups:
            raise ValueError(f"`read={read!r}` has no group; put the number in parentheses, such as (\\S+).")
        return _Regex(pattern)
    if kind == "file" and what:
        path = Template([what], known, f"`read={read!r}`")
        if workers > 1 and "id" not in path.names:
            raise ValueError(f"`read={read!r}` is one file for {workers} programs at a time; put {{id}} in its name.")
        return _File(path, cwd)
    raise ValueError(f"`read` must be 'last', 'json:a.b', 'file:PATH' or 'regex:PATTERN', got {read!r}.")


def lines_of(text: str) -> list[str]:
    """The lines that are not blank; a carriage return, as progress bars use it, ends a line too."""
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@final
class _Last(Reader):
    @override
    def number(self, stdout: str, stderr: str, before: Any) -> float:
        del stderr, before
        return _last_number(stdout, "stdout")


@final
class _Json(Reader):
    def __init__(self, path: str) -> None:
        self._path = path

    @override
    def number(self, stdout: str, stderr: str, before: Any) -> float:
        del stderr, before
        found = _json(stdout)
        for key in self._path.split("."):
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and re.fullmatch(r"-?\d+", key) and -len(found) <= int(key) < len(found):
                found = found[int(key)]
            else:
                there = f" ({', '.join(map(str, found))[:200]})" if isinstance(found, dict) else ""
                raise Unreadable(f"no field {self._path!r} in the JSON: {key!r} is not in {_kind(found)}{there}")
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise Unreadable(f"field {self._path!r} of the JSON is {_kind(found)}, not a number")
        return _float(found)


@final
class _Regex(Reader):
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    @override
    def number(self, stdout: str, stderr: str, before: Any) -> float:
        del before
        both = stdout + ("" if stdout.endswith("\n") or not stdout else "\n") + stderr
        last = deque(self._pattern.finditer(both), maxlen=1)
        text = last[0].group(1) if last else None
        if text is None:
            raise Unreadable(f"no match of {self._pattern.pattern!r} in the output")
        try:
            return float(text)
        except ValueError:
            raise Unreadable(f"{self._pattern.pattern!r} matched {text[:80]!r}, which is not a number") from None


@final
class _File(Reader):
    def __init__(self, path: Template, cwd: str | None) -> None:
        self._path, self._folder = path, Path(cwd or "")

    @override
    def before(self, values: Mapping[str, object]) -> tuple[Path, Any]:
        """Note the state of the file, so that a file left by an earlier run is not mistaken for an answer."""
        path = self._folder / expanded(self._path.fill(values)[0])
        mark = _mark(path)
        while mark is not None and 0 <= time.time() - mark[0] / 1e9 < 0.02:  # the clock of a disk is coarse
            time.sleep(0.005)
            mark = _mark(path)
        return path, mark

    @override
    def number(self, stdout: str, stderr: str, before: Any) -> float:
        del stdout, stderr
        path, mark = before
        now = _mark(path)
        if now is None:
            raise Unreadable(f"the program wrote no file {str(path)!r}")
        if now == mark:
            raise Unreadable(f"file {str(path)!r} is left over from an earlier run; this run did not write it")
        try:
            with path.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LIMIT, 0))
                text = file.read().decode(errors="replace")
        except OSError as error:
            raise Unreadable(f"file {str(path)!r} cannot be read: {error.strerror}") from None
        return _last_number(text, f"file {str(path)!r}")


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written or replaced, its time first; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _last_number(text: str, where: str) -> float:
    lines = lines_of(text)
    if not lines:
        raise Unreadable(f"{where} is empty; its last line must end with the number")
    try:
        return float(lines[-1].split()[-1])
    except ValueError:
        raise Unreadable(f"the last line of {where} does not end with a number: {lines[-1].strip()[:120]!r}") from None


def _json(stdout: str) -> Any:
    """The last line that is a JSON object or list, or else all of the output."""
    for text in (*reversed(lines_of(stdout)), stdout):
        if text.lstrip()[:1] in ("{", "["):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                pass
    raise Unreadable("no line of stdout is a JSON object")


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _kind(found: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(found), "a number")
