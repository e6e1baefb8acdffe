"""The rendered candidates of a study, stored as bytes under opaque ids."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from oracles.ranking.study._database import MEDIA
from oracles.ranking.study._media import Media
from oracles.ranking.study._record import Round
from oracles.ranking.study._transactions import Transactions

__all__ = ["Candidate", "Gallery"]


@dataclass(frozen=True)
class Candidate:
    """One rendered candidate: an opaque id, its position in the round, and its metadata without the bytes."""

    id: str
    position: int
    kind: str
    mime: str
    note: str


class Gallery:
    """The media of a store.

    Args:
        store: Holds them.
    """

    def __init__(self, store: Transactions) -> None:
        self._store = store
        self._whole: dict[int, list[Candidate]] = {}

    def add(self, round_id: int, drawn: Mapping[int, Media]) -> None:
        """Store rendered candidates, by position."""
        rows = [
            {"id": secrets.token_urlsafe(16), "round_id": round_id, "position": position}
            | {"kind": media.kind, "mime": media.mime, "note": media.note, "data": media.data}
            for position, media in drawn.items()
        ]
        with self._store.write() as c:
            c.execute(sa.insert(MEDIA), rows)

    def candidates(self, round_: Round) -> list[Candidate]:
        """The candidates of a round that are rendered, by position; once all are, they are not read again."""
        round_id = round_.drawn
        if round_id in self._whole:
            return self._whole[round_id]
        columns = (MEDIA.c.id, MEDIA.c.position, MEDIA.c.kind, MEDIA.c.mime, MEDIA.c.note)
        with self._store.read() as c:
            rows = c.execute(sa.select(*columns).where(MEDIA.c.round_id == round_id).order_by(MEDIA.c.position))
            found = [Candidate(*row) for row in rows]
        if len(found) == round_.n:
            self._whole[round_id] = found
        return found

    def at(self, round_: Round, position: int | None) -> Candidate | None:
        """The candidate at a position; None for no position, and where it is not rendered."""
        return next((c for c in self.candidates(round_) if c.position == position), None)

    def texts(self, round_: Round) -> dict[str, str]:
        """The texts and errors of a round, by id."""
        kinds = MEDIA.c.kind.in_(("text", "error"))
        with self._store.read() as c:
            rows = c.execute(sa.select(MEDIA.c.id, MEDIA.c.data).where(MEDIA.c.round_id == round_.drawn, kinds))
            return {row.id: bytes(row.data).decode() for row in rows}

    def media(self, media_id: str) -> Media | None:
        """What an opaque id stands for."""
        with self._store.read() as c:
            row = c.execute(
                sa.select(MEDIA.c.kind, MEDIA.c.mime, MEDIA.c.data, MEDIA.c.note).where(MEDIA.c.id == media_id)
            ).first()
        return None if row is None else Media(row.kind, row.mime, bytes(row.data), row.note)
