"""The rounds of a store: those of the search, one for each step, and those that raters are asked beside them."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import sqlalchemy as sa

from blackbox_zo._typing import Floats
from oracles.ranking.study._database import ROUNDS, StoreError
from oracles.ranking.study._readings import Readings
from oracles.ranking.study._record import REPEAT, Round

__all__ = ["Rounds"]

KEPT = 1 << 17
"""Maximum numbers in the points of a round for storing them, for the export."""


class Rounds:
    """The rounds of a store.

    Args:
        store: Holds them.
    """

    def __init__(self, store: Readings) -> None:
        self._store = store

    def open(self, step: int, points: Floats, n_ranked: int | None, seen: int = 0) -> Round:
        """The round of a step, which is made unless it exists.

        Args:
            step: Step of the search.
            points: The candidates, shape (n, d).
            n_ranked: How many places are asked for; None for all.
            seen: The newest undo that the search knows of.

        Raises:
            StoreError: The step was answered about other candidates.
            Rewind: An answer that the search has used was withdrawn after `seen`.
        """
        digest = _digest(points.tobytes())
        with self._store.write() as c:
            with self._store.record(c) as record:
                self._store.check_rewound(record, seen)
                found = record.live(step)
                touched = found is not None and record.touched(found.id)
            if found is not None and found.digest == digest:
                return found
            if touched:
                raise StoreError(
                    f"The store {self._store.name!r} belongs to another study: its step {step} showed other "
                    "candidates. Use the same x0, estimator and seed, or another store."
                )
            return self._add(c, points, step=step, n=len(points), n_ranked=n_ranked, digest=digest)

    def fixed(self, purpose: str, step: int, about: str, n: int, points: Floats | None = None, **more: Any) -> Round:
        """The round of a purpose and number that shows certain candidates, which is made unless it exists.

        Args:
            purpose: Not the search.
            step: Its number among those of its purpose.
            about: What tells its candidates apart from others.
            n: How many there are.
            points: The candidates, shape (n, d); None if they have none.
            **more: Further values of the row.
        """
        digest = _digest(about.encode())
        with self._store.write() as c:
            with self._store.record(c) as record:
                found = record.live(step, purpose)
            if found is not None and found.digest == digest:
                return found
            return self._add(c, points, purpose=purpose, step=step, n=n, digest=digest, **more)

    def again(self, of: Round) -> Round:
        """The round that repeats another."""
        with self._store.write() as c:
            with self._store.record(c) as record:
                found = record.repeat(of.id)
            if found is not None:
                return found
            values = {"step": of.step, "n": of.n, "n_ranked": of.n_ranked, "digest": of.digest}
            return self._add(c, None, purpose=REPEAT, of=of.id, **values)

    def _add(self, c: sa.Connection, points: Floats | None, **values: Any) -> Round:
        kept = None
        if points is not None and points.size <= KEPT:
            kept = np.ascontiguousarray(points, dtype="<f8").tobytes()
        key = c.execute(sa.insert(ROUNDS).values(**values, points=kept, created_at=time.time())).inserted_primary_key
        assert key is not None
        return Round(int(key[0]), **{"n_ranked": None, **values})

    def points(self, round_: Round) -> Floats | None:
        """The points of a round, shape (n, d); None where it has none, or too many to keep."""
        with self._store.read() as c:
            kept = c.execute(sa.select(ROUNDS.c.points).where(ROUNDS.c.id == round_.drawn)).scalar()
        return None if kept is None else np.frombuffer(kept, dtype="<f8").reshape(round_.n, -1)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
