"""The files of snapshots: plain safetensors, and no changed byte goes unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra.numpy import array_shapes, arrays

from blackbox_zo._arrays import KINDS, StoredArrays, array_of, write_arrays

DTYPES = [np.dtype(dtype) for kind, dtype in KINDS.items() if kind != "BF16"]
ANY = strategies.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0)))
FEW = strategies.dictionaries(strategies.text("abc./é", min_size=1, max_size=5), ANY, max_size=4)


def written(path: Path, some: dict[str, Any], more: dict[str, Any] | None = None) -> Path:
    write_arrays(path, {name: array_of(array) for name, array in some.items()}, more or {})
    return path


@given(some=FEW)
def test_what_is_written_is_read_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, some: dict[str, Any]
) -> None:
    path = written(tmp_path_factory.mktemp("arrays") / "a.safetensors", some, {"x": [1, "2", float("inf")]})
    with StoredArrays(path) as stored:
        stored.check()
        assert stored.more == {"x": [1, "2", float("inf")]} and set(stored) == set(some)
        for name, array in some.items():
            assert stored[name].dtype == array.dtype and stored[name].shape == array.shape
            assert stored[name].tobytes() == array.tobytes()


def test_safetensors_reads_it(tmp_path: Path) -> None:
    safe = pytest.importorskip("safetensors.numpy", reason="needs safetensors, of the extra llm")
    some = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(True), "c": np.array([1, 2], dtype=np.int16)}
    found = safe.load_file(written(tmp_path / "a.safetensors", some))
    assert found.keys() == some.keys() and all(np.array_equal(found[name], some[name]) for name in some)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {"a": np.arange(5.0), "b": np.array([3])}, {"moves": 3})
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ValueError, match=r"damaged|incomplete|wrong"), StoredArrays(path) as stored:
            stored.check()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"damaged|incomplete|wrong"):
            StoredArrays(path)


def test_other_kinds_are_refused() -> None:
    for odd in (np.array("text"), np.array([1j]), np.array([object()])):
        with pytest.raises(TypeError, match="cannot be written"):
            array_of(odd)
