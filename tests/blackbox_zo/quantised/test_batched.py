"""All queries of a step over scales or integers are answered while these are decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.quantised import CodedTable, ScaledTable, load_gguf
from oracles.llm import LossOracle
from tests.blackbox_zo.streaming.gguf_files import VOCABULARY, written
from tests.blackbox_zo.streaming.models import _causal

BATCH = {"input_ids": torch.randint(3, VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(1))}


def _answers(path: Path, sweep: Any, per: Any, rank: int) -> Any:
    """The values of a step's queries, from scales that have moved, and why they were not batched."""
    model = load_gguf(path)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in (t.scale_shift for t in model.modules() if isinstance(t, ScaledTable)):
            p.add_(0.01 * torch.randn(p.shape, generator=generator))
    oracle = LossOracle(model, [BATCH], _causal, sweep, per)
    search = bz.Search(bz.Module(model, "scale_shift"), bz.RandomVector(1e-2, 4, "lowrank", rank=rank), bz.SGD(1e-3))
    return oracle.answer(search.ask()), oracle.reason


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize(("per", "rank"), [("step", 1), ("example", 1), ("example", 2)])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_one_pass_for_all_queries(
    kind: str, per: str, rank: int, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values of one pass for each query, for which all scales are moved; also where a layer takes many chunks."""
    from blackbox_zo.quantised import _tables

    monkeypatch.setattr(_tables, "CHUNK", 20_000)
    path = written(tmp_path / "tiny.gguf", (kind,), tied=tied)
    (found, reason), (want, _) = (_answers(path, s, per, rank) for s in ("batched", "scratch"))
    assert not reason
    assert found.values == pytest.approx(want.values, rel=2e-6)
    assert len(set(found.values)) == len(found.values) > 4


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize(("per", "sparsity"), [("step", 64), ("example", 64), ("example", 50), ("example", 1024)])
def test_integers_by_what_they_change(
    kind: str, per: str, sparsity: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values of one pass for each query, which computes all weights; codes at their ends stay there."""
    from blackbox_zo.quantised import _tables

    monkeypatch.setattr(_tables, "CHUNK", 20_000)
    path, found = written(tmp_path / "tiny.gguf", (kind,)), []
    estimator = bz.RandomVector(sparsity**-0.5, 4, "sparse", sparsity=sparsity)
    for sweep in ("batched", "scratch"):
        model, generator = load_gguf(path, moves="codes"), torch.Generator().manual_seed(2)
        with torch.no_grad():
            for p in (t.code_shift for t in model.modules() if isinstance(t, CodedTable)):
                p.add_(4 * torch.randn(p.shape, generator=generator).half())
        oracle = LossOracle(model, [BATCH], _causal, sweep, per)  # type: ignore[arg-type]
        answer: Any = oracle.answer(bz.Search(bz.Module(model, "code_shift"), estimator, bz.SGD(1.0)).ask())
        found.append(answer.values)
        assert not oracle.reason
        x = bz.Module(model, "code_shift")
        proposal = bz.Search(x, estimator, bz.SGD(1.0)).ask()
        hits = Displacements(x, proposal.queries).of.values()
        assert {hit.few for hit in hits} == {sparsity > 256} and all(hit.sparse for hit in hits)
    assert found[0] == pytest.approx(found[1], rel=3e-6)
    assert len(set(found[0])) == len(found[0]) > 4
