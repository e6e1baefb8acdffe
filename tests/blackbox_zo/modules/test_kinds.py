"""Parameters that cannot be searched are refused by name, with the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import blackbox_zo as bz


def two() -> Any:
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 1))


def float8() -> Any:
    model = two()
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.float8_e4m3fn), requires_grad=True)
    return model


class Packed(torch.Tensor):
    """Looks like fp32, as quantised weights do."""


def packed() -> Any:
    model = two()
    model[0].weight = nn.Parameter(model[0].weight.detach().as_subclass(Packed))
    return model


def offloaded() -> Any:
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    return accelerate.cpu_offload(two(), execution_device="cpu")


def offloaded_within() -> Any:
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    model = two()
    accelerate.cpu_offload(model[0], execution_device="cpu")
    return model


def lazy() -> Any:
    return nn.Sequential(nn.LazyLinear(6), nn.Linear(6, 1))


def unloaded() -> Any:
    with torch.device("meta"):
        return two()


def transposed() -> Any:
    model = two()
    model[0].weight.data = model[0].weight.data.t().contiguous().t()
    return model


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (float8, r"'0.weight' is float8_e4m3fn, whose numbers are too coarse to search. Convert it"),
        (packed, r"'0.weight' is a Packed, not a plain tensor, .* or select others"),
        (offloaded, r"'0.weight' is offloaded by accelerate: .* Load the model without offloading"),
        (offloaded_within, r"'0.weight' is offloaded by accelerate: "),
        (lazy, r"'0.weight' has no shape yet: run the model once"),
        (unloaded, r"'0.weight' is on the meta device: the model's weights have not been loaded"),
        (transposed, r"'0.weight' is not contiguous"),
    ],
)
def test_what_cannot_be_searched_is_named(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bz.Module(make())
    if make not in (unloaded, offloaded, lazy):
        assert bz.Module(make(), r"^1\.").size == 7


def test_integers_are_named() -> None:
    model = two()
    model[0].weight = nn.Parameter(torch.zeros(3, 4, dtype=torch.uint8), requires_grad=False)
    assert [b.name for b in bz.Module(model).blocks] == ["0.bias", "1.weight", "1.bias"]
    for select in ("0.weight", ["0.weight"]):
        with pytest.raises(ValueError, match=r"1 parameters, such as '0.weight', hold integers \(quantised weights\)"):
            bz.Module(model, select)


def test_empty_parameters_are_left_out() -> None:
    model = two()
    model[0].register_parameter("none", nn.Parameter(torch.zeros(3, 0)))
    assert "0.none" not in bz.Module(model).parameters
