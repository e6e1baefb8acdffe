"""Record an episode as an animated WebP, in its own process: rendering may crash, hang or lack a display."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from blackbox_zo.workers._process import Process, end, how
from oracles.rl._environment import EnvError, is_vector, make, name_of, register
from oracles.rl._episodes import ENDLESS
from oracles.rl._pool import registrations
from oracles.rl._spaces import actions_of, observations_of

__all__ = ["Video", "video"]

MOST_BYTES = 3_000_000
"""Maximum size of the animation."""

SECONDS, RATE, WIDTH, HEIGHT = 8.0, 20.0, 360, 270
"""Length shown, frames per second, and frame size in pixels where the environment lets one choose it."""

PATIENCE = 60.0
"""Seconds after which no further frame is rendered; without a GPU a frame may take half a second."""


class Video(NamedTuple):
    """A rendered episode.

    Attributes:
        webp: The animation.
        width: Width of a frame, in pixels.
        height: Height of a frame, in pixels.
        frames: Number of frames.
        seconds: Time that the frames cover, by the environment's clock.
        steps: Steps of the whole episode.
        episode_return: Sum of rewards of the whole episode.
    """

    webp: bytes
    width: int
    height: int
    frames: int
    seconds: float
    steps: int
    episode_return: float


def video(env: Any, act: Any, seed: int = 0, max_steps: int | None = None, timeout: float = 240.0) -> Video:
    """Render the first seconds of an episode.

    Args:
        env: An id, an `EnvSpec`, or a function that makes an environment; `render_mode` is passed to it if it has that
            argument.
        act: Maps a flat observation to a policy's outputs, such as `oracles.rl.load` returns.
        seed: Seed of the episode.
        max_steps: Maximum steps of the episode; None leaves it to the environment.
        timeout: Seconds allowed for rendering.

    Raises:
        EnvError: The episode cannot be rendered; the message says why.
    """
    task = cloudpickle.dumps((env, act, seed, max_steps))
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and sys.platform == "linux":
        known.setdefault("MUJOCO_GL", "egl")
        known.setdefault("SDL_VIDEODRIVER", "dummy")
    code = "from oracles.rl._video import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        cwd = folder if isinstance(env, str) else None  # some environment libraries write logs to the current folder
        given, got = Path(folder) / "task", Path(folder) / "video"
        given.write_bytes(cloudpickle.dumps((registrations(), task)))
        words = [sys.executable, "-P", "-W", "ignore", "-c", code, str(given), str(got)]
        said = Path(folder) / "said"
        with said.open("wb") as output:
            process = Process(words, cwd=cwd, env=known, stdin=DEVNULL, stdout=DEVNULL, stderr=output)
        try:
            ended = process.wait(timeout)
        finally:
            end([process], grace=0.0)
        if ended is None:
            raise EnvError(f"{name_of(env)!r} was not rendered within {timeout:g} s.")
        if not got.exists():
            last = (said.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
            raise EnvError(f"{name_of(env)!r} cannot be rendered: the process ended with {how(ended)}: {last}")
        found = pickle.loads(got.read_bytes())
    if isinstance(found, str):
        raise EnvError(found)
    return Video(*found)


def main() -> None:
    """Render the task in the file of the first argument; write the result to the file of the second."""
    given, got = map(Path, sys.argv[1:])
    specs, task = pickle.loads(given.read_bytes())
    with contextlib.suppress(Exception):
        register(cloudpickle.loads(specs))
    out: tuple[Any, ...] | str
    try:
        out = tuple(_drawn(*cloudpickle.loads(task)))
    except ValueError as error:
        out = str(error)
    except Exception as error:  # whatever the environment raises
        out = f"The environment cannot be rendered: {type(error).__name__}: {error}"
    part = got.with_name("part")
    part.write_bytes(pickle.dumps(out))
    part.replace(got)


def _drawn(env: Any, act: Any, seed: int, max_steps: int | None) -> Video:
    made = _made(env)
    try:
        pictures, rate, steps, total = _played(made, act, seed, max_steps)
    finally:
        with contextlib.suppress(Exception):  # an error on closing does not matter
            made.close()
    webp, (width, height), shown = _encoded(pictures, rate)
    return Video(webp, width, height, shown, len(pictures) / rate, steps, total)


def _made(env: Any) -> Any:
    """The environment, ready to render."""
    mode: dict[str, Any] = {"render_mode": "rgb_array"}
    if callable(env):
        parameters = inspect.signature(env).parameters
        takes = "render_mode" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        made = make(env, **(mode if takes else {}))
    else:
        try:
            made = make(env, **mode, width=WIDTH, height=HEIGHT, camera_name="track")  # MuJoCo: follow the robot
        except TypeError:  # not MuJoCo
            made = make(env, **mode)
    if is_vector(made):
        raise EnvError(f"{name_of(env)!r} makes a vector environment; only a single one can be rendered.")
    if getattr(made, "render_mode", None) not in ("rgb_array", "rgb_array_list"):
        raise EnvError(f"{name_of(env)!r} has no render_mode 'rgb_array', so it cannot be rendered.")
    return made


def _played(made: Any, act: Any, seed: int, max_steps: int | None) -> tuple[list[Any], float, int, float]:
    """The frames, the frame rate, and the steps and return of the whole episode."""
    flat, to_action = observations_of(made.observation_space)[1], actions_of(made.action_space, True)[1]
    speed = float((getattr(made, "metadata", None) or {}).get("render_fps") or 30.0)
    every = max(1, round(speed / RATE))
    deadline = time.monotonic() + PATIENCE
    observation, _ = made.reset(seed=seed)
    pictures = [_picture(made)]
    total, steps, over = 0.0, 0, False
    while not over and steps < (max_steps or ENDLESS):
        action = to_action(act(np.asarray(flat(observation), dtype=np.float64)))
        observation, reward, terminated, truncated, _ = made.step(action)
        total, steps, over = total + float(reward), steps + 1, bool(terminated or truncated)
        wanted = steps % every == 0 and len(pictures) * every < SECONDS * speed
        if wanted and time.monotonic() < deadline:
            pictures.append(_picture(made))
    return pictures, speed / every, steps, total


def _picture(made: Any) -> Any:
    drawn = made.render()
    if isinstance(drawn, list):
        drawn = drawn[-1] if drawn else None
    array = np.asarray(drawn)
    if array.ndim != 3 or array.shape[2] != 3:
        raise EnvError(
            f"`render()` must return an array (h, w, 3), got {f'shape {array.shape}' if array.ndim else drawn}."
        )
    return array.astype(np.uint8)


def _encoded(pictures: list[Any], rate: float) -> tuple[bytes, tuple[int, int], int]:
    """The animation, with its frames shrunk and thinned until it is small enough; its frame size and frame count."""
    from PIL import Image

    images = [Image.fromarray(array) for array in pictures]
    width = min(WIDTH, images[0].width)
    step, quality = 1, 80
    while True:
        size = (width, max(1, round(images[0].height * width / images[0].width)))
        some = [image.resize(size, Image.Resampling.LANCZOS) for image in images[::step]]
        buffer = io.BytesIO()
        duration = [round(1000 * step / rate)] * len(some)
        duration[-1] += 700  # pause on the last frame before the loop restarts
        some[0].save(
            buffer, "WEBP", save_all=True, append_images=some[1:], duration=duration, loop=0, quality=quality, method=3
        )
        if buffer.tell() <= MOST_BYTES or width <= 64:
            return buffer.getvalue(), size, len(some)
        if quality > 45:
            quality = 45
        elif step == 1:
            step = 2
        else:
            width = width * 3 // 4
