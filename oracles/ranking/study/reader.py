"""A study's store, read as the record of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blackbox_zo._typing import override
from blackbox_zo.journal import FORMAT, Answers, JournalReader, Line
from oracles.ranking.study._record import Round
from oracles.ranking.study._store import Store
from oracles.ranking.study._study import Study

__all__ = ["StoreReader"]

_ABOUT = ("title", "question", "seed", "estimator", "dimension", "library", "numpy")


class StoreReader(JournalReader):
    """Gives a line for each round that is over, with its rankings; the first note says who answered, and how fast.

    Args:
        name: Path of an SQLite file, or a URL.

    Attributes:
        store: The store.

    Raises:
        StoreError: It is not a study.
    """

    def __init__(self, name: str) -> None:
        self.store = Store(name, new=False)
        self.study = Study(self.store, 1)
        self.path = Path(name.rpartition("/")[2] if "://" in name else name)
        about = self.store.about if isinstance(self.store.about, dict) else {}
        self.header: dict[str, Any] = {
            "format": FORMAT,
            "problem": {"kind": "rank"},
            "settings": about.get("settings") or {},
            **{name: about.get(name) for name in _ABOUT},
        }

    @override
    def __iter__(self) -> Iterator[Line]:
        return (line for _, line in self._closed())

    @override
    def follow(self, seconds: float = 0.2) -> Iterator[Line | None]:
        told = set[int]()
        while True:
            for number, line in self._closed(told):
                told.add(number)
                yield line
            yield None
            time.sleep(seconds)

    def _closed(self, told: set[int] | frozenset[int] = frozenset()) -> Iterator[tuple[int, Line]]:
        with self.store.record() as record:
            closes = [(round_, record.close(round_.id)) for round_ in record.holding()]
        new = [(round_, close.id) for round_, close in closes if close is not None and close.id not in told]
        names = self.store.people.names() if new else {}
        for round_, number in new:
            line = self._line(round_, names)
            if line is not None:
                yield number, line

    def _line(self, round_: Round, names: dict[int, str]) -> Line | None:
        closed = self.study.closed(round_)
        if closed is None:  # withdrawn since
            return None
        said = {names[rater]: closed.seconds.get(rater) for rater in closed.said}
        levels = [ranking.levels[0].tolist() for ranking in closed.said.values()] or [[0] * round_.n]
        info: list[Mapping[str, Any] | None] = [{"said": said}, *[None] * (round_.n - 1)]
        return Answers(round_.step, round_.step, list(range(round_.n)), None, levels=levels, info=info)

    def close(self) -> None:
        """Close the store."""
        self.store.close()
