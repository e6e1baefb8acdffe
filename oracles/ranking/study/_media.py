"""Convert what a renderer returns to media that browsers show."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

__all__ = ["Kind", "Media", "RenderError", "failure", "rendered", "to_media"]

Kind = Literal["image", "audio", "video", "text", "html", "error"]

MOST_PIXELS = 2048
"""Maximum side of a picture in pixels; larger ones are scaled down."""

MOST_OPENED = 120_000_000
"""Most pixels of a picture that is scaled down, whether it comes as a file or as an image."""

MOST_BYTES = 8 << 20
"""Maximum size of a picture, sound, video or text."""

MOST_READ = 256 << 20
"""Maximum size of a file to open; a picture may then be scaled down."""

_SIGNATURES: tuple[tuple[bytes, int, Kind, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image", "image/png"),
    (b"\xff\xd8\xff", 0, "image", "image/jpeg"),
    (b"GIF8", 0, "image", "image/gif"),
    (b"WEBP", 8, "image", "image/webp"),
    (b"BM", 0, "image", "image/bmp"),
    (b"II*\0", 0, "image", "image/tiff"),
    (b"MM\0*", 0, "image", "image/tiff"),
    (b"WAVE", 8, "audio", "audio/wav"),
    (b"OggS", 0, "audio", "audio/ogg"),
    (b"fLaC", 0, "audio", "audio/flac"),
    (b"ID3", 0, "audio", "audio/mpeg"),
    (b"ftyp", 4, "video", "video/mp4"),
    (b"\x1aE\xdf\xa3", 0, "video", "video/webm"),
)


_ORIENTATION = 0x0112
"""EXIF tag; for values of 5 and more width and height are swapped."""

_SHOWN = ("image/png", "image/jpeg", "image/webp")
"""Formats that every browser shows; others are converted to one of these."""


class RenderError(ValueError):
    """A renderer returned something that cannot be shown."""


@dataclass(frozen=True)
class Media:
    """A rendered candidate.

    Attributes:
        kind: How it is shown.
        mime: Its media type, from a fixed list; never one that the renderer claims.
        data: The bytes.
        note: What was changed for display; may be empty.
    """

    kind: Kind
    mime: str
    data: bytes
    note: str = ""


def rendered(render: Callable[[Any], Any], x: Any) -> Media:
    """Render one candidate. If that fails or the result cannot be shown, the error becomes the media."""
    try:
        return to_media(render(x))
    except Exception as error:  # any error costs only this candidate
        return failure(error)


def failure(error: BaseException) -> Media:
    """An error as media."""
    text = str(error) if isinstance(error, RenderError) else f"{type(error).__name__}: {error}"
    return Media("error", "text/plain; charset=utf-8", text[:2000].encode())


def to_media(value: Any) -> Media:
    """Detect the type of what a renderer returned, and convert it to bytes.

    Args:
        value: A PIL image, an array of a picture ((h, w), (h, w, 3) or (h, w, 4); uint8, or floats from 0 to 1), a
            matplotlib figure, bytes of PNG, JPEG, GIF, WebP, BMP, TIFF, SVG, WAV, OGG, FLAC, MP3, MP4 or WebM, a `Path`
            of such a file, or text: SVG or HTML if it starts like that, else plain.

    Raises:
        RenderError: The value is empty, of another type, or too large.
    """
    if value is None:
        raise RenderError("The renderer returned nothing.")
    if isinstance(value, Path):
        if not value.is_file():
            raise RenderError(f"The renderer returned the path of a file that does not exist: {value.name!r}.")
        if value.stat().st_size > MOST_READ:
            raise RenderError(f"The renderer returned a file of more than {MOST_READ >> 20} MiB: {value.name!r}.")
        text = value.suffix.lower() in (".txt", ".md", ".html", ".htm", ".svg")
        return to_media(value.read_text(encoding="utf-8") if text else value.read_bytes())
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value))
    if isinstance(value, np.ndarray):
        return _image(_from_array(value))
    if hasattr(value, "savefig"):
        out = io.BytesIO()
        value.savefig(out, format="png")
        return _bytes(out.getvalue())
    if hasattr(value, "save") and hasattr(value, "mode"):  # PIL
        return _image(value)
    raise RenderError(
        f"The renderer returned a `{type(value).__name__}`; give a PIL image, bytes of PNG, SVG or WAV, text, HTML, or "
        "a pathlib.Path."
    )


def _text(value: str) -> Media:
    if not value.strip():
        raise RenderError("The renderer returned an empty text.")
    start = value.lstrip()[:200].lower()
    data = _small_enough(value.encode())
    if start.startswith("<svg") or (start.startswith("<?xml") and "<svg" in value[:2000].lower()):
        return Media("image", "image/svg+xml", data)
    if start.startswith(("<!doctype html", "<html", "<body", "<div", "<p", "<table", "<h1", "<style", "<span")):
        return Media("html", "text/html; charset=utf-8", data)
    return Media("text", "text/plain; charset=utf-8", data)


def _bytes(data: bytes) -> Media:
    for signature, offset, kind, mime in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            if mime == "image/bmp" and data[6:10] != bytes(4):
                continue  # a text that starts with BM
            if kind == "image" and mime != "image/gif":
                return _checked(data, mime)
            return Media(kind, mime, _small_enough(data))
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return Media("audio", "audio/mpeg", _small_enough(data))
    try:
        return _text(data.decode())
    except UnicodeDecodeError:
        raise RenderError(
            f"The renderer returned {len(data)} bytes of an unknown format, starting with {data[:8]!r}."
        ) from None


def _checked(data: bytes, mime: str) -> Media:
    """A picture's own bytes if it is small, else scaled down."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_image` looks at the size
            image = Image.open(io.BytesIO(data))
        if mime in _SHOWN and max(image.size) <= MOST_PIXELS and len(data) <= MOST_BYTES:
            image.verify()
            return Media("image", mime, data)
    except Image.DecompressionBombError as error:
        raise RenderError(f"The renderer returned a picture that is too large: {error}") from None
    except Exception as error:
        raise RenderError(f"The renderer returned a broken picture: {error}.") from None
    return _image(image)


