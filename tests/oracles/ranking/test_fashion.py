"""The generator of clothes: its files, its cache, its pictures, and what a simulated person wants of it."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from oracles import FunctionOracle
from oracles.ranking import BradleyTerry, SimulatedRater
from oracles.ranking.renderers import fashion
from tests.requires import require

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def write(path: Path, array: Any, magic: int | None = None) -> None:
    """An idx file, with its header as the format says: 0, 0, 8, the number of axes, and each length."""
    head = bytes([0, 0, 8, array.ndim if magic is None else magic])
    head += b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with 20 pictures of noise to train on, and 5 to test on."""
    folder = tmp_path / "data"
    folder.mkdir()
    for part, n in (("train", 20), ("t10k", 5)):
        write(folder / f"{part}-images-idx3-ubyte.gz", PIXELS[:n])
        write(folder / f"{part}-labels-idx1-ubyte.gz", LABELS[:n])
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing in memory."""
    forget(monkeypatch)
    return tmp_path / "cache"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process would begin."""
    monkeypatch.setattr(fashion, "_loaded", {})


# -------------------------------------------------------------------------------------------------------------- files


def test_files_are_read_as_written(data: Path) -> None:
    pictures, labels = fashion.read("train", data)
    assert np.array_equal(pictures, PIXELS) and np.array_equal(labels, LABELS)
    assert len(fashion.read("t10k", str(data))[0]) == 5


