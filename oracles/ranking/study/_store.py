"""The durable store of a study: its rounds, what was shown, and every answer, in SQLite or PostgreSQL.

Rows are only ever added. An answer is on disk before `add` returns, and counts once for each id that its client made.
Undo is a row; so is the closing of a round, which says what answers the search was given. The record is therefore the
search's journal: run again, the search gets the same answers for the same steps.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from blackbox_zo._paths import expanded
from blackbox_zo._typing import Ints
from oracles.ranking.study._database import ANSWERS, META, SEARCH, STUDY, VERSION, StoreError
from oracles.ranking.study._gallery import Gallery
from oracles.ranking.study._migrate import migrate
from oracles.ranking.study._people import People
from oracles.ranking.study._readings import Readings
from oracles.ranking.study._rounds import Rounds

__all__ = ["Store", "StoreError", "plain"]

RUNNING, PAUSED, FINISHED = "running", "paused", "finished"
"""States of a study."""


class Store(Readings):
    """See the module.

    Args:
        where: The path of an SQLite file, or an SQLAlchemy URL such as "postgresql://user@host/study".
        about: JSON data that describes a new study.
        new: Whether a new study may be made; else it must exist.

    Attributes:
        people: Raters, their links and sessions.
        gallery: What candidates look like.
        rounds: What is asked.

    Raises:
        StoreError: It is not such a record, or of a later version. An older one is migrated, and a copy kept.
    """

    def __init__(self, where: str | Path, about: Any = None, new: bool = True) -> None:
        super().__init__(str(where) if "://" in str(where) else str(expanded(where)))
        try:
            with self.alone() as c:
                if not new and not sa.inspect(c).has_table("study"):
                    raise StoreError(f"{self.name!r} is not the store of a study.")
                migrate(c, self.name)
                META.create_all(c)
                row = c.execute(sa.select(STUDY.c.version, STUDY.c.secret, STUDY.c.about)).first()
                if row is None:
                    values = {"id": 1, "version": VERSION, "secret": secrets.token_hex(32), "state": RUNNING}
                    c.execute(sa.insert(STUDY).values(**values, about=json.dumps(about), created_at=time.time()))
                    row = c.execute(sa.select(STUDY.c.version, STUDY.c.secret, STUDY.c.about)).one()
        except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StoreError(f"The store {self.name!r} cannot be used: {cause}.") from error
        if row.version != VERSION:
            raise StoreError(
                f"The store {self.name!r} is of version {row.version}; this program reads version {VERSION}."
            )
        self.secret, self.about = str(row.secret), json.loads(row.about)
        self.begin()
        self.people = People(self)
        self.gallery = Gallery(self)
        self.rounds = Rounds(self)

    # ------------------------------------------------------------------------------------------------- the search

    def describe(self, about: Mapping[str, Any]) -> None:
        """Note what the study is about; JSON-able. What was noted before under other names stays."""
        self.about = {**(self.about or {}), **about}
        self._set(about=json.dumps(self.about))

    def keep(self, state: Mapping[str, Any], seen: int, x: Any) -> None:
        """Keep the state of the search, so that it need not answer all rounds again to continue.

        Args:
            state: Flat, of arrays and numbers, as `Search.state_dict` gives it.
            seen: The newest undo that the search knows of.
            x: The best so far, in the structure of x0.
        """
        data = io.BytesIO()
        np.savez(data, allow_pickle=False, **{name: np.asarray(value) for name, value in state.items()})
        with self.write() as c:
            c.execute(sa.delete(SEARCH))
            c.execute(sa.insert(SEARCH).values(id=1, undo=seen, state=data.getvalue(), x=json.dumps(plain(x))))

    def kept(self) -> dict[str, Any] | None:
        """The state that was kept last; None without one, or if an answer that it rests on was withdrawn since."""
        with self.read() as c:
            row = c.execute(sa.select(SEARCH.c.undo, SEARCH.c.state)).first()
        with self.record() as record:
            if row is None or record.rewound(row.undo) is not None:
                return None
        with np.load(io.BytesIO(row.state), allow_pickle=False) as found:
            return dict(found)

    @property
    def x(self) -> Any:
        """The best that was kept last; None without one."""
        found = self._setting(SEARCH.c.x)
        return None if found is None else json.loads(found)

    # ------------------------------------------------------------------------------------------------- rows

    def add(self, c: sa.Connection, round_id: int, rater: int | None, kind: str, payload: Any, **more: Any) -> int:
        """Add a row inside a transaction; its id."""
        values = {
            "shown_order": json.dumps(more.get("shown_order", [])),
            "client_id": more.get("client_id") or f"own-{secrets.token_hex(16)}",
            "ms_spent": more.get("ms_spent"),
            "created_at": time.time(),
        }
        key = c.execute(
            sa.insert(ANSWERS).values(round_id=round_id, rater=rater, kind=kind, payload=json.dumps(payload), **values)
        ).inserted_primary_key
        assert key is not None
        return int(key[0])

    # ------------------------------------------------------------------------------------------------- the study

    def order(self, round_id: int, rater: int, n: int) -> Ints:
        """In what order a rater sees a round's candidates: the same whenever it is asked for."""
        seed = hashlib.sha256(f"{self.secret}/{round_id}/{rater}".encode()).digest()
        return np.random.default_rng(np.frombuffer(seed, dtype=np.uint32)).permutation(n)

    def code(self, rater: int) -> str:
        """What a rater shows as a proof of having taken part."""
        return hashlib.sha256(f"{self.secret}/code/{rater}".encode()).hexdigest()[:8].upper()

    @property
    def state(self) -> str:
        """Whether the study is "running", "paused" or "finished"."""
        return str(self._setting(STUDY.c.state))

    @state.setter
    def state(self, state: str) -> None:
        self._set(state=state)

    @property
    def port(self) -> int | None:
        """Where the page was served last, so that open pages find it again."""
        port = self._setting(STUDY.c.port)
        return None if port is None else int(port)

    @port.setter
    def port(self, port: int) -> None:
        self._set(port=port)

    def _setting(self, column: Any) -> Any:
        with self.read() as c:
            return c.execute(sa.select(column)).scalar()

    def _set(self, **values: Any) -> None:
        with self.write() as c:
            c.execute(sa.update(STUDY).values(**values))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def plain(x: Any) -> Any:
    """A point in the structure of x0, its arrays as lists."""
    if isinstance(x, dict):
        return {name: plain(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    return np.asarray(x).tolist()
