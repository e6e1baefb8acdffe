"""Stores of older versions, brought up to date; a copy of the old one is kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from oracles.ranking.study._database import ANSWERS, META, VERSION, StoreError

__all__ = ["migrate"]


def migrate(c: sa.Connection, name: str) -> None:
    """Bring a store up to date, inside a transaction that writes. A new, empty one is left alone.

    Version 1 knew raters by their names, and links as "visitors". The copy is the file with ".v1" appended, or in
    PostgreSQL the tables with "_v1" appended.

    Raises:
        StoreError: Its version is unknown, or the copy cannot be made.
    """
    tables = set(sa.inspect(c).get_table_names())
    if "study" not in tables:
        return
    version = c.execute(sa.text("SELECT version FROM study")).scalar()
    if version in (None, VERSION):
        return
    if version != 1:
        raise StoreError(f"The store {name!r} is of version {version}; this program reads versions 1 and {VERSION}.")
    _copy(c, name)
    old = {t: c.execute(sa.text(f"SELECT * FROM {t} ORDER BY 1")).mappings().all() for t in ("answers", "visitors")}
    c.execute(sa.text("DROP TABLE answers"))
    c.execute(sa.text("DROP TABLE visitors"))
    c.execute(sa.text("ALTER TABLE study ADD COLUMN state VARCHAR(8) NOT NULL DEFAULT 'running'"))
    for column in ("purpose VARCHAR(8) NOT NULL DEFAULT 'search'", '"of" INTEGER', "question TEXT"):
        c.execute(sa.text(f"ALTER TABLE rounds ADD COLUMN {column}"))
    META.create_all(c)
    numbers = _raters(c, old)
    for row in old["visitors"]:
        values = {name: row[name] for name in ("token", "session", "created_at")}
        c.execute(sa.insert(META.tables["links"]).values(**values, rater=numbers[_who(row)]))
    rows = [dict(row) | {"rater": numbers.get(row["rater"]) if row["rater"] else None} for row in old["answers"]]
    if rows:
        c.execute(sa.insert(ANSWERS), rows)
    if c.dialect.name == "postgresql":  # rows were inserted with their numbers
        c.execute(sa.text("SELECT setval(pg_get_serial_sequence('answers', 'id'), coalesce(max(id), 1)) FROM answers"))
    c.execute(sa.text(f"UPDATE study SET version = {VERSION}"))


def _who(visitor: Any) -> str:
    """What a visitor of version 1 is told apart by: the name, or else the link."""
    return str(visitor["rater"] or visitor["token"])


def _raters(c: sa.Connection, old: dict[str, Any]) -> dict[str, int]:
    """A rater for each name, and for each link without one; their numbers."""
    named = [row["rater"] for row in old["answers"] if row["rater"]] + [row["rater"] for row in old["visitors"]]
    first = min((row["created_at"] for row in old["visitors"]), default=0.0)
    out = dict[str, int]()
    wanted = {name: name for name in named if name} | {_who(row): row["rater"] for row in old["visitors"]}
    for who, name in wanted.items():
        key = c.execute(sa.insert(META.tables["raters"]).values(name=name, created_at=first)).inserted_primary_key
        assert key is not None
        out[who] = int(key[0])
    return out


def _copy(c: sa.Connection, name: str) -> None:
    if c.dialect.name != "sqlite":
        for table in ("study", "rounds", "answers", "visitors"):
            c.execute(sa.text(f"CREATE TABLE {table}_v1 AS TABLE {table}"))
        return
    copy = Path(f"{name}.v1")
    if copy.exists():
        raise StoreError(f"The store {name!r} is of version 1; its copy would be {str(copy)!r}, which exists. Move it.")
    with sqlite3.connect(name) as source, sqlite3.connect(copy) as target:
        source.backup(target)
