"""`blackbox-zo report` of trainings: the page, the picture, and the policy at play."""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from oracles.cli.main import main
from oracles.page import Chart, Commands, Media, Page
from oracles.rl import MLPPolicy, TorchPolicy, Training, load
from oracles.rl._career import Career
from oracles.rl.kind import TrainPolicyKind
from tests.oracles.rl.test_cli_watch import HEADER, evaluation, record

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
DATA = Path(__file__).parent / "data"
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
    for at, step, mean in ((10, 5, 2.5), (6, 3, 4.0), (0, 0, -6.0)):
        rows.insert(at, evaluation(step, mean, stderr=0.5))
    path.write_text(header + "".join(rows))
    return path


def page_of(path: Path) -> Page:
    given = argparse.Namespace(policy=None, no_video=True, trust=False, output=None, journals=[path])
    return TrainPolicyKind().page(bz.read_journal(path), given)


def test_what_a_journal_tells(tmp_path: Path) -> None:
    path = pretended(tmp_path / "run.jsonl")
    career = Career(bz.read_journal(path))
    assert career.played.tolist() == [20, 40, 60, 80, 100]
    assert (
        career.mean_return[[0, 2, 3, 4]].tolist() == [-4.5, -0.5, 1.5, 3.5]
        and career.mean_return[1] != career.mean_return[1]
    )
    assert career.best_so_far.tolist() == [-4, -4, 0, 2, 4]
    assert career.failed.tolist() == [2, 3] and career.n == 10
    tiles = dict(page_of(path).tiles)
    assert tiles["best evaluation, after step 3"] == "4" and tiles["last evaluation, after step 5"] == "2.5"
    assert tiles["steps"] == "5" and tiles["episodes"] == "20" and tiles["failed candidates"] == "2"
    assert career.reasons() == [("the score is not finite", 1, 2), (EVIL, 1, 3)]


def test_the_page_says_it_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(pretended(tmp_path / "run.jsonl"))]) == 0
    assert "run.html: best evaluation, after step 3 4, " in capsys.readouterr().out
    page = (tmp_path / "run.html").read_text()
    for words in (
        "Learning curve",
        "Failures",
        "Some-v0",
        "best evaluation",
        "all failed",
        "environment steps",
    ):
        assert words in page
    assert EVIL not in page and "&lt;script&gt;" in page and "at play" not in page


