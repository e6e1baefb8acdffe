"""Runs of `blackbox-zo rank`: people rank what a function renders."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from blackbox_zo._typing import override
from blackbox_zo.journal import JournalReader
from blackbox_zo.tally import Tally
from oracles._files import write
from oracles.kind import Kind, Session
from oracles.options import BadInput
from oracles.page import Page
from oracles.ranking.options import EXAMPLE, OPTIONS
from oracles.ranking.session import RoundTally, StudySession

__all__ = ["RankKind"]

_SQLITE = b"SQLite format 3\x00"


@final
class RankKind(Kind):
    """Studies, recorded in a store instead of a journal."""

    name = "rank"
    help = "ask people to rank what a function renders, on a web page"
    example = EXAMPLE
    extra = "human"
    journaled = False
    record = "--store"
    options = OPTIONS

    @override
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        return StudySession(self, given, settings)

    @override
    def reader(self, name: str) -> JournalReader | None:
        """A database is a study's store."""
        if not _is_store(name):  # a journal is read without SQLAlchemy, which takes long to import
            return None
        try:
            from oracles.ranking.study.reader import StoreReader

            return StoreReader(name)
        except ModuleNotFoundError:
            if "://" in name:
                raise
            return None
        except ValueError as error:  # of the store
            raise BadInput(str(error)) from error

    @override
    def tally(self, header: Mapping[str, Any]) -> Tally:
        """Rounds, and who answered them."""
        return RoundTally((header.get("settings") or {}).get("rounds"))

    @override
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """The winners, time and agreement over the rounds, and the raters."""
        from oracles.ranking.page import page_of
        from oracles.ranking.study.reader import StoreReader

        assert isinstance(reader, StoreReader)
        return page_of(reader)

    @override
    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """The best so far, as JSON."""
        from oracles.ranking.study.reader import StoreReader

        assert isinstance(reader, StoreReader)
        if given.step is not None:
            raise BadInput("--step does not go with a study, which keeps its newest x alone.")
        x = reader.store.x
        if x is None:
            raise BadInput(f"'{reader.path}' has no answered round yet, or a Python program ran the study.")
        write(given.output, json.dumps(x) + "\n")
        yield f"{given.output}: x after {sum(1 for _ in reader)} rounds"


def _is_store(name: str) -> bool:
    """Whether a name is that of a database: a URL, or a file of SQLite."""
    if "://" in name:
        return True
    path = Path(name)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
