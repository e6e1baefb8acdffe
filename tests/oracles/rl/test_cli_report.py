"""`blackbox-zo report` of trainings: the page, the picture, and the policy at play."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import blackbox_zo as bz
from oracles.cli._rl_evaluations import Evaluation, Evaluations, beside
from oracles.cli._rl_history import career_of
from oracles.cli.main import main
from tests.oracles.rl.test_cli_watch import HEADER, record

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
EVIL = "<script>alert('x')</script>"
PYGAME = importlib.util.find_spec("pygame") is not None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a journal and the policy that was saved."""
    folder = tmp_path_factory.mktemp("trained")
    given = [
        "train-policy",
        "--env",
        "CartPole-v1",
        "--workers",
        "0",
        "--steps",
        "4",
        "--every",
        "2",
        "--max-steps",
        "60",
    ]
    kept = ["--journal", str(folder / "run.jsonl"), "--save", str(folder / "policy.npz"), "--quiet"]
    assert main([*given, *kept]) == 0
    yield folder


def pretended(path: Path) -> Path:
    """Five steps of two candidates, the second step all failed; two evaluations."""
    header = json.dumps({**HEADER, "estimator": {"name": "X"}, "dimension": 3, "seed": 0}) + "\n"
    rows = [
        record(i // 2, i, None if i in (2, 3) else i - 5.0, **({"error": EVIL} if i == 3 else {})) for i in range(10)
    ]
    path.write_text(header + "".join(rows))
    found = Evaluations(beside(path))
    for step, mean in ((0, -6.0), (3, 4.0), (5, 2.5)):
        found.add(Evaluation(step, 20 * step, 4 * step, mean, 0.5))
    return path


def test_what_a_journal_tells(tmp_path: Path) -> None:
    career = career_of(pretended(tmp_path / "run.jsonl"))
    assert career.played.tolist() == [20, 40, 60, 80, 100]
    assert career.mean[[0, 2, 3, 4]].tolist() == [-4.5, -0.5, 1.5, 3.5] and career.mean[1] != career.mean[1]
    assert career.best_so_far.tolist() == [-4, -4, 0, 2, 4]
    assert career.failures == [(2, "the score is not finite"), (3, EVIL)] and career.candidates == 10
    tiles = dict(career.tiles())
    assert tiles["best evaluated, after step 3"] == "4" and tiles["last evaluated, after step 5"] == "2.5"
    assert tiles["steps"] == "5" and tiles["episodes"] == "20" and tiles["failed candidates"] == "2"
    assert career.reasons() == [("the score is not finite", 1, 2), (EVIL, 1, 3)]


def test_the_page_says_it_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(pretended(tmp_path / "run.jsonl"))]) == 0
    assert "run.html: 5 steps, " in capsys.readouterr().out
    page = (tmp_path / "run.html").read_text()
    for words in (
        "Learning curve",
        "Failures",
        "Some-v0",
        "best evaluated",
        "× all failed",
        "steps of the environment",
    ):
        assert words in page
    assert EVIL not in page and "&lt;script&gt;" in page and "at play" not in page


def test_a_training_that_has_just_begun(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(pretended(path).read_text().splitlines()[0] + "\n")
    beside(path).unlink()
    assert main(["report", str(path)]) == 0 and main(["report", str(path), "-o", str(tmp_path / "run.png")]) == 0
    assert "No step has been recorded yet." in (tmp_path / "run.html").read_text()


def test_a_picture(trained: Path) -> None:
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install pillow")
    assert main(["report", str(trained / "run.jsonl"), "-o", str(trained / "run.png")]) == 0
    with Image.open(trained / "run.png") as image:
        assert image.size[0] > 1000


@pytest.mark.skipif(not PYGAME, reason='pygame is not installed: pip install "gymnasium[classic-control]"')
def test_the_policy_at_play(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install pillow")
    for more in ([], ["--policy", str(trained / "policy.npz")]):
        assert main(["report", str(trained / "run.jsonl"), *more]) == 0
        assert "4 steps, and policy.npz at play" in capsys.readouterr().out
        page = (trained / "run.html").read_text()
        found = re.search('src="data:image/webp;base64,([^"]+)"', page)
        assert found is not None and "<dt>its steps</dt><dd>" in page
        image = Image.open(io.BytesIO(base64.b64decode(found[1])))
        assert image.n_frames > 2 and image.size[0] == 360
        steps = int(page.split("<dt>its steps</dt><dd>")[1].split("<")[0])
        assert 0 < steps <= 60  # --max-steps holds for the video too


def test_no_video_and_why(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = str(trained / "run.jsonl")
    assert main(["report", journal, "--no-video", "-o", str(tmp_path / "a.html")]) == 0
    assert "at play" not in (tmp_path / "a.html").read_text()
    text = (trained / "run.jsonl").read_text().replace("CartPole-v1", "CartPole-v9")
    (tmp_path / "gone.jsonl").write_text(text)
    assert main(["report", str(tmp_path / "gone.jsonl")]) == 0
    assert "no video (There is no environment 'CartPole-v9'" in capsys.readouterr().out
    page = (tmp_path / "gone.html").read_text()
    assert "policy.npz cannot be shown. There is no environment" in page


def test_bad_input(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal, other = str(trained / "run.jsonl"), tmp_path / "other.jsonl"
    assert main(["report", journal, "--policy", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
    (tmp_path / "bad.npz").write_text("hello")
    assert main(["report", journal, "--policy", str(tmp_path / "bad.npz")]) == 2
    assert "is no file of a trained policy" in capsys.readouterr().err
    bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=10, journal=other)
    assert main(["report", str(other), "--policy", journal]) == 2
    assert "--policy is of a training" in capsys.readouterr().err
