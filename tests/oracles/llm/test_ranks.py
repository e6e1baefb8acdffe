"""`LossOracle` shared among ranks: what each takes, and how near all of them come to one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from oracles.llm import LossOracle
from oracles.llm._divided import digest, divide, units_of
from tests.oracles.llm.loss_helpers import net, regression, squares
from tests.oracles.llm.ranks_program import CASES, outcome
from tests.ranks import run


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.booleans(), st.booleans())
def test_every_row_of_every_query_has_one_rank(n: int, m: int, size: int, rows_first: bool, whole: bool) -> None:
    """And none has much more than another; rows that must stay together do."""
    seen = np.zeros((n, m), dtype=int)
    parts = divide(units_of(torch.arange(m).expand(n, m), False), m, size, rows_first=rows_first, whole=whole)
    for queries, columns in parts:
        seen[queries, columns] += 1
        assert not whole or not len(queries) or columns == slice(0, m)
    assert len(parts) == size and (seen == 1).all()
    most = max(len(queries) * (columns.stop - columns.start) for queries, columns in parts)
    assert whole or most <= min(-(-n // size) * m, n * -(-m // size))


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5))
def test_queries_on_one_share_stay_together(shares: int, m: int, size: int) -> None:
    """So that no rank evaluates rows of others."""
    rows = torch.arange(shares * m).view(shares, m)[torch.arange(2 * shares) % shares]
    seen: dict[int, int] = {}
    for rank, (queries, columns) in enumerate(divide(units_of(rows, True), m, size, rows_first=True, whole=False)):
        for row in set(rows[queries][:, columns].flatten().tolist()):
            assert seen.setdefault(row, rank) == rank
    assert sorted(seen) == list(range(shares * m))


def test_a_pair_is_cut_by_queries_or_by_rows() -> None:
    """By queries where each has passes of its own, by rows where one pass answers both."""
    units = units_of(torch.arange(16).expand(2, 16), False)
    by_queries = divide(units, 16, 2, rows_first=False, whole=False)
    assert [(part.queries.tolist(), part.columns) for part in by_queries] == [([0], slice(0, 16)), ([1], slice(0, 16))]
    by_rows = divide(units, 16, 2, rows_first=True, whole=False)
    assert [(p.queries.tolist(), p.columns) for p in by_rows] == [([0, 1], slice(0, 8)), ([0, 1], slice(8, 16))]
    four = divide(units, 16, 4, rows_first=False, whole=False)
    assert [(part.queries.tolist(), part.columns.start) for part in four] == [([0], 0), ([0], 8), ([1], 0), ([1], 8)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """Every case in this process, with as many threads as a rank has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {name: outcome(case, None) for name, case in CASES.items()}
    torch.set_num_threads(before)
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_answer_as_one_process_does(size: int, alone: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """To the bit where passes coincide, else to rounding; and all ranks have the same bits."""
    ranks = run(*([["tests.oracles.llm.ranks_program"]] * size), cwd=tmp_path)
    assert [said.code for said in ranks] == [0] * size, ranks
    first, *others = (json.loads(said.out) for said in ranks)
    assert all(json.dumps(other) == json.dumps(first) for other in others)
    for name, case in CASES.items():
        one, several = alone[name], first[name]
        assert several["forwards"] == one["forwards"], name
        assert several["info"] == one["info"], name
        if case.exact:
            np.testing.assert_array_equal(several["values"], one["values"], err_msg=name)
            assert several["x"] == one["x"], name
        else:
            np.testing.assert_allclose(several["values"], one["values"], rtol=2e-6, err_msg=name)
    assert first["pair, scratch"]["sent"] == 16 and first["pair, rows"]["sent"] == 24
    assert first["fails"]["info"]["error"].startswith("y is ")


def test_a_loss_that_mixes_rows_has_no_more_ranks_than_queries(tmp_path: Path) -> None:
    """Said on all ranks, by name."""
    for said in run(*([["tests.oracles.llm.ranks_program", "too many"]] * 4), cwd=tmp_path):
        assert said.code == 1 and "So 4 ranks cannot share 2 queries; use at most 2." in said.err


def test_what_compares_all_queries_is_refused() -> None:
    """Group-relative rewards compare the answers that different ranks have."""

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return squares(model, batch)

    loss.group_relative = True  # type: ignore[attr-defined]
    ranks = bz.Ranks()
    LossOracle(net(), [regression()], loss, ranks=ranks)
    ranks.size = 2
    with pytest.raises(ValueError, match=r"Several ranks cannot share a loss with `group_relative=True`"):
        LossOracle(net(), [regression()], loss, ranks=ranks)


def test_the_digest_of_a_batch_sees_each_number() -> None:
    """Also in lists, and under which name it is."""
    batch = {"input_ids": torch.arange(6).view(2, 3), "text": ["a", "b"]}
    others = [
        {"input_ids": torch.arange(6).view(3, 2) + torch.eye(3, 2).long(), "text": ["a", "b"]},
        {"input_ids": torch.arange(6).view(2, 3), "text": ["a", "c"]},
        {"labels": torch.arange(6).view(2, 3), "text": ["a", "b"]},
    ]
    assert digest(batch) == digest({name: value for name, value in batch.items()})
    assert len({digest(other) for other in [batch, *others]}) == 4
