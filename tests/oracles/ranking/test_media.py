"""What renderers give, and what they should not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oracles.ranking import demo
from oracles.ranking._media import MOST_BYTES, MOST_PIXELS, RenderError, rendered, to_media


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
    with pytest.raises(RenderError, match="not there"):
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