def test_a_training_that_has_just_begun(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(pretended(path).read_text().splitlines()[0] + "\n")
    assert main(["report", str(path)]) == 0 and main(["report", str(path), "-o", str(tmp_path / "run.png")]) == 0
    assert "No step has been recorded yet." in (tmp_path / "run.html").read_text()


def test_a_picture(trained: Path) -> None:
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install pillow")
    assert main(["report", str(trained / "run.jsonl"), "-o", str(trained / "run.png")]) == 0
    with Image.open(trained / "run.png") as image:
        assert image.size[0] > 1000


@pytest.mark.skipif(not PYGAME, reason='pygame is not installed: pip install "gymnasium[classic-control]"')
def test_the_policy_at_play(trained: Path) -> None:
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install pillow")
    for more in ([], ["--policy", str(trained / "policy.npz")]):
        assert main(["report", str(trained / "run.jsonl"), *more]) == 0
        page = (trained / "run.html").read_text()
        found = re.search('src="data:image/webp;base64,([^"]+)"', page)
        assert found is not None and "<dt>steps</dt><dd>" in page and "<dd>policy.npz</dd>" in page
        image = Image.open(io.BytesIO(base64.b64decode(found[1])))
        assert image.n_frames > 2 and image.size[0] == 360
        steps = int(page.split("<dt>steps</dt><dd>")[1].split("<")[0])
        assert 0 < steps <= 60  # --max-steps holds for the video too


def test_no_video_and_why(trained: Path, tmp_path: Path) -> None:
    journal = str(trained / "run.jsonl")
    assert main(["report", journal, "--no-video", "-o", str(tmp_path / "a.html")]) == 0
    assert "at play" not in (tmp_path / "a.html").read_text()
    text = (trained / "run.jsonl").read_text().replace("CartPole-v1", "CartPole-v9")
    (tmp_path / "gone.jsonl").write_text(text)
    assert main(["report", str(tmp_path / "gone.jsonl")]) == 0
    page = (tmp_path / "gone.html").read_text()
    assert "The policy policy.npz cannot be shown. Unknown environment &#x27;CartPole-v9&#x27;" in page


def test_bad_input(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal, other = str(trained / "run.jsonl"), tmp_path / "other.jsonl"
    assert main(["report", journal, "--policy", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
    (tmp_path / "bad.npz").write_text("hello")
    assert main(["report", journal, "--policy", str(tmp_path / "bad.npz")]) == 2
    assert "is no file of a trained policy" in capsys.readouterr().err
    bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=10, journal=other)
    assert main(["report", journal, str(other)]) == 2
    assert "only runs of one kind can be compared" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ from the journal alone


@pytest.mark.skipif(not PYGAME, reason='pygame is not installed: pip install "gymnasium[classic-control]"')
def test_the_best_policy_is_made_again_for_the_video(trained: Path, tmp_path: Path) -> None:
    """Where none was saved, or it is gone."""
    header, *rest = (trained / "run.jsonl").read_text().splitlines(keepends=True)
    told = json.loads(header)
    told["settings"]["save"] = str(tmp_path / "gone.npz")
    (tmp_path / "run.jsonl").write_text(json.dumps(told) + "\n" + "".join(rest))
    given = argparse.Namespace(policy=None, no_video=False, trust=False, output=tmp_path / "run.html", journals=[1])
    page = TrainPolicyKind().page(bz.read_journal(tmp_path / "run.jsonl"), given)
    (media,) = (part for section in page.sections for part in section.parts if isinstance(part, Media))
    assert dict(media.facts)["policy"].startswith("after step ")
    saved = argparse.Namespace(**{**vars(given), "policy": trained / "policy.npz"})
    other = TrainPolicyKind().page(bz.read_journal(tmp_path / "run.jsonl"), saved)
    (second,) = (part for section in other.sections for part in section.parts if isinstance(part, Media))
    assert dict(second.facts)["return"] == dict(media.facts)["return"]
    given.output = tmp_path / "run.png"  # a picture shows no video
    page = TrainPolicyKind().page(bz.read_journal(tmp_path / "run.jsonl"), given)
    assert not any(isinstance(part, Media) for section in page.sections for part in section.parts)


def test_a_journal_from_elsewhere_is_not_trusted(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    text = (trained / "run.jsonl").read_text()
    for name in ("evil:make_env", "evil:Some-v0"):
        (tmp_path / "run.jsonl").write_text(text.replace('"CartPole-v1"', f'"{name}"'))
        assert main(["report", "run.jsonl"]) == 0 and main(["report", "run.jsonl", "-o", "run.png"]) == 0
        assert main(["watch", "run.jsonl"]) == 0 and main(["export", "run.jsonl", "-o", "p.npz"]) == 0
        page = (tmp_path / "run.html").read_text()
        assert "is run only with --trust" in page and not (tmp_path / "ran").exists()
        assert main(["report", "run.jsonl", "--trust"]) == 0
        assert (tmp_path / "ran").exists()
        (tmp_path / "ran").unlink()
        sys.modules.pop("evil", None)
    capsys.readouterr()


@pytest.mark.parametrize("how", ["linear", "mlp", "rank"])
def test_export_rebuilds_the_policy_that_was_saved(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"linear": ["--preset", "ars"], "mlp": ["--hidden", "4", "--seed", "3"], "rank": ["--preset", "rank"]}[how]
    given = ["train-policy", "--env", "CartPole-v1", "--workers", "0", "--steps", "5", "--every", "2", "--quiet"]
    assert main([*given, "--max-steps", "60", "--journal", "run.jsonl", "--save", "saved.npz", *more]) == 0
    assert main(["export", "run.jsonl", "-o", "best.npz"]) == 0
    one, two = np.load("saved.npz"), np.load("best.npz")
    assert set(one.files) == set(two.files) and all(np.array_equal(one[name], two[name]) for name in one.files)
    assert main(["export", "run.jsonl", "-o", "first.npz", "--step", "1"]) == 0
    assert not np.array_equal(np.load("first.npz")["w0"], np.load("saved.npz")["w0"])
    assert load("first.npz")(np.zeros(4)).shape == (2,)


def test_export_of_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its policy may be larger than what a header holds of a start, and is made again by its seed."""
    policy = MLPPolicy.for_env("CartPole-v1", hidden=(96, 40), activation="relu", normalize=True, seed=5)
    path, target = tmp_path / "run.jsonl", tmp_path / "p.npz"
    with Training("CartPole-v1", "pgpe", policy, workers=0, journal=path, max_steps=20) as training:
        list(training.run(2))
        training.trained.save(tmp_path / "own.npz")
        now = training.trained
    assert policy.size > 4096 and now.seen is not None
    assert main(["export", str(path), "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"policy after step 2: {target}\n"
    one, two = np.load(tmp_path / "own.npz"), np.load(target)
    assert all(np.array_equal(one[name], two[name]) for name in one.files)
    assert main(["resume", str(path)]) == 2
    assert "was started by a Python program" in capsys.readouterr().err


def test_what_cannot_be_exported(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = str(trained / "run.jsonl")

    def refused(*given: str) -> str:
        assert main(["export", *given]) == 2
        return capsys.readouterr().err

    assert "must end in .npz or .onnx" in refused(journal, "-o", str(tmp_path / "p.zip"))
    assert "holds 4 complete steps, not 5" in refused(journal, "-o", str(tmp_path / "p.npz"), "--step", "5")
    assert "No such file" in refused(journal, "-o", str(tmp_path / "none" / "p.npz"))
    policy = TorchPolicy(torch.nn.Linear(4, 2))
    with Training("CartPole-v1", "cma", policy, workers=0, journal=tmp_path / "t.jsonl", max_steps=9) as training:
        list(training.run(1))
    assert "hold all of a `TorchPolicy`" in refused(str(tmp_path / "t.jsonl"), "-o", str(tmp_path / "p.npz"))
    text = (trained / "run.jsonl").read_text()
    (tmp_path / "other.jsonl").write_text(text.replace('"start": "', '"start": "0'))
    assert "does not start where the run did" in refused(str(tmp_path / "other.jsonl"), "-o", str(tmp_path / "p.npz"))
    assert not (tmp_path / "p.npz").exists() and not (tmp_path / "p.npz.part").exists()


def test_runs_beside_each_other(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("oracles.rl._video.video", lambda *what, **how: drawn.append(what))
    one, two = str(trained / "run.jsonl"), str(pretended(tmp_path / "other.jsonl"))
    assert main(["report", one, two, "-o", str(tmp_path / "both.html")]) == 0
    page = (tmp_path / "both.html").read_text()
    assert all(words in page for words in ("1. run.jsonl", "2. other.jsonl", "episodes per candidate"))
    assert not drawn  # nobody would see it


def test_a_journal_of_format_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As version 0.1 wrote it: what was learnt stands beside the answers, evaluations in a file of their own."""
    for name in ("format1.jsonl", "format1.jsonl.eval.jsonl"):
        shutil.copy(DATA / name, tmp_path)
    path = tmp_path / "format1.jsonl"
    assert dict(page_of(path).tiles)["best evaluation, after step 1"] == "12"
    assert main(["watch", str(path)]) == 0
    assert "step 2/2: return 11.4, best 12, 32 episodes, 357 steps" in capsys.readouterr().out
    assert main(["export", str(path), "-o", str(tmp_path / "p.npz")]) == 0
    saved = np.load(tmp_path / "p.npz")
    assert saved["w0"][0].tolist() == [
        0.810047627740971,
        0.027638548709543177,
        0.09446522221859885,
        -0.056643261502474146,
    ]
    assert saved["b0"].tolist() == [0.04531069333176992, 0.008935451423349958]
    capsys.readouterr()
    assert main(["resume", str(path)]) == 2
    assert "was written by format version 1, of blackbox_zo 0.1.0." in capsys.readouterr().err


def test_commands_that_help(trained: Path) -> None:
    page = page_of(trained / "run.jsonl")
    rows = dict(row for s in page.sections for part in s.parts if isinstance(part, Commands) for row in part.rows)
    assert rows["how it was started"].startswith("blackbox-zo train-policy --env CartPole-v1 ")
    assert rows["to continue"] == f"blackbox-zo resume {trained / 'run.jsonl'} --steps 8"
    assert rows["to save the policy"] == f"blackbox-zo export {trained / 'run.jsonl'} -o policy.npz"
    (chart,) = (part for s in page.sections for part in s.parts if isinstance(part, Chart))
    assert chart.compared in [layer.label for layer in chart.layers]
