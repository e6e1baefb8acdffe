"""The durable store of a study: its rounds, what was shown, and every answer, in SQLite or PostgreSQL.

Rows are only ever added. An answer is on disk before `add` returns, and is counted once per client id. An undo is a
row, and so is the closing of a round, which lists the answers that the search was given. The store is therefore the
journal of the search: run again, the search gets the same answers for the same steps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.errors import Rewind
from oracles.ranking.study._database import ANSWERS, META, ROUNDS, STUDY, VERSION, StoreError, engine_of
from oracles.ranking.study._gallery import Gallery
from oracles.ranking.study._trouble import Trouble
from oracles.ranking.study._visitors import Visitors

__all__ = ["Answer", "Round", "Store", "StoreError"]

KEPT = 1 << 17
"""Maximum numbers in the points of a round for storing them, for the export."""


@dataclass(frozen=True)
class Round:
    """The candidates of a step, as shown to people.

    Attributes:
        id: Id of the row.
        step: Step of the search.
        n: Number of candidates.
        n_ranked: Number of best candidates to rank; None is all.
    """

    id: int
    step: int
    n: int
    n_ranked: int | None


@dataclass(frozen=True)
class Answer:
    """One row: an answer ("rank", "undecided", "none", "skip"), an "undo", or the "close" of a round."""

    id: int
    round_id: int
    rater: str
    kind: str
    payload: Any
    shown_order: list[int]
    client_id: str
    created_at: float
    ms_spent: int | None


class Store:
    """See the module.

    Args:
        where: The path of an SQLite file, or an SQLAlchemy URL such as "postgresql://user@host/study".
        about: JSON data that describes a new study.

    Attributes:
        visitors: Links and sessions.
        gallery: The rendered candidates.

    Raises:
        StoreError: It is not the store of a study, or of another version.
    """

    def __init__(self, where: str | Path, about: Any = None) -> None:
        text = str(where)
        self.engine = engine_of(text)
        self._writer = self.engine.execution_options(write=True)
        self.changed = threading.Condition()
        self._writing = threading.RLock()
        self._opened: tuple[tuple[int, int], list[Round]] = (-1, -1), []
        self.name = text if "://" not in text else sa.engine.make_url(text).render_as_string(hide_password=True)
        self._trouble = Trouble(self.name)
        try:
            with self._transaction() as c:
                META.create_all(c)
                row = c.execute(sa.select(STUDY.c.version, STUDY.c.secret, STUDY.c.about)).first()
                if row is None:
                    values = {"id": 1, "version": VERSION, "secret": secrets.token_hex(32), "created_at": time.time()}
                    c.execute(sa.insert(STUDY).values(**values, about=json.dumps(about)))
                    row = c.execute(sa.select(STUDY.c.version, STUDY.c.secret, STUDY.c.about)).one()
        except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StoreError(f"The store {self.name!r} cannot be used: {cause}.") from error
        if row.version != VERSION:
            raise StoreError(
                f"The store {self.name!r} is of version {row.version}; this program reads version {VERSION}."
            )
        self.secret, self.about = str(row.secret), json.loads(row.about)
        self.visitors = Visitors(self.engine, self.write)
        self.gallery = Gallery(self.engine, self.write)

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that excludes all other writers, in any process; committed at its end.

        Raises:
            StoreUnwritable: The database cannot be written, for example on a full disk.
        """
        with self._trouble.told(), self._transaction() as c:
            yield c

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._writing, self._writer.begin() as c:
            if self.engine.dialect.name == "postgresql":
                c.execute(sa.text("SELECT pg_advisory_xact_lock(812349071)"))
            yield c

    def notify(self) -> None:
        """Wake all threads that wait for a change."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until something may have changed; changes by other servers are seen after `seconds`."""
        with self.changed:
            self.changed.wait(seconds)

    # ------------------------------------------------------------------------------------------------- rounds

    def open_round(self, step: int, points: Floats, n_ranked: int | None, seen: int = 0) -> Round:
        """The round of a step, created if it does not exist.

        Args:
            step: Step of the search.
            points: The candidates, shape (n, d).
            n_ranked: Number of best candidates to rank; None is all.
            seen: The latest undo that the search knows of.

        Raises:
            StoreError: The step has answers about other candidates.
            Rewind: An answer that the search has used was withdrawn after `seen`.
        """
        digest = hashlib.blake2b(np.ascontiguousarray(points).tobytes(), digest_size=16).hexdigest()
        with self.write() as c:
            self.check_rewound(c, seen)
            found = self._live(c, step)
            if found is not None and found.digest == digest:
                return Round(found.id, step, found.n, found.n_ranked)
            if found is not None and c.execute(sa.select(ANSWERS.c.id).where(ANSWERS.c.round_id == found.id)).first():
                raise StoreError(
                    f"The store {self.name!r} belongs to another study: its step {step} showed other candidates. Use "
                    "the same x0, estimator and seed, or another store."
                )
            kept = np.ascontiguousarray(points, dtype="<f8").tobytes() if points.size <= KEPT else None
            row = {"step": step, "digest": digest, "n": len(points), "n_ranked": n_ranked, "points": kept}
            result = c.execute(sa.insert(ROUNDS).values(**row, created_at=time.time()))
            key = result.inserted_primary_key
            assert key is not None
            return Round(int(key[0]), step, len(points), n_ranked)

    def _live(self, c: sa.Connection, step: int) -> Any:
        rows = c.execute(
            sa.select(ROUNDS.c.id, ROUNDS.c.step, ROUNDS.c.digest, ROUNDS.c.n, ROUNDS.c.n_ranked)
            .where(ROUNDS.c.step == step)
            .order_by(ROUNDS.c.id.desc())
            .limit(1)
        ).first()
        return None if rows is None or rows.id in self._void(c) else rows

    def _undos(self, c: sa.Connection, after: int = 0) -> list[dict[str, Any]]:
        """The undos after a row.

        Each has the "answer", the "close" that used it or None, its "step", and in "void" the rounds that followed.
        """
        rows = c.execute(sa.select(ANSWERS.c.payload).where(ANSWERS.c.kind == "undo", ANSWERS.c.id > after))
        return [json.loads(text) for (text,) in rows]

    def _void(self, c: sa.Connection) -> set[int]:
        """Ids of the rounds that followed from withdrawn answers."""
        return {i for undo in self._undos(c) for i in undo["void"]}

    def check_rewound(self, c: sa.Connection, seen: int) -> None:
        """Raise `Rewind` if an answer that a search has used was withdrawn after the row `seen`."""
        steps = [undo["step"] for undo in self._undos(c, seen) if undo["close"] is not None]
        if steps:
            raise Rewind(min(steps))

    def mark(self, c: sa.Connection) -> tuple[int, int]:
        """A pair that changes with every answer and every round: rows are only added, by one writer at a time."""
        answers, rounds = (sa.select(sa.func.max(table.c.id)).scalar_subquery() for table in (ANSWERS, ROUNDS))
        row = c.execute(sa.select(answers, rounds)).one()
        return row[0] or 0, row[1] or 0

    def newest(self, kind: str) -> int:
        """The id of the latest row of a kind; 0 if there is none."""
        with self.engine.connect() as c:
            return int(c.execute(sa.select(sa.func.max(ANSWERS.c.id)).where(ANSWERS.c.kind == kind)).scalar() or 0)

    def open_rounds(self, c: sa.Connection) -> list[Round]:
        """Valid rounds that are not closed, by step; call this before a transaction writes."""
        mark = self.mark(c)
        if mark == self._opened[0]:
            return self._opened[1]
        undos = self._undos(c)
        undone = {undo["close"] for undo in undos}
        closes = c.execute(sa.select(ANSWERS.c.id, ANSWERS.c.round_id).where(ANSWERS.c.kind == "close"))
        gone = {i for undo in undos for i in undo["void"]} | {row.round_id for row in closes if row.id not in undone}
        rows = c.execute(sa.select(ROUNDS.c.id, ROUNDS.c.step, ROUNDS.c.n, ROUNDS.c.n_ranked))
        found = sorted((Round(*row) for row in rows if row.id not in gone), key=lambda r: r.step)
        self._opened = mark, found
        return found

    def rounds(self) -> list[Round]:
        """All valid rounds, by step."""
        with self.engine.connect() as c:
            void = self._void(c)
            rows = c.execute(sa.select(ROUNDS.c.id, ROUNDS.c.step, ROUNDS.c.n, ROUNDS.c.n_ranked).order_by(ROUNDS.c.id))
            found = {row.step: Round(*row) for row in rows if row.id not in void}
        return [found[step] for step in sorted(found)]

    def steps(self) -> dict[int, int]:
        """The step of every round by its id, including void rounds."""
        with self.engine.connect() as c:
            return {row.id: row.step for row in c.execute(sa.select(ROUNDS.c.id, ROUNDS.c.step))}

    def points(self, round_id: int) -> Floats | None:
        """The points of a round, shape (n, d), or None if they were too large to store."""
        with self.engine.connect() as c:
            row = c.execute(sa.select(ROUNDS.c.points, ROUNDS.c.n).where(ROUNDS.c.id == round_id)).one()
        return None if row.points is None else np.frombuffer(row.points, dtype="<f8").reshape(row.n, -1)

    # ------------------------------------------------------------------------------------------------- answers

    def add(self, c: sa.Connection, round_id: int, rater: str, kind: str, payload: Any, **more: Any) -> int:
        """Add a row within a transaction; return its id."""
        values = {
            "shown_order": json.dumps(more.get("shown_order", [])),
            "client_id": more.get("client_id") or f"own-{secrets.token_hex(16)}",
            "ms_spent": more.get("ms_spent"),
            "created_at": time.time(),
        }
        result = c.execute(
            sa.insert(ANSWERS).values(round_id=round_id, rater=rater, kind=kind, payload=json.dumps(payload), **values)
        )
        key = result.inserted_primary_key
        assert key is not None
        return int(key[0])

    def known(self, c: sa.Connection, client_id: str) -> Answer | None:
        """The row with a client id, if there is one."""
        row = c.execute(sa.select(ANSWERS).where(ANSWERS.c.client_id == client_id)).first()
        return None if row is None else _answer(row)

    def rows(self, round_id: int | None = None, c: sa.Connection | None = None) -> list[Answer]:
        """All rows, or those of one round, in order."""
        query = sa.select(ANSWERS).order_by(ANSWERS.c.id)
        if round_id is not None:
            query = query.where(ANSWERS.c.round_id == round_id)
        if c is not None:
            return [_answer(row) for row in c.execute(query)]
        with self.engine.connect() as own:
            return [_answer(row) for row in own.execute(query)]

    def has(self, round_id: int, kind: str) -> bool:
        """Whether a round has a row of a kind."""
        wanted = sa.select(ANSWERS.c.id).where(ANSWERS.c.round_id == round_id, ANSWERS.c.kind == kind).limit(1)
        with self.engine.connect() as c:
            return c.execute(wanted).first() is not None

    # ------------------------------------------------------------------------------------------------- the study

    def order(self, round_id: int, rater: str, n: int) -> Ints:
        """The order in which a rater sees the candidates of a round; always the same."""
        seed = hashlib.sha256(f"{self.secret}/{round_id}/{rater}".encode()).digest()
        return np.random.default_rng(np.frombuffer(seed, dtype=np.uint32)).permutation(n)

    @property
    def port(self) -> int | None:
        """The port of the page's last server, so that open pages find it again."""
        with self.engine.connect() as c:
            port = c.execute(sa.select(STUDY.c.port)).scalar()
        return None if port is None else int(port)

    @port.setter
    def port(self, port: int) -> None:
        with self.write() as c:
            c.execute(sa.update(STUDY).values(port=port))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _answer(row: Any) -> Answer:
    return Answer(
        row.id,
        row.round_id,
        row.rater,
        row.kind,
        json.loads(row.payload),
        json.loads(row.shown_order),
        row.client_id,
        row.created_at,
        row.ms_spent,
    )
