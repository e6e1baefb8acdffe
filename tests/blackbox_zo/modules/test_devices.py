"""What differs on a GPU, as far as a CPU can run it: random bits made by torch, moves of several chunks, TF32."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo.modules import Module, _moves, _rounding, _tensors
from blackbox_zo.modules._devices import full_precision, is_coarse, uses_tf32, weights_of
from blackbox_zo.modules._rounding import _bits_in_torch, _on, halves_of, random_bits, round_into_, together
from blackbox_zo.modules._signs import Small, _unpack, factors_of, spread, words_on_device
from blackbox_zo.modules._tensors import add_direction_, row_chunks
from blackbox_zo.randomness import SignTable


@pytest.fixture(params=["older", "newer"])
def tf32(request: pytest.FixtureRequest) -> Iterator[None]:
    """TF32, switched on by either of torch's names for it."""
    matmul = torch.backends.cuda.matmul
    if request.param == "newer" and not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has only the older name for TF32; `fp32_precision` came with torch 2.9")
    if request.param == "older":
        matmul.allow_tf32 = True
    else:
        matmul.fp32_precision = "tf32"
    yield
    matmul.allow_tf32 = True  # both agree again
    matmul.allow_tf32 = False


@pytest.mark.parametrize("each", [4, 64, 100])
def test_random_bits_of_several_chunks_are_the_same_in_torch(each: int) -> None:
    addresses = [(3, "w", 0), (3, "w", 64), (-1, "another", 1 << 40)]
    alone = torch.cat([random_bits(halves_of([address]), each, torch.empty(each)) for address in addresses])
    assert torch.equal(random_bits(halves_of(addresses), each, torch.empty(3 * each)), alone)
    assert torch.equal(_bits_in_torch(_on(halves_of(addresses), torch.device("cpu")), each // 4), alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_chunks_rounded_together_have_the_bits_of_chunks_alone(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(_tensors, "CHUNK", 1024)
    ends = []
    for at_once in (False, True):
        if at_once:
            monkeypatch.setattr(_moves, "together", lambda chunks, _: [chunks[i : i + 3] for i in range(0, 99, 3)][:3])
            monkeypatch.setattr(
                _rounding,
                "random_bits",
                lambda halves, each, like: _bits_in_torch(_on(halves, like.device), -(-each // 4)),
            )
        net = nn.Linear(24, 330, bias=False)
        nn.init.ones_(net.weight)
        module = Module(net.to(dtype))
        assert len(row_chunks((330, 24))) == 7
        for distribution in (bz.LowRank, bz.Rademacher):
            module.add_(bz.Step(distribution(module.blocks, 1, bz.Key(1, 2)), np.array([1e-3])))
        ends.append(net.weight.detach().view(torch.int16).clone())
    assert torch.equal(*ends)
    assert len(set(ends[0].flatten().tolist())) > 2


def test_a_gpu_works_on_more_at_a_time() -> None:
    far, p = torch.device("meta"), torch.empty(3, device="meta")
    assert len(row_chunks((4096, 4096))) == 16
    assert len(row_chunks((4096, 4096), device=torch.device("cpu"))) == 16
    assert len(row_chunks((4096, 4096), device=far)) == 2
    chunks = row_chunks((4096, 4096))
    assert together(chunks, torch.empty(3)) == [[chunk] for chunk in chunks]
    assert together(chunks, p) == [chunks[:8], chunks[8:]]


def test_moves_are_made_without_tf32(monkeypatch: pytest.MonkeyPatch, tf32: None) -> None:
    assert uses_tf32()
    seen = list[bool]()

    def noted(*given: Any) -> Any:
        seen.append(uses_tf32())
        return factors_of(*given)

    monkeypatch.setattr(_moves, "factors_of", noted)
    module = Module(nn.Linear(3, 4))
    module.add_(bz.Step(bz.LowRank(module.blocks, 1, bz.Key(1, 2)), np.array([0.1])))
    assert seen == [False] and uses_tf32()
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert uses_tf32()


def test_what_counts_as_coarse() -> None:
    assert not is_coarse(torch.empty(1)) and not is_coarse(torch.empty(1, dtype=torch.float64))
    assert is_coarse(torch.empty(1, dtype=torch.bfloat16)) and is_coarse(torch.empty(1, dtype=torch.float16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_coarse(torch.empty(1))


def test_the_kernel_of_a_gpu_rounds_to_the_same_bits() -> None:
    """Triton's interpreter runs it on the CPU, in a process of its own."""
    pytest.importorskip("triton", reason="Triton comes with torch for CUDA only")
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", FUSED], env=env, capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout.split() == ["bfloat16", "float16"], found.stderr


FUSED = """
import torch
from blackbox_zo.modules._fused import fused_round_into_
from blackbox_zo.modules._rounding import _on, halves_of, round_into_

torch.manual_seed(0)
inf = float("inf")
odd = [0.0, -0.0, inf, -inf, 1e38, -7e4, 65519.0, 65503.9, 1e-9, -1e-9, 2e-5, 2**-14 * (1 - 2**-13), -3e-8]
for dtype in (torch.bfloat16, torch.float16):
    for each, chunks, size in ((4, 3, 10), (100, 3, 223), (5000, 2, 9999), (37, 1, 37), (1, 1, 1), (8192, 1, 8192)):
        x = torch.randn(size) * torch.exp(4 * torch.randn(size))
        x[: len(odd)] = torch.tensor(odd)[:size]
        addresses = [(3, "w", 64 * i) for i in range(chunks)]
        want, got = torch.empty(size, dtype=dtype), torch.zeros(size, dtype=dtype)
        round_into_(want, x, halves_of(addresses), each)
        fused_round_into_(got, x, _on(halves_of(addresses), x.device), each)
        assert torch.equal(want.view(torch.int16), got.view(torch.int16)), (dtype, each, size)
    print(str(dtype)[6:])
"""


def test_signs_are_unpacked_on_a_device_to_those_of_numpy() -> None:
    table = SignTable(bz.Key(3, 5), 3, {"a": 100, "b": 64, "c": 1})
    assert torch.equal(_unpack(table, torch.device("cpu")), torch.from_numpy(table.signs))


def test_sums_in_order_have_the_bits_of_one_direction_after_another() -> None:
    module = Module(nn.Linear(70, 50))
    directions = bz.LowRank(module.blocks, 5, bz.Key(1, 2))
    w = np.array([0.1, -0.7, 0.0, 1e-4, 3.3])
    block, one = module.blocks[1], torch.zeros(50)
    for j in range(5):
        add_direction_(one, directions, block, j, float(w[j]), 0, torch.empty(64))
    found = Small(directions, weights_of(w, torch.device("cpu")), in_order=True).of(block)
    assert found is not None and torch.equal(found, one)


def test_without_triton_or_with_one_that_fails_rounding_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    out, exact, halves = torch.empty(8, dtype=torch.bfloat16), torch.rand(8), halves_of([(1, "w", 0)])

    def broken(*given: Any) -> None:
        raise RuntimeError("no C compiler")

    kernels: list[Any] = [broken]
    monkeypatch.setattr(_rounding, "_kernel", lambda: kernels)
    with pytest.warns(UserWarning, match="no C compiler"):
        assert not _rounding._fused(out, exact, halves, 8)
    assert not kernels and not _rounding._fused(out, exact, halves, 8)


def test_signs_made_on_a_device_are_those_of_numpy() -> None:
    block = Module(nn.Linear(70, 50)).blocks[0]
    directions = bz.Rademacher((block,), 3, bz.Key(1, 2))
    halves, count, first = directions.bits_place(block, 2, 64, 3500)
    made = words_on_device(_on(halves, torch.device("cpu")), count, first)[0]
    words = directions.bits(block, 2, 64, 3500)
    assert made.numpy().view(np.uint64).tolist() == words.tolist()
    here, there = (spread(w, torch.empty(64 * count), 0.3) for w in (words, made))
    assert torch.equal(here, there)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_small_parameters_that_are_moved_together_have_the_bits_of_each_alone(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = nn.ParameterList([torch.randn(n) for n in (1, 70, 500, 64)] + [torch.randn(())]).to(dtype)
    module = Module(net, no_decay="1")
    directions, w = bz.LowRank(module.blocks, 5, bz.Key(1, 2)), np.array([0.1, -0.7, 0.0, 1e-4, 3.3])
    want = []
    for block, p in zip(module.blocks, net, strict=True):
        keep, exact = 1.0 if block.name == "1" else 0.9, torch.zeros(block.size)
        for j in np.flatnonzero(w).tolist():
            add_direction_(exact, directions, block, j, float(w[j]), 0, torch.empty(512))
        out = torch.empty(block.size, dtype=dtype)
        round_into_(out, exact.add_(p.detach().view(-1).float(), alpha=keep), halves_of([(0, block.name, 0)]))
        want.append(out.view(torch.int16).tolist())
    module.add_(bz.Step(directions, w, 0.1))
    assert [p.detach().view(-1).view(torch.int16).tolist() for p in net] == want
