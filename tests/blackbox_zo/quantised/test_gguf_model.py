"""A model that runs from a GGUF file: its numbers, moves of its scales (QZO), and the file that is written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.quantised import FrozenTable, ScaledTable, load_gguf, save_gguf
from oracles.llm import LossOracle
from tests.blackbox_zo.streaming.gguf_files import ALL, VOCABULARY, by_transformers, gguf, quantised, written
from tests.blackbox_zo.streaming.models import _causal

IDS = torch.arange(3, 40)[None] % VOCABULARY
MOVING = ("Q4_0", "Q4_1", "Q8_0")


@pytest.mark.parametrize("kind", ALL)
def test_rows_are_what_gguf_decodes(kind: str) -> None:
    """Of every type, in any order, to the last bit."""
    which, rng = gguf.GGMLQuantizationType[kind], np.random.default_rng(1)
    data = quantised((24, 512), kind, rng)
    want = torch.from_numpy(np.array(gguf.quants.dequantize(data, which), dtype=np.float32))
    raw = torch.from_numpy(np.ascontiguousarray(data).view(np.uint8).reshape(24, -1).copy())
    order = rng.permutation(24)
    table: Any = (ScaledTable if kind in MOVING else FrozenTable)(raw, 512, order, which, 0)
    rows = table.reader()
    assert torch.equal(rows(slice(0, 24)), want[order])
    assert torch.equal(rows(torch.tensor([5, 2, 2])), want[order][[5, 2, 2]])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kinds", [("Q4_1",), ALL], ids=["Q4_1", "all types"])
def test_a_model_from_a_file_computes_what_transformers_does(
    kinds: tuple[str, ...], tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a layer takes many chunks; no weight of a matrix is a parameter."""
    from blackbox_zo.quantised import _tables

    monkeypatch.setattr(_tables, "CHUNK", 5000)
    path = written(tmp_path / "tiny.gguf", kinds, tied=tied)
    model, want = load_gguf(path), by_transformers(path)
    with torch.no_grad():
        assert torch.allclose(model(input_ids=IDS).logits, want(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)
        made = [m.generate(IDS, max_new_tokens=4, do_sample=False, pad_token_id=0) for m in (model, want)]
    assert torch.equal(*made)
    assert all(p.dim() == 1 or n.endswith(".table.scale_shift") for n, p in model.named_parameters())
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))


def _dense(path: Path, shifts: dict[str, torch.Tensor]) -> Any:
    """The model in full precision, with so much added to its scales: the integers, and a product."""
    model, reader = by_transformers(path), gguf.GGUFReader(path)
    bare = load_gguf(path)
    for name, table in bare.named_modules():
        if isinstance(table, ScaledTable):
            with torch.no_grad():
                table.scale_shift.zero_()
                base = table.reader()(slice(None))
                own = table.scales(table.scale_shift, slice(None))
                low = base.view(table.height, -1, 32) * 0
                if table.layout.low is not None:
                    raw = table.bytes_of(slice(None)).numpy().reshape(table.height, -1, table.layout.nbytes)
                    halves = np.ascontiguousarray(raw[..., 2:4]).view(np.float16).astype(np.float32)
                    low = low + torch.from_numpy(halves)
                integers = ((base.view(table.height, -1, 32) - low) / own[..., None]).round()
                moved = own + table.size * shifts[f"{name}.scale_shift"]
                new = integers * torch.where(moved * own < 0, 0.0, moved)[..., None] + low
            target = model.get_submodule(name.removesuffix(".table"))
            target.weight.data.copy_(new.view(table.height, -1))
    del reader
    return model


def test_a_step_of_qzo_is_that_of_its_formula(tmp_path: Path) -> None:
    """f at scales + ε z and - ε z over integers that stay, d clipped, and scales - η d z."""
    path, radius, rate, clip = written(tmp_path / "tiny.gguf", MOVING), 1e-3, 1e-3, 5.0
    model, batch = load_gguf(path), {"input_ids": IDS.repeat(2, 1)}
    x = bz.Module(model, "scale_shift")
    search = bz.Search(x, bz.RandomVector(radius, 1), bz.chain(bz.ClipScalar(clip), bz.SGD(rate)), seed=2)
    proposal = search.ask()
    z = {b.name: torch.from_numpy(proposal.queries.directions.part(b, 0, 0, b.size).copy()).view(b.shape)
         for b in x.blocks}  # fmt: skip
    values: Any = LossOracle(model, [batch], _causal).answer(proposal)
    search.tell(proposal, values)
    ends = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            ends.append(float(_causal(_dense(path, {n: sign * radius * t for n, t in z.items()}), batch).mean()))
    assert np.allclose(sorted(values.values), sorted(ends), rtol=1e-5)
    d = float(np.clip((ends[0] - ends[1]) / (2 * radius), -clip, clip))
    for name, p in x.parameters.items():
        assert torch.allclose(p, (-rate * d * z[name]).float(), rtol=1e-2, atol=1e-9), name


