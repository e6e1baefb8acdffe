"""What differs on a GPU, as far as a CPU can run it: random bits made by torch, moves of several chunks, TF32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo.modules import Module, _module, _rounding, _tensors
from blackbox_zo.modules._rounding import _bits_in_torch, random_bits, together
from blackbox_zo.modules._tensors import full_precision, is_coarse, row_chunks, uses_tf32


@pytest.fixture(params=["older", "newer"])
def tf32(request: pytest.FixtureRequest) -> Iterator[None]:
    """TF32, switched on by either of torch's names for it."""
    matmul = torch.backends.cuda.matmul
    if request.param == "newer" and not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has the older name only")
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
    alone = torch.cat([random_bits([address], each, torch.empty(each)) for address in addresses])
    assert torch.equal(random_bits(addresses, each, torch.empty(3 * each)), alone)
    assert torch.equal(_bits_in_torch(addresses, each // 4, torch.device("cpu")), alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_chunks_rounded_together_have_the_bits_of_chunks_alone(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(_tensors, "CHUNK", 1024)
    ends = []
    for at_once in (False, True):
        if at_once:
            monkeypatch.setattr(_module, "together", lambda chunks, _: [chunks[i : i + 3] for i in range(0, 99, 3)][:3])
            monkeypatch.setattr(
                _rounding,
                "random_bits",
                lambda addresses, each, like: _bits_in_torch(addresses, -(-each // 4), like.device),
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
    assert len(row_chunks((4096, 4096), device=far)) == 4
    chunks = row_chunks((4096, 4096))
    assert together(chunks, torch.empty(3)) == [[chunk] for chunk in chunks]
    assert together(chunks, p) == [chunks[i : i + 4] for i in range(0, 16, 4)]


def test_moves_are_made_without_tf32(monkeypatch: pytest.MonkeyPatch, tf32: None) -> None:
    assert uses_tf32()
    seen, joined = list[bool](), _module._joined

    def noted(*given: Any) -> Any:
        seen.append(uses_tf32())
        return joined(*given)

    monkeypatch.setattr(_module, "_joined", noted)
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
