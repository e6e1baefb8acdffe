"""Persons without a browser do not ask whether the study is over."""

from __future__ import annotations

import pytest

from oracles.ranking import _server


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "LINGER", 0.0)