def _image(image: Any) -> Media:
    from PIL import ImageOps

    before, note = image.size, ""
    if before[0] * before[1] > MOST_OPENED:
        raise RenderError(
            f"The renderer returned a picture of {before[0]} x {before[1]} pixels; the most is {MOST_OPENED:,}."
        )
    if 0 in before:
        raise RenderError(f"The renderer returned an empty picture of {before[0]} x {before[1]} pixels.")
    try:
        large = max(before) > MOST_PIXELS
        if large:
            image = _smaller(image)
        if image.getexif().get(_ORIENTATION, 1) != 1:  # apply the camera's orientation, which PNG does not carry
            turned = image.getexif()[_ORIENTATION] >= 5
            image, before = ImageOps.exif_transpose(image), before[::-1] if turned else before
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
            image = image.convert("RGB")
        out = io.BytesIO()
        image.save(out, format="PNG", compress_level=1 if large else 6)
        mime = "image/png"
        if out.tell() > MOST_BYTES:
            out = io.BytesIO()
            image.convert("RGB").save(out, format="JPEG", quality=90)
            mime = "image/jpeg"
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise
        raise RenderError(f"The renderer returned a broken picture: {error}.") from None
    if large or mime == "image/jpeg":
        note = f"shown at {image.size[0]} × {image.size[1]} pixels; it has {before[0]} × {before[1]}"
    return Media("image", mime, _small_enough(out.getvalue()), note)


def _smaller(image: Any) -> Any:
    """A copy of the picture, scaled so that its longest side is `MOST_PIXELS`."""
    from PIL import Image

    share = MOST_PIXELS / max(image.size)
    size = tuple(max(1, round(share * side)) for side in image.size)
    if hasattr(image, "draft"):
        image.draft("RGB", (MOST_PIXELS, MOST_PIXELS))  # decode a JPEG at reduced size
    mode = "RGBA" if "A" in image.getbands() else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _from_array(array: Any) -> Any:
    from PIL import Image

    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise RenderError(f"The renderer returned an array of shape {array.shape}; a picture is (h, w) or (h, w, 3).")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise RenderError("The renderer returned a picture with NaN or infinite values.")
        array = np.round(np.clip(array.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(array)


def _small_enough(data: bytes) -> bytes:
    if len(data) > MOST_BYTES:
        raise RenderError(f"The renderer returned {len(data) >> 20} MiB; at most {MOST_BYTES >> 20} MiB can be shown.")
    return data
