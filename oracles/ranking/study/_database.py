"""The tables of a study, and how SQLite and PostgreSQL are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

__all__ = [
    "ANSWERS",
    "LINKS",
    "MEDIA",
    "META",
    "RATERS",
    "ROUNDS",
    "SEARCH",
    "SERVERS",
    "STUDY",
    "VERSION",
    "StoreError",
    "engine_of",
]

VERSION = 2

META = sa.MetaData()
STUDY = sa.Table(
    "study",
    META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("port", sa.Integer),
    sa.Column("created_at", sa.Float, nullable=False),
)
RATERS = sa.Table(
    "raters",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(80)),
    sa.Column("created_at", sa.Float, nullable=False),
)
LINKS = sa.Table(
    "links",
    META,
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("rater", sa.Integer, sa.ForeignKey("raters.id"), index=True),
    sa.Column("session", sa.String(64), unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
)
ROUNDS = sa.Table(
    "rounds",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("purpose", sa.String(8), nullable=False, server_default="search"),
    sa.Column("of", sa.Integer, sa.ForeignKey("rounds.id")),
    sa.Column("question", sa.Text),
    sa.Column("step", sa.Integer, nullable=False, index=True),
    sa.Column("digest", sa.String(32), nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("n_ranked", sa.Integer),
    sa.Column("points", sa.LargeBinary),
    sa.Column("created_at", sa.Float, nullable=False),
)
MEDIA = sa.Table(
    "media",
    META,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("round_id", sa.Integer, sa.ForeignKey("rounds.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("mime", sa.String(40), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("round_id", "position"),
)
SERVERS = sa.Table(
    "servers",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("library", sa.String(40), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
SEARCH = sa.Table(
    "search",
    META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("undo", sa.Integer, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("x", sa.Text, nullable=False),
)
ANSWERS = sa.Table(
    "answers",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("round_id", sa.Integer, sa.ForeignKey("rounds.id"), nullable=False, index=True),
    sa.Column("rater", sa.Integer, sa.ForeignKey("raters.id")),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("shown_order", sa.Text, nullable=False),
    sa.Column("client_id", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ms_spent", sa.Integer),
)


class StoreError(ValueError):
    """The store cannot be opened, or belongs to another study or version."""


def engine_of(where: str) -> sa.Engine:
    """Connections to an SQLite file or to the database of a URL.

    Raises:
        StoreError: The folder does not exist, or the URL names no supported database.
    """
    if "://" in where:
        try:
            url = sa.engine.make_url(where)
            if url.drivername in ("postgresql", "postgres"):
                url = url.set(drivername="postgresql+psycopg")
            return sa.create_engine(url, pool_pre_ping=True, pool_size=10)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            kind = where.partition("://")[0]  # the rest may hold a password
            raise StoreError(f"The store '{kind}://…' is not a usable database: {error}.") from None
    path = Path(where)
    if not path.parent.is_dir():
        raise StoreError(f"The folder of the store {where!r} does not exist.")
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # a reader that turns writer may find the file changed: writers say so at once
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

    return engine
