"""Demonstrations that need no other package: a palette, a texture and a drum.

blackbox-zo rank --render oracles.ranking.renderers.demo:palette --store study.db
"""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["drum", "palette", "texture"]

RATE = 22050
"""Samples per second of a sound."""


def _unit(x: Any, n: int) -> Floats:
    """The logistic function of x, in (0, 1)."""
    z = np.zeros(n)
    flat = np.ravel(np.asarray(x, dtype=np.float64))[:n]
    z[: len(flat)] = flat
    return 1.0 / (1.0 + np.exp(-z))


def palette(x: Any) -> Floats:
    """A poster in five colours.

    Args:
        x: Shape (15,): hue, chroma and lightness of each colour, 0 in the middle.

    Returns:
        A picture, shape (240, 240, 3).
    """
    hue, chroma, light = _unit(x, 15).reshape(5, 3).T
    angle = 2 * np.pi * (hue + np.linspace(0, 0.8, 5))
    # YIQ-like: lightness, and chroma along two opponent axes
    a, b, y = 0.35 * chroma * np.cos(angle), 0.35 * chroma * np.sin(angle), 0.15 + 0.75 * light
    colours = np.clip(np.stack([y + 0.95 * a + 0.6 * b, y - 0.3 * a - 0.6 * b, y - 1.1 * a + 1.7 * b], 1), 0, 1)
    out = np.empty((240, 240, 3))
    out[:] = colours[0]
    out[150:] = colours[1]
    rows, columns = np.mgrid[:240, :240]
    out[(rows > 150 - 0.9 * columns) & (rows < 150)] = colours[3]
    out[(rows - 95) ** 2 + (columns - 165) ** 2 < 42**2] = colours[2]
    out[(rows > 205) & (columns > 24) & (columns < 216) & (rows < 218)] = colours[4]
    return out


def texture(x: Any) -> Floats:
    """A marbled surface of sine waves that bend one another.

    Args:
        x: Shape (8,): frequency, angle, bending, grain and two colours' hues and lightness.

    Returns:
        A picture, shape (240, 240, 3).
    """
    frequency, angle, bend, grain, hue, other, light, dark = _unit(x, 8)
    rows, columns = np.mgrid[:240, :240] / 240
    turn = 2 * np.pi * angle
    u, v = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    k = 2 * np.pi * (1 + 14 * frequency)
    bent = u + 0.25 * bend * np.sin(k * 0.6 * v) + 0.1 * bend * np.sin(2.3 * k * u + 1)
    fine = grain * np.sin(7 * k * v + 3 * np.sin(k * bent))
    mix = (0.5 + 0.5 * np.sin(k * bent + fine))[..., None]
    wheel = np.array([0.0, 1 / 3, 2 / 3])

    def colour(h: float, level: float) -> Floats:
        out: Floats = level * (0.6 + 0.4 * np.cos(2 * np.pi * (h - wheel)))
        return out

    out: Floats = mix * colour(hue, 0.5 + 0.5 * light) + (1 - mix) * colour(other, 0.6 * dark)
    return np.clip(out, 0, 1)


def drum(x: Any) -> bytes:
    """A drum of half a second: a falling tone, noise, and a click.

    Args:
        x: Shape (6,): pitch, its fall, decay, share of noise, brightness of the noise, click.

    Returns:
        A WAV file.
    """
    pitch, fall, decay, noise, bright, click = _unit(x, 6)
    t = np.arange(RATE // 2) / RATE
    frequency = 40 * 8**pitch * (1 + 4 * fall * np.exp(-t * 30))
    tone = np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    hiss = np.random.default_rng(0).standard_normal(len(t))  # the same noise in every sound, so that only x differs
    width = 1 + int(40 * (1 - bright))
    hiss = np.convolve(hiss, np.ones(width) / np.sqrt(width), "same") * np.exp(-t * (8 + 30 * decay))
    sound = (1 - noise) * tone * np.exp(-t * (4 + 20 * decay)) + noise * 0.5 * hiss + 0.6 * click * np.exp(-t * 900)
    samples = np.round(32000 * np.tanh(sound)).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return out.getvalue()


palette.x0, texture.x0, drum.x0 = (np.zeros(n).tolist() for n in (15, 8, 6))  # type: ignore[attr-defined]
