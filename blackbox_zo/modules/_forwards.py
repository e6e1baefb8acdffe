"""Forwards that modules have for a while, in the thread that gives them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

__all__ = ["instead", "lift", "put_back"]

Table: TypeAlias = Mapping[torch.nn.Module, Callable[..., Any]]


class _Active(threading.local):
    def __init__(self) -> None:
        self.tables: list[Table] = []


_active = _Active()


@contextmanager
def instead(table: Table) -> Iterator[None]:
    """Within the context, modules have other forwards. They must not have one of another context in this thread."""
    _active.tables.append(table)
    _put_on(table)
    try:
        yield
    finally:
        _take_off(table)
        _active.tables.remove(table)


def lift() -> list[Table]:
    """Take off all forwards of this thread, because another one goes on."""
    for table in _active.tables:
        _take_off(table)
    return list(_active.tables)


def put_back(lifted: list[Table]) -> None:
    """Give modules these forwards again."""
    for table in lifted:
        _put_on(table)


def _put_on(table: Table) -> None:
    for module, forward in table.items():
        module.__dict__["forward"] = forward


def _take_off(table: Table) -> None:
    for module in table:
        module.__dict__.pop("forward", None)
