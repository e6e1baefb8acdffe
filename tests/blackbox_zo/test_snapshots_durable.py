"""Broken and resumed from its snapshots, a search stands where an unbroken twin stands: see `test_durability`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import seed
from hypothesis.stateful import run_state_machine_as_test

import blackbox_zo as bz
from blackbox_zo.journal._snapshots import Snapshots

from .estimators.test_contract import ROWS, Row
from .test_durability import Durable, bounded


class Snapped(Durable):
    """The same, with a snapshot after every move."""

    def opened(self, path: Path | None) -> bz.Journal | None:
        return None if path is None else bz.Journal(path, snapshot_every=1)

    def carry(self, before: Path) -> None:
        for moves, path in Snapshots(before).found().items():
            shutil.copy(path, self.path.with_name(f"{self.path.name}.snapshot-{moves}.safetensors"))


EACH = {type(row.estimator): row for row in reversed(ROWS)}


# a journal that lost its last line may have a snapshot that knows more, or what was told otherwise since
@pytest.mark.filterwarnings("ignore:Snapshot .* is newer than the journal", "ignore:Snapshot .* is of another run")
@pytest.mark.parametrize("row", EACH.values(), ids=lambda row: repr(row.estimator))
def test_resumed_from_its_snapshots_it_stands_where_an_unbroken_twin_stands(row: Row) -> None:
    machine = seed(ROWS.index(row))(type("Snapped", (Snapped,), {"row": row}))
    run_state_machine_as_test(machine, settings=bounded)
