"""Acts of many threads in common transactions: each is stored whole or not at all, and few flushes are needed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from oracles.ranking.study._store import Store
from oracles.ranking.study._trouble import StoreUnavailable


def rounds(store: Store, n: int) -> list[int]:
    return [store.rounds.open(step, np.full((2, 2), float(step)), None).id for step in range(n)]


def test_acts_share_transactions_and_one_that_raises_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    ids = rounds(store, 1)
    commits: list[None] = []
    sa.event.listen(store.engine, "commit", lambda c: commits.append(None))
    gate, outcomes = threading.Event(), dict[int, Any]()

    def act(i: int) -> None:
        def add(c: sa.Connection) -> int:
            if i == 0:
                gate.wait(5)  # the others queue up behind the first
            with store.record(c) as record:
                seen = len(record.rows)
            store.add(c, ids[0], None, "close", {"answers": [], "i": i}, client_id=f"client-{i}")
            if i % 5 == 4:
                raise KeyError(i)
            return seen

        try:
            outcomes[i] = store.together(add)
        except KeyError as error:
            outcomes[i] = error

    threads = [threading.Thread(target=act, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    threading.Timer(0.3, gate.set).start()
    for thread in threads:
        thread.join(10)
    assert len(commits) < 8
    failed = {i for i, found in outcomes.items() if isinstance(found, KeyError)}
    assert failed == {4, 9, 14, 19}
    with store.record() as record:
        kept = [row.payload["i"] for row in record.rows.values()]
    assert sorted(kept) == sorted(set(range(20)) - failed)
    assert sorted(found for i, found in outcomes.items() if i not in failed) == list(range(16))  # each saw those before
    store.close()


def test_what_was_read_inside_a_transaction_that_is_lost_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "s.db")
    ids = rounds(store, 1)

    def add(c: sa.Connection) -> None:
        store.add(c, ids[0], None, "close", {"answers": []})
        with store.record(c) as record:
            assert len(record.rows) == 1
        raise sa.exc.OperationalError("COMMIT", {}, Exception("the disk is gone"))

    with pytest.raises(StoreUnavailable, match="the disk is gone"):
        store.together(add)
    with store.record() as record:
        assert not record.rows and len(record.rounds) == 1
    store.close()
