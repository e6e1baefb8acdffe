"""A model that runs from a GGUF file whose integers move: error feedback (QES), and the file that is written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.quantised import CodedTable, FrozenTable, _tables, load_gguf, save_gguf
from oracles.llm import LossOracle
from tests.blackbox_zo.streaming.gguf_files import VOCABULARY, by_transformers, gguf, written
from tests.blackbox_zo.streaming.models import _causal
from tests.disks import small_disk

IDS = torch.arange(3, 40)[None] % VOCABULARY
MOVING = ("Q4_0", "Q4_1", "Q8_0")
BITS = {"Q4_0": (0, 15), "Q4_1": (0, 15), "Q8_0": (-128, 127)}
SPARSE = bz.RandomVector(1 / 8, 1, "sparse")


def _tables_of(model: torch.nn.Module) -> dict[str, CodedTable]:
    return {name: table for name, table in model.named_modules() if isinstance(table, CodedTable)}


def _all_codes(table: CodedTable) -> torch.Tensor:
    return table.codes(table.bytes_of(slice(None))).view(table.height, table.width).clone()


def test_at_first_all_is_as_in_the_file(tmp_path: Path) -> None:
    """Though the sums are not 0; and every load draws the same."""
    path = written(tmp_path / "tiny.gguf", (*MOVING, "Q6_K"))
    model, same, frozen = load_gguf(path, moves="codes"), load_gguf(path, moves="codes"), load_gguf(path)
    tables = _tables_of(model)
    assert {table.kind.name for table in tables.values()} == set(MOVING)
    for name, table in tables.items():
        assert torch.equal(table.reader()(slice(None)), frozen.get_submodule(name).reader()(slice(None)))
        shift = table.code_shift.float()
        assert shift.abs().max() < 0.5
        assert abs(float(shift.std()) - 12**-0.5) < 0.01
        assert torch.equal(table.code_shift, same.get_submodule(name).code_shift)
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, frozen(input_ids=IDS).logits)
    assert isinstance(model.model.embed_tokens.table, FrozenTable)
    assert bz.Module(model, "code_shift").fingerprint() == bz.Module(same, "code_shift").fingerprint()


@pytest.mark.parametrize("chunk", [1 << 20, 20_000], ids=["small matrices", "large matrices"])
def test_a_step_of_integers_is_that_of_its_formula(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """f at round(codes + sums ± u), codes of -1, 0 and 1 apart; then sums - η d u, and codes rounded again."""
    monkeypatch.setattr(_tables, "CHUNK", chunk)
    path, rate = written(tmp_path / "tiny.gguf", MOVING), 20.0
    model, batch = load_gguf(path, moves="codes"), {"input_ids": IDS.repeat(2, 1)}
    x = bz.Module(model, "code_shift", rounding="nearest")
    search = bz.Search(x, SPARSE, bz.SGD(rate), seed=2)
    proposal = search.ask()
    u = {b.name: torch.from_numpy(proposal.queries.directions.part(b, 0, 0, b.size).copy()).view(b.shape) / 8
         for b in x.blocks}  # fmt: skip
    assert all(set(t.flatten().tolist()) == {-1.0, 0.0, 1.0} for t in u.values())
    before = {name: p.detach().clone() for name, p in x.parameters.items()}
    values: Any = LossOracle(model, [batch], _causal).answer(proposal)
    search.tell(proposal, values)

    def dense(sums: dict[str, torch.Tensor]) -> float:
        other = by_transformers(path)
        for name, table in _tables_of(model).items():
            lowest, highest = BITS[table.kind.name]
            codes = (_all_codes(table) + sums[f"{name}.code_shift"]).round().clamp(lowest, highest)
            raw = table.bytes_of(slice(None))
            numbers = table.numbers(raw, codes.view(table.height, -1, 32), table.halves(raw, 0))
            other.get_submodule(name.removesuffix(".table")).weight.data.copy_(numbers)
        with torch.no_grad():
            return float(_causal(other, batch).mean())

    ends = [dense({n: (before[n] + sign * t).half().float() for n, t in u.items()}) for sign in (1, -1)]
    assert np.allclose(sorted(values.values), sorted(ends), rtol=1e-5)
    assert abs(ends[0] - ends[1]) > 1e-4
    d = (ends[0] - ends[1]) / (2 / 8)
    for name, p in x.parameters.items():
        assert torch.allclose(p.float(), before[name].float() - rate * d * 8 * u[name].float(), rtol=1e-2, atol=1e-2), (
            name
        )
    with torch.no_grad():
        now = float(_causal(model, batch).mean())
    assert np.isclose(now, dense({n: p.detach().float() for n, p in x.parameters.items()}), rtol=1e-5)


def test_what_a_move_leaves_over_counts_with_the_next(tmp_path: Path) -> None:
    """A thousand moves of a thousandth of a code are one code; after a hundred, one in ten has moved."""
    model = load_gguf(written(tmp_path / "tiny.gguf", ("Q8_0",)), moves="codes")
    x = bz.Module(model, "0.mlp.up_proj.*code_shift")
    (block,), (p,) = x.blocks, x.parameters.values()
    table = model.model.layers[0].mlp.up_proj.table
    codes = _all_codes(table)
    ones = bz.Dense((block,), np.ones((1, block.size)))
    for count in range(1, 1001):
        x.add_(bz.Step(ones, np.array([-1e-3])))
        if count == 100:
            moved = table.moved(table.bytes_of(slice(None)), table.code_shift).view(codes.shape) - codes
            assert set(moved.unique().tolist()) <= {0.0, -1.0, 1.0}
            assert abs(float(moved.abs().mean()) - 0.1) < 0.01
    now = table.moved(table.bytes_of(slice(None)), table.code_shift).view(codes.shape)
    want = (codes + (1 if float(p.mean()) > 0 else -1)).clamp(-128, 127)
    assert float((now == want).float().mean()) > 0.95


def test_the_file_that_is_written_back(tmp_path: Path) -> None:
    """It has the codes that the model runs on, to the bit, and all else of the old one; transformers reads it."""
    path = written(tmp_path / "tiny.gguf", (*MOVING, "Q6_K"))
    raw, model = path.read_bytes(), load_gguf(path, moves="codes")
    save_gguf(model, tmp_path / "same.gguf")
    assert (tmp_path / "same.gguf").read_bytes() == raw
    with torch.no_grad():
        for table in _tables_of(model).values():
            normals = torch.randn(table.code_shift.shape, generator=torch.Generator().manual_seed(1))
            table.code_shift.add_(normals, alpha=3.0)
        assert save_gguf(model, tmp_path / "new.gguf") == 0.0
        new = load_gguf(tmp_path / "new.gguf")
        assert torch.equal(model(input_ids=IDS).logits, new(input_ids=IDS).logits)
        theirs = by_transformers(tmp_path / "new.gguf")(input_ids=IDS).logits
        assert torch.allclose(theirs, model(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)
    kept = {"Q4_0": 2, "Q4_1": 4, "Q8_0": 2}
    size = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}
    old, other = gguf.GGUFReader(path), gguf.GGUFReader(tmp_path / "new.gguf")
    changed = 0
    for a, b in zip(old.tensors, other.tensors, strict=True):
        if (kind := a.tensor_type.name) in kept and a.name != "token_embd.weight":
            scales = [t.data.reshape(-1, size[kind])[:, : kept[kind]] for t in (a, b)]
            assert np.array_equal(*scales), a.name
            changed += not np.array_equal(a.data, b.data)
        else:
            assert np.array_equal(a.data, b.data), a.name
    assert changed == len(_tables_of(model))


def test_a_search_of_codes_resumes_and_lowers_the_loss(tmp_path: Path) -> None:
    """To the same bits: the journal makes the sums again."""
    path, batch = written(tmp_path / "tiny.gguf", MOVING), [{"input_ids": IDS.repeat(2, 1)}]

    def run(steps: int, journal: Path | None) -> Any:
        model = load_gguf(path, moves="codes")
        estimator = bz.RandomVector(1 / 8, 8, "sparse")
        with bz.Search(bz.Module(model, "code_shift"), estimator, bz.SGD(1.0), journal=journal) as search:
            oracle = LossOracle(model, batch, _causal)
            values = [report.value for report in search.run(oracle, steps=steps - search.moves)]
        return model, values

    model, values = run(12, None)
    assert values[-1] < values[0] - 0.01
    run(5, tmp_path / "run.jsonl")
    again, _ = run(12, tmp_path / "run.jsonl")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_what_is_refused(tmp_path: Path) -> None:
    """Another word, a folder that is not there, and one without room."""
    path = written(tmp_path / "tiny.gguf")
    with pytest.raises(ValueError, match="must be one of 'scales', 'codes'; got 'integers'"):
        load_gguf(path, moves="integers")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        load_gguf(path, moves="codes", folder=tmp_path / "none")
    with small_disk(tmp_path / "small", "256k") as small, pytest.raises(OSError, match="the codes take"):
        load_gguf(path, moves="codes", folder=small)
    (tmp_path / "small").rmdir()
    load_gguf(path, moves="codes", folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.gguf"]