def test_a_missing_file_is_named_with_the_package(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-images.* not exist.*package dataset-fashion-mnist") as caught:
        fashion.read("train", tmp_path)
    for part in ("train", "t10k"):
        assert f"{part}-images-idx3-ubyte.gz, {part}-labels-idx1-ubyte.gz" in str(caught.value)


def test_files_that_are_none(data: Path) -> None:
    images, labels = data / "train-images-idx3-ubyte.gz", data / "train-labels-idx1-ubyte.gz"
    whole = images.read_bytes()
    for spoilt in (b"no gzip", whole[:-100], gzip.compress(gzip.decompress(whole)[:-1]), gzip.compress(b"\0\0\x08")):
        images.write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz .*dataset-fashion-mnist"):
            fashion.read("train", data)
    write(images, PIXELS, magic=1)
    with pytest.raises(ValueError, match="is not an idx file of bytes with 3 axes"):
        fashion.read("train", data)
    images.write_bytes(whole)
    for wrong in (LABELS[:-1], LABELS + np.uint8(1)):
        write(labels, wrong)
        with pytest.raises(ValueError, match="do not match"):
            fashion.read("train", data)


# -------------------------------------------------------------------------------------------------------------- cache


def test_importing_does_not_import_torch() -> None:
    code = (
        "import sys, oracles.ranking.renderers.fashion; assert not {'torch', 'PIL', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("make", [fashion.generator, fashion.classifier])
def test_a_model_is_trained_once_and_the_same_every_time(
    make: Any, data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'blackbox-zo[llm]'")
    pytest.importorskip("safetensors", reason="needs safetensors: pip install 'blackbox-zo[llm]'")
    x = np.random.default_rng(1).random((3, 28, 28)) if make is fashion.classifier else np.eye(8)[:3]
    before = torch.random.get_rng_state()
    first = make(data, cache, 1)
    assert make(data, cache, 1) is first
    assert torch.equal(torch.random.get_rng_state(), before), "nobody else's random numbers change"
    (file,) = cache.iterdir()
    kept = file.read_bytes()
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and f"20 pictures of clothes: about 1 min, once, for {file}" in said

    forget(monkeypatch)  # the file is used, also without the data
    moved = data.rename(data.parent / "elsewhere")
    assert np.array_equal(make(data, cache, 1)(x), first(x))
    moved.rename(data)
    assert capfd.readouterr().err == ""

    file.unlink()  # trained again
    forget(monkeypatch)
    assert np.array_equal(make(data, cache, 1)(x), first(x)) and file.read_bytes() == kept

    for spoilt in (b"", kept[:-1], kept.replace(b'version\\": 1', b'version\\": 0', 1)):
        file.write_bytes(spoilt)
        forget(monkeypatch)
        assert np.array_equal(make(data, cache, 1)(x), first(x)) and file.read_bytes() == kept
    forget(monkeypatch)  # made in another way
    capfd.readouterr()
    assert not np.array_equal(make(data, cache, 3)(x), first(x)) and file.read_bytes() != kept
    assert [line.partition(" is done: about ")[0] for line in capfd.readouterr().err.splitlines()[1:]] == [
        "epoch 1 of 3", "epoch 2 of 3",
    ]  # fmt: skip
    assert list(cache.iterdir()) == [file]


def test_a_file_is_there_whole_or_not_at_all(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'blackbox-zo[llm]'")
    pytest.importorskip("safetensors", reason="needs safetensors: pip install 'blackbox-zo[llm]'")

    def full(self: Path, to: Path) -> None:
        assert not to.exists() and self.stat().st_size > 100_000
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        fashion.generator(data, cache, 1)
    assert list(cache.iterdir()) == []


def test_the_cache_is_where_the_environment_says(
    data: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'blackbox-zo[llm]'")
    pytest.importorskip("safetensors", reason="needs safetensors: pip install 'blackbox-zo[llm]'")
    monkeypatch.delenv("BLACKBOX_ZO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    fashion.generator(data, epochs=1)
    assert (tmp_path / "xdg" / "blackbox_zo" / "fashion-generator.safetensors").is_file()
    monkeypatch.setenv("BLACKBOX_ZO_CACHE", str(cache))
    fashion.generator(data, epochs=1)
    assert (cache / "fashion-generator.safetensors").is_file()


# ----------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def made(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of noise, as the defaults."""
    pytest.importorskip("torch", reason="needs torch: pip install 'blackbox-zo[llm]'")
    pytest.importorskip("safetensors", reason="needs safetensors: pip install 'blackbox-zo[llm]'")
    monkeypatch.setattr(fashion, "DATA", data)
    monkeypatch.setenv("BLACKBOX_ZO_CACHE", str(cache))


@pytest.mark.usefixtures("made")
def test_a_picture() -> None:
    pytest.importorskip("PIL", reason="needs pillow: pip install 'blackbox-zo[human]'")
    x0 = fashion.picture.x0  # type: ignore[attr-defined]
    assert x0 == [0.0] * 8 and len(x0) == fashion.D
    shown = fashion.picture(x0)
    assert shown.size == (224, 224) and shown.mode == "L"
    mean = 255 * fashion.generator()(x0).mean()
    assert abs(np.asarray(shown).mean() - mean) < 2, "made larger, and nothing else"
    assert not np.array_equal(np.asarray(fashion.picture(np.ones(8))), np.asarray(shown))
    with pytest.raises(ValueError, match=r"shape \(8,\), got \(7,\)"):
        fashion.picture(np.zeros(7))


@pytest.mark.usefixtures("made")
def test_of_long_latents_only_the_direction_counts() -> None:
    draw = fashion.generator()
    x = np.random.default_rng(0).standard_normal((5, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert np.allclose(draw(3 * x), draw(50 * x), atol=1e-5)
    assert not np.allclose(draw(3 * x), draw(2.9 * x), atol=1e-5)
    assert np.allclose(draw(x.reshape(5, 1, 8))[:, 0], draw(x), atol=1e-6)
    assert draw(x).shape == (5, 28, 28) and 0 <= draw(x).min() <= draw(x).max() <= 1


@pytest.mark.usefixtures("made")
def test_the_flow_is_undone_and_its_determinant_is_right() -> None:
    import torch

    from oracles.ranking.renderers._clothes import Generator

    torch.manual_seed(0)
    model = Generator().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, 8, dtype=torch.float64)
    z = model.codes(x)
    back, log = model.latents(z)
    assert torch.allclose(back, x, atol=1e-9)
    for i in range(3):
        jacobian = torch.func.jacrev(lambda v: model.latents(v)[0])(z[i])
        assert torch.allclose(torch.linalg.slogdet(jacobian)[1], log[i], atol=1e-9)


@pytest.mark.usefixtures("made")
def test_wanted_is_what_the_classifier_says_of_the_picture() -> None:
    x = np.random.default_rng(0).standard_normal((6, 8))
    said = fashion.classifier()(fashion.generator()(x))
    assert np.allclose(np.exp(said).sum(axis=1), 1)
    for label, name in ((8, "Bag"), (0, "T-shirt/top")):
        want = fashion.Wanted(name)
        assert np.array_equal(want(x), -said[:, label]) and want(x).shape == (6,)
        assert np.array_equal(want.found(x), said.argmax(axis=1) == label)
        assert np.array_equal(want(x), fashion.Wanted(label)(x))
        assert want(x[0]) == pytest.approx(want(x)[0], rel=1e-6)
    for wrong in ("bag", 10, -1, 2.5):
        with pytest.raises(ValueError, match="or one of T-shirt/top, Trouser"):
            fashion.Wanted(wrong)  # type: ignore[arg-type]


@pytest.mark.usefixtures("made")
def test_a_simulated_person_can_want_it() -> None:
    want = fashion.Wanted("Bag")
    rater = SimulatedRater(FunctionOracle(want, vectorized=True), BradleyTerry(1e-9))
    one_by_one = SimulatedRater(want, BradleyTerry(1e-9))
    p = bz.Search(np.zeros(8), bz.RankBased(1.0, 6)).ask()
    for said in (rater.answer(p), one_by_one.answer(p)):
        assert np.array_equal(np.argsort(said.net_losses()), np.argsort(want(p.points)))


# --------------------------------------------------------------------------------------------------------------- real


def test_the_real_data() -> None:
    require("fashion-mnist", fashion.DATA.is_dir(), "apt install dataset-fashion-mnist")
    pictures, labels = fashion.read("t10k")
    assert pictures.shape == (10_000, 28, 28) and np.bincount(labels).tolist() == [1000] * 10
    assert labels[:4].tolist() == [9, 2, 1, 1] and round(float(pictures.mean()), 2) == 73.15
