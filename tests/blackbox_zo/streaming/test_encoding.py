"""Weights that are held in fewer bits: what that loses, that moves are right on average, and one result wherever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo.modules._rounding import halves_of
from blackbox_zo.streaming._encoding import ENCODINGS, GROUP, Encoding
from tests.blackbox_zo.streaming.models import loaded, same_weights, saved, search_of, values_of

LOWRANK = bz.RandomVector(1e-3, 2, "lowrank")
GAUSSIAN = bz.RandomVector(1e-3, 2, "gaussian")
NAME = "llama tied"
KINDS = list(ENCODINGS)


def _through(encoding: Encoding, x: torch.Tensor, move: int | None = None) -> torch.Tensor:
    codes, out = torch.empty(encoding.bytes_for(len(x)), dtype=torch.uint8), torch.empty(len(x))
    encoding.encode(x, codes, None if move is None else halves_of([(move, "a", 0)]))
    encoding.decode(codes, out)
    return out


@pytest.mark.parametrize(("kind", "most", "size"), [("bf16", 0.002, 2.0), ("fp8", 0.03, 1.07), ("int8", 0.008, 1.07)])
def test_what_encoding_loses(kind: str, most: float, size: float) -> None:
    """The relative error of normal numbers, and the bytes of each."""
    encoding, x = ENCODINGS[kind], torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 0.02
    assert most / 3 < float((_through(encoding, x) - x).norm() / x.norm()) < most
    assert encoding.bytes_for(len(x)) <= size * len(x)
    assert torch.equal(_through(encoding, torch.zeros(7)), torch.zeros(7))
    assert _through(encoding, torch.tensor([1.0, torch.nan]))[1].isnan()


@pytest.mark.parametrize("kind", KINDS)
def test_random_rounding_is_right_on_average(kind: str) -> None:
    """Of numbers of all sizes, the smallest ones among them; and each is one of its two neighbours."""
    x = torch.randn(512, generator=torch.Generator().manual_seed(1)) * torch.logspace(-6, 0, 512)
    tried = torch.stack([_through(ENCODINGS[kind], x, move) for move in range(2000)])
    spread = tried.std(0) / 2000**0.5
    assert ((tried.mean(0) - x).abs() <= 5 * spread + 2e-4 * x.abs()).all()
    assert all(len(set(column.tolist())) <= 2 for column in tried.T)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=3 * GROUP))
def test_an_error_is_at_most_half_a_step(numbers: list[float]) -> None:
    """Of int8, whose steps are equal; the largest number of a group is exact but for fp32."""
    x = torch.tensor(numbers)
    out = _through(ENCODINGS["int8"], x)
    for group, found in ((x[a : a + GROUP], out[a : a + GROUP]) for a in range(0, len(x), GROUP)):
        top = float(group.abs().max())
        assert float((found - group).abs().max()) <= top / 254 * (1 + 1e-3) + 1e-37


def _reference(folder: Path, estimator: bz.Estimator, kind: str, every: int, steps: int) -> tuple[Any, list[float]]:
    """The same run in memory: weights are rounded at the start, and after every so many moves."""
    model, encoding = loaded(NAME, folder), ENCODINGS[kind]
    x = bz.Module(model)
    with bz.StreamedModule.from_pretrained(folder) as streamed:
        entries = streamed.entries

    def round_all(version: int | None) -> None:
        for entry in entries:
            memory = torch.empty(entry.nbytes, dtype=torch.uint8)
            mine = [model.get_parameter(name) for name in entry.names]
            for tensor, p in zip(entry.tensors(memory), mine, strict=True):
                tensor.copy_(p.detach())
            encoding.encode_(entry, memory, version)
            for tensor, p in zip(entry.tensors(memory), mine, strict=True):
                p.data.copy_(tensor)

    round_all(None)
    search, oracle = search_of(NAME, x, estimator)
    values = []
    for report in search.run(oracle, steps=steps):
        values.append(report.value)
        if x.version % every == 0:
            round_all(x.version)
    return model, values


HOWS: list[dict[str, Any]] = [{}, {"budget": "520kB"}, {"store": "host"}, {"budget": "1GB"}]


@pytest.mark.parametrize(("every", "steps"), [(1, 3), (16, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_one_result_wherever_the_weights_are(kind: str, every: int, steps: int, tmp_path: Path) -> None:
    """Whatever stays in memory and whoever has read what when: that of the same run in memory, to the last bit."""
    folder = saved(NAME, tmp_path / "model")
    model, values = _reference(folder, LOWRANK, kind, every, steps)
    for how in HOWS:
        more: dict[str, Any] = {"transfer_dtype": kind, "log_structured": every > 1, **how}
        with bz.StreamedModule.from_pretrained(folder, **more) as x:
            assert values_of(NAME, x, LOWRANK, steps) == values, how
            assert same_weights(x, model), how


def test_a_run_resumes_between_two_roundings(tmp_path: Path) -> None:
    """From the folder, which has the weights as they were last rounded, or from the journal alone."""
    folder = saved(NAME, tmp_path / "model")
    model, values = _reference(folder, GAUSSIAN, "int8", 16, 36)
    how: dict[str, Any] = {"transfer_dtype": "int8", "log_structured": True, "budget": "520kB"}
    journal, moved = tmp_path / "run.jsonl", tmp_path / "moved"
    found, errors = list[float](), set[float]()
    for steps, weights in ((18, moved), (34, moved), (36, None)):
        with bz.StreamedModule.from_pretrained(folder, weights=weights, **how) as x:
            found += values_of(NAME, x, GAUSSIAN, steps, journal=journal)
            errors.add(x.error)
            if weights is not None and steps == 34:
                x.settle()
                assert {x.store.version(entry) for entry in x.entries} == {32}
    assert found == values
    assert len(errors) == 1 and 0.003 < errors.pop() < 0.01
    with bz.StreamedModule.from_pretrained(folder, weights=moved, **how) as x:
        values_of(NAME, x, GAUSSIAN, 36, journal=journal)
        assert same_weights(x, model)


def test_encoded_weights_that_are_damaged_are_encoded_again(tmp_path: Path) -> None:
    """Those that have not moved yet; the checkpoint has them."""
    folder, moved = saved(NAME, tmp_path / "model"), tmp_path / "moved"
    with bz.StreamedModule.from_pretrained(folder, weights=moved, transfer_dtype="fp8") as x:
        before = {name: p.clone() for name, p in x.whole()}
    file = moved / "0001.weights"
    raw = bytearray(file.read_bytes())
    raw[8192 + 100] ^= 1
    file.write_bytes(raw)
    with (
        bz.StreamedModule.from_pretrained(folder, weights=moved, transfer_dtype="fp8") as x,
        pytest.warns(UserWarning, match="checksum"),
    ):
        assert all(torch.equal(p, before[name]) for name, p in x.whole())


def test_small_moves_are_not_lost(tmp_path: Path) -> None:
    """Moves of a thousandth of a step of int8 add up, on average over the weights; rounding to nearest loses them."""
    folder = saved("llama", tmp_path / "model")
    exact = loaded("llama", folder)
    rule = bz.SGD(3e-7)
    values_of("llama", bz.Module(exact), LOWRANK, 12, rule=rule)
    start, want = loaded("llama", folder), dict(exact.named_parameters())

    def share(rounding: str) -> float:
        """The part of the moves that arrived: the projection of what was made on what should have been."""
        how: dict[str, Any] = {"transfer_dtype": "int8", "rounding": rounding}
        with bz.StreamedModule.from_pretrained(folder, **how) as x:
            begun = {name: p.clone() for name, p in x.whole()}
            values_of("llama", x, LOWRANK, 12, rule=rule)
            names = [name for name in begun if name in x.passing]
            made = torch.cat([(p - begun[n]).flatten() for n, p in x.whole(names)])
        due = torch.cat([(want[n] - start.get_parameter(n)).detach().flatten() for n in names])
        assert float(due.abs().max()) < 0.1 * 0.02 / 127
        return float(made @ due / (due @ due))

    assert abs(share("nearest")) < 0.1
    assert abs(share("stochastic") - 1.0) < 0.3


def test_bf16_from_bf16_loses_nothing_and_writes_nothing(tmp_path: Path) -> None:
    """The checkpoint itself is read."""
    folder = saved(NAME, tmp_path / "model", torch.bfloat16)
    model = loaded(NAME, folder, torch.float32)
    how: dict[str, Any] = {"dtype": torch.float32, "transfer_dtype": "bf16", "weights": tmp_path / "moved"}
    with bz.StreamedModule.from_pretrained(folder, **how) as x:
        assert x.error == 0.0
        assert same_weights(x, model)
        assert not list((tmp_path / "moved").glob("*.weights"))


def test_what_such_a_run_cannot_do_is_said(tmp_path: Path) -> None:
    """It is another run than `Module`'s, it has no snapshots, and no state can be set."""
    folder = saved(NAME, tmp_path / "model")
    with pytest.raises(ValueError, match=r"must be one of 'bf16', 'fp8', 'int8', got 'int4'"):
        bz.StreamedModule.from_pretrained(folder, transfer_dtype="int4")  # type: ignore[arg-type]
    with bz.StreamedModule.from_pretrained(folder, transfer_dtype="int8") as x:
        assert "held as int8, relative error 0.0059" in str(x)
        with pytest.raises(ValueError, match="cannot be set"):
            x.load(x.state(), 3)
        with pytest.raises(TypeError, match="held as int8"):
            x.arrays()
        described = x.describe() or {}
        assert (described["transfer_dtype"], described["merge_every"]) == ("int8", 1)
        values_of(NAME, x, LOWRANK, 2, journal=tmp_path / "run.jsonl")
    with (
        bz.StreamedModule.from_pretrained(folder) as x,
        pytest.raises(bz.JournalError),
    ):
        values_of(NAME, x, LOWRANK, 3, journal=tmp_path / "run.jsonl")
    with pytest.raises(ValueError, match="too small") as error:
        bz.StreamedModule.from_pretrained(folder, transfer_dtype="int8", budget="90kB")
    least = str(error.value).split('"')[1]
    bz.StreamedModule.from_pretrained(folder, transfer_dtype="int8", budget=least).close()
