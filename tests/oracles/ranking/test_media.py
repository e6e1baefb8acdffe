"""What renderers give, and what they should not."""

from __future__ import annotations

import io
import resource
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oracles.ranking.renderers import demo
from oracles.ranking.study._media import MOST_BYTES, MOST_PIXELS, MOST_READ, RenderError, rendered, to_media


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "kind", "mime"),
    [
        (png(3, 2), "image", "image/png"),
        (Image.new("CMYK", (4, 4)), "image", "image/png"),
        (np.zeros((4, 5)), "image", "image/png"),
        (np.zeros((4, 5, 4), dtype=np.uint8), "image", "image/png"),
        (demo.palette(np.zeros(15)), "image", "image/png"),
        (demo.texture(np.zeros(8)), "image", "image/png"),
        (demo.drum(np.zeros(6)), "audio", "audio/wav"),
        ("<svg xmlns='http://www.w3.org/2000/svg'/>", "image", "image/svg+xml"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "image", "image/svg+xml"),
        ("<!doctype html><p>x", "html", "text/html; charset=utf-8"),
        ("a < b", "text", "text/plain; charset=utf-8"),
        ("/etc/passwd", "text", "text/plain; charset=utf-8"),  # text is never taken for a path
        (b"\x00\x00\x00\x18ftypmp42", "video", "video/mp4"),
    ],
)
def test_each_type_is_told_by_its_bytes(value: Any, kind: str, mime: str) -> None:
    media = to_media(value)
    assert (media.kind, media.mime, media.note) == (kind, mime, "")


def test_paths_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 2))
    (tmp_path / "a.html").write_text("<p>hello")
    assert to_media(tmp_path / "a.png").mime == "image/png"
    assert to_media(tmp_path / "a.html").kind == "html"
    with pytest.raises(RenderError, match="does not exist"):
        to_media(tmp_path / "b.png")


def test_figures_are_drawn() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1])
    assert to_media(figure).mime == "image/png"


def test_large_pictures_are_made_smaller_with_a_note() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (3000, 5700, 3), dtype=np.uint8))  # 50 MB
    media = to_media(noise)
    assert max(Image.open(io.BytesIO(media.data)).size) == MOST_PIXELS and len(media.data) <= MOST_BYTES
    assert media.note == "shown at 2048 × 1078 pixels; it has 5700 × 3000"
    assert to_media(png(3000, 10)).note.startswith("shown at 2048 × 7")


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_file_of_50_megabytes_is_made_smaller_with_a_note(tmp_path: Path, as_bytes: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4100, 4300, 3), dtype=np.uint8)
    path = tmp_path / "large.bmp"
    Image.fromarray(picture).save(path)
    assert path.stat().st_size > 50 << 20
    value = path.read_bytes() if as_bytes else path
    before, start = peak(), time.process_time()
    media = rendered(lambda x: value, 0)
    assert time.process_time() - start < 3 and peak() - before < 400 << 20
    shown = Image.open(io.BytesIO(media.data))
    assert (media.kind, shown.size) == ("image", (2048, 1953)) and len(media.data) <= MOST_BYTES
    assert media.note == "shown at 2048 × 1953 pixels; it has 4300 × 4100"


def test_the_renderers_own_picture_stays_as_it_is() -> None:
    given = Image.new("RGB", (MOST_PIXELS + 1, 5), "teal")
    assert to_media(given).note
    assert given.size == (MOST_PIXELS + 1, 5)


@pytest.mark.parametrize("name", ["BMP", "TIFF"])
def test_pictures_that_browsers_do_not_show_become_png(name: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (3, 2), "teal").save(out, name)
    media = to_media(out.getvalue())
    assert (media.mime, media.note) == ("image/png", "")
    assert Image.open(io.BytesIO(media.data)).getpixel((0, 0)) == (0, 128, 128)
    assert to_media(b"BMW, a car").kind == "text"
    with pytest.raises(RenderError, match="broken picture"):
        to_media(out.getvalue()[:20])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [60_000, 12_000])
@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_says_it_is_huge_is_not_read(side: int) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    bomb = b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")
    before = peak()
    media = rendered(lambda x: bomb, 0)
    assert media.kind == "error" and (b"too large" in media.data or b"pixels; the most is" in media.data)
    assert peak() - before < 50 << 20


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MOST_READ + 1)
    with pytest.raises(RenderError, match=r"more than 256 MiB: 'huge.png'"):
        to_media(tmp_path / "huge.png")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "returned nothing"),
        ("  ", "empty text"),
        (3.5, "`float`"),
        ({"a": 1}, "`dict`"),
        (np.zeros(7), r"shape \(7,\)"),
        (np.full((2, 2), np.nan), "NaN"),
        (b"\x80\x81\x82\x83", "unknown format"),
        (png(9, 9)[:40], "broken picture"),
        ("x" * (MOST_BYTES + 1), "at most 8 MiB"),
    ],
)
def test_what_cannot_be_shown_says_why(value: Any, what: str) -> None:
    with pytest.raises(RenderError, match=what):
        to_media(value)
    assert rendered(lambda x: value, 0).kind == "error"


@pytest.mark.parametrize("width", [400, 2 * MOST_PIXELS])
def test_a_photograph_keeps_its_upright_side(width: int) -> None:
    image = Image.new("RGB", (width, width // 2), "white")
    image.paste("black", (0, 0, width // 4, width // 2))  # dark on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the left side of what is stored belongs on top
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    shown = np.asarray(Image.open(io.BytesIO(to_media(Image.open(io.BytesIO(out.getvalue()))).data)).convert("L"))
    long = min(width, MOST_PIXELS)
    assert shown.shape == (long, long // 2)
    assert shown[10, 10] < 50 and shown[-10, 10] > 200


def test_a_large_picture_is_shown_alike_as_a_file_and_as_an_image() -> None:
    from PIL import Image

    image = Image.new("1", (10_000, 10_000))
    file = io.BytesIO()
    image.save(file, format="PNG")
    for value in (image, file.getvalue()):
        media = to_media(value)
        assert media.kind == "image" and "10000 × 10000" in media.note
    with pytest.raises(RenderError, match="20000 x 20000 pixels"):
        to_media(Image.new("1", (20_000, 20_000)))