def test_small_moves_add_up_and_are_rounded_once(tmp_path: Path) -> None:
    """A thousand of a ten-millionth of each scale are a ten-thousandth; the fp16 of the file would lose every one."""
    path = written(tmp_path / "tiny.gguf")
    model = load_gguf(path)
    table = model.model.layers[1].mlp.up_proj.table
    own = table.scales(table.scale_shift, slice(None)).detach().clone()
    step = own * 1e-7 / table.size
    assert torch.equal((own + table.size * step).half(), own.half()), "what the file would make of it"
    with torch.no_grad():
        for _ in range(1000):
            table.scale_shift += step
    moved = table.scales(table.scale_shift, slice(None)).detach()
    assert torch.allclose(moved - own, own * 1e-4, rtol=2e-3)
    with torch.no_grad():
        table.scale_shift += own * 0.01 / table.size
    mine = table.scales(table.scale_shift, slice(None)).detach()
    error = save_gguf(model, tmp_path / "new.gguf")
    assert 0 < error < 0.1
    again = load_gguf(tmp_path / "new.gguf").model.layers[1].mlp.up_proj.table
    assert torch.equal(again.scales(again.scale_shift, slice(None)), mine.half().float())
    assert torch.allclose(mine, own * 1.0101, rtol=1e-5)


def test_a_scale_that_would_change_its_sign_is_zero(tmp_path: Path) -> None:
    """Also of Q4_0, whose scales may be negative."""
    model = load_gguf(written(tmp_path / "tiny.gguf", ("Q4_0",)))
    table = model.model.layers[0].mlp.up_proj.table
    own = table.scales(table.scale_shift, slice(None)).detach().clone()
    assert (own < 0).any() and (own > 0).any()
    with torch.no_grad():
        table.scale_shift -= 2 * own / table.size
    assert not table.scales(table.scale_shift, slice(None)).any()
    assert not table.reader()(slice(None)).any()


def test_the_file_that_is_written_back(tmp_path: Path) -> None:
    """Untouched tensors are the same bytes, moved ones what transformers' own loader then reads, and norms too."""
    path = written(tmp_path / "tiny.gguf", (*MOVING, "Q6_K"))
    model, raw = load_gguf(path), path.read_bytes()
    assert save_gguf(model, tmp_path / "same.gguf") == 0.0
    assert (tmp_path / "same.gguf").read_bytes() == raw
    moved = {
        "model.layers.0.self_attn.q_proj": "blk.0.attn_q.weight",
        "model.layers.2.mlp.down_proj": "blk.2.ffn_down.weight",
        "model.embed_tokens": "token_embd.weight",
    }
    tables = {n.removesuffix(".table"): t for n, t in model.named_modules() if isinstance(t, ScaledTable)}
    with torch.no_grad():
        for name in moved.keys() & tables:
            p = tables[name].scale_shift
            p.add_(1e-2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        model.model.norm.weight += 0.5
    save_gguf(model, tmp_path / "new.gguf")
    assert len((tmp_path / "new.gguf").read_bytes()) == len(raw)
    old, new = gguf.GGUFReader(path), gguf.GGUFReader(tmp_path / "new.gguf")
    changed = {a.name for a, b in zip(old.tensors, new.tensors, strict=True) if not np.array_equal(a.data, b.data)}
    assert changed == {moved[n] for n in moved.keys() & tables} | {"output_norm.weight"}
    assert len(changed) > 2
    read, mine = by_transformers(tmp_path / "new.gguf"), load_gguf(tmp_path / "new.gguf")
    with torch.no_grad():
        assert torch.allclose(read(input_ids=IDS).logits, mine(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)
        assert torch.allclose(read(input_ids=IDS).logits, model(input_ids=IDS).logits, rtol=1e-2, atol=1e-2)
    assert path.read_bytes() == raw


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    """The file itself, another model, and as a folder."""
    path = written(tmp_path / "tiny.gguf")
    model = load_gguf(path)
    with pytest.raises(ValueError, match="is the file that the model runs from"):
        save_gguf(model, path)
    with pytest.raises(ValueError, match="takes a model of `load_gguf`"):
        save_gguf(torch.nn.Linear(2, 2), tmp_path / "x.gguf")
    with pytest.raises(ValueError, match="saved by `save_gguf`"):
        model.save_pretrained(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        save_gguf(model, tmp_path / "none" / "x.gguf")
    assert not list(tmp_path.glob("*.partial"))


def test_a_search_of_scales_resumes_and_lowers_the_loss(tmp_path: Path) -> None:
    """To the same bits; and another file is another run."""
    path, batch = written(tmp_path / "tiny.gguf"), [{"input_ids": IDS.repeat(2, 1)}]

    def run(steps: int, journal: Path | None, file: Path = path) -> Any:
        model = load_gguf(file)
        rule = bz.chain(bz.ClipScalar(20.0), bz.SGD(2e-5))
        with bz.Search(bz.Module(model, "scale_shift"), bz.RandomVector(1e-3, 4), rule, journal=journal) as search:
            oracle = LossOracle(model, batch, _causal)
            values = [report.value for report in search.run(oracle, steps=steps - search.moves)]
        return model, values

    model, values = run(12, None)
    assert values[-1] < values[0]
    run(5, tmp_path / "run.jsonl")
    again, _ = run(12, tmp_path / "run.jsonl")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(bz.JournalError):
        run(13, tmp_path / "run.jsonl", written(tmp_path / "other.gguf", ("Q4_0",)))
