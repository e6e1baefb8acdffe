"""Videos of policies: what is drawn, how small it is made, and what is said where nothing can be drawn."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from oracles.rl import EnvError
from oracles.rl import _video as module
from oracles.rl._video import video
from tests.oracles.helpers import alive, wait_for
from tests.oracles.rl.environments import Line

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install pillow")
needs_pygame = pytest.mark.skipif(
    importlib.util.find_spec("pygame") is None,
    reason='pygame is not installed: pip install "gymnasium[classic-control]"',
)


class Drawn(Line):
    """A line whose picture is grey as far as it has gone."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as gymnasium has it

    def __init__(self, render_mode: str | None = None, picture: Any = None, length: int = 6) -> None:
        super().__init__(length)
        self.render_mode, self.picture = render_mode, picture

    def render(self) -> Any:
        return np.full((30, 40, 3), 20 * self.t % 240, np.uint8) if self.picture is None else self.picture(self)


def still(observation: Any) -> Any:
    return np.zeros(1)


def greys(webp: bytes) -> list[float]:
    image = Image.open(io.BytesIO(webp))
    out = []
    for number in range(image.n_frames):
        image.seek(number)
        out.append(float(np.asarray(image.convert("RGB")).mean()))
    return out


def test_every_step_is_drawn_and_the_episode_is_that_of_the_seed() -> None:
    drawn = video(Drawn, still, seed=3)
    assert (drawn.width, drawn.height, drawn.frames, drawn.steps) == (40, 30, 7, 6)
    assert drawn.seconds == pytest.approx(0.7)
    np.testing.assert_allclose(greys(drawn.webp), 20 * np.arange(7), atol=3)
    env, total = Line(), 0.0
    env.reset(seed=3)
    for _ in range(6):
        total += env.step(np.zeros(1, np.float32))[1]
    assert drawn.episode_return == total
    assert video(Drawn, still, seed=3, max_steps=2).steps == 2


def test_only_the_first_seconds_are_drawn() -> None:
    drawn = video(lambda render_mode: Drawn(render_mode, length=500), still)
    assert drawn.steps == 500 and drawn.frames == 80 and drawn.seconds == 8.0


def test_it_is_made_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (150, 200, 3), dtype=np.uint8) for _ in range(12)]
    whole, size, frames = module._encoded(pictures, 10.0)
    assert size == (200, 150) and frames == 12 and len(whole) > 100_000
    monkeypatch.setattr(module, "MOST_BYTES", 60_000)
    small, size, frames = module._encoded(pictures, 10.0)
    assert len(small) <= 60_000 and frames == 6 and size[0] < 200 and size[0] / size[1] == pytest.approx(4 / 3, 0.02)
    assert Image.open(io.BytesIO(small)).size == size


@needs_pygame
def test_cartpole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = video("CartPole-v1", lambda o: np.array([0.0, o[2] + o[3]]), max_steps=40)
    assert drawn.frames == 21 and drawn.steps == 40 and drawn.episode_return == 40.0
    assert max(greys(drawn.webp)) - min(greys(drawn.webp)) < 50 and 100 < greys(drawn.webp)[0] < 255
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_mujoco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip('mujoco is not installed: pip install "gymnasium[mujoco]"')
    monkeypatch.chdir(tmp_path)
    try:
        drawn = video("Swimmer-v5", lambda o: np.array([1.0, -1.0]), max_steps=4)
    except EnvError as error:
        pytest.skip(f"this machine cannot draw: {error}")
    assert (drawn.width, drawn.height) == (module.WIDTH, module.HEIGHT) and drawn.frames >= 3
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - MuJoCo's log is not left behind


def raises(env: Any) -> Any:
    raise OSError("no light")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Line, "'Line' has no render_mode 'rgb_array'"),
        (lambda render_mode: Drawn(render_mode, lambda env: os.abort()), "ended with signal 6"),
        (lambda render_mode: Drawn(render_mode, raises), "OSError: no light"),
        (lambda: SyncVectorEnv([Line] * 2), "vector environment; only a single one can be rendered"),
        (lambda render_mode: Drawn(render_mode, lambda env: "a text"), r"must return an array \(h, w, 3\), got a text"),
        (lambda render_mode: Drawn(render_mode, lambda env: np.zeros((3, 3))), r"got shape \(3, 3\)"),
        ("Nothing-v0", "Unknown environment 'Nothing-v0'"),
    ],
)
def test_where_nothing_can_be_drawn_it_is_said_why(env: Any, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        video(env, still)


def test_a_drawing_that_hangs_is_ended(tmp_path: Path) -> None:
    def hangs(env: Any) -> Any:
        program = subprocess.Popen(["sleep", "600"])
        for pid in (program.pid, os.getpid()):
            (tmp_path / str(pid)).touch()
        time.sleep(600)

    begun = time.monotonic()
    with pytest.raises(EnvError, match="was not rendered within 6 s"):
        video(lambda render_mode: Drawn(render_mode, hangs), still, timeout=6)
    assert time.monotonic() - begun < 30
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    wait_for(lambda: not any(map(alive, pids)))


def test_spaces_that_are_not_flat() -> None:
    class Boxed(Drawn):
        def __init__(self, render_mode: str | None = None) -> None:
            super().__init__(render_mode)
            self.action_space = spaces.Discrete(2)

        def step(self, action: Any) -> Any:
            assert action == 1
            self.action_space = spaces.Box(-1.0, 1.0, (1,))
            return super().step(np.zeros(1, np.float32))

    assert video(Boxed, lambda o: np.array([0.0, 1.0])).steps == 6
