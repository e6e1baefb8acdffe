"""A search of a policy that is killed anywhere, driven in any way and through any wrapper, ends at the same bits."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.testing import check_learning
from oracles import RankOnly, Repeat, Timeout
from oracles.cli.main import main
from oracles.rl import EpisodeOracle, Horizon, LinearPolicy, MLPPolicy, Training, train
from oracles.rl._names import RETURN
from tests.journals import measures, read
from tests.oracles.helpers import arguments, cli, environment, lines, wait_for
from tests.oracles.rl.environments import Line, raises
from tests.oracles.rl.helpers import oracle_of
from tests.oracles.rl.test_cli_train import SLOW


class Bare:
    """The least that a wrapper may be: it has `answer`, and nothing else."""

    def __init__(self, oracle: Any) -> None:
        self.oracle = oracle

    def answer(self, proposal: bz.Proposal) -> bz.Feedback:
        answer: bz.Feedback = self.oracle.answer(proposal)
        return answer


WRAPPERS: dict[str, Callable[[EpisodeOracle], Any]] = {
    "none": lambda oracle: oracle,
    "bare": Bare,
    "several": lambda oracle: RankOnly(Bare(Timeout(Repeat(oracle, 1), 60.0))),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(("normalize", "horizon"), [(True, None), (True, Horizon(3, 1)), (False, Horizon(2, 2))])
def test_broken_anywhere_and_driven_in_any_way_a_run_ends_the_same(
    wrapper: str, normalize: bool, horizon: Horizon | None
) -> None:
    """By `Search.run`, by hand, by `minimize`, from a journal or from `state_dict`, and through every wrapper."""

    def start() -> tuple[Any, Any]:
        oracle = oracle_of(0, MLPPolicy(3, 1, (4,), normalize=normalize, seed=2), horizon=horizon)
        return WRAPPERS[wrapper](oracle), oracle.x0

    check_learning(start)


def test_a_checkpoint_of_another_number_of_observations_is_refused() -> None:
    policy = LinearPolicy(3, 1, normalize=True)
    with contextlib.closing(EpisodeOracle(Line, policy, workers=0)) as oracle:
        search = bz.Search(oracle.x0, bz.RandomVector(0.1, 2), seed=1)
        for _ in search.run(oracle, 1):
            pass
        saved = search.state_dict()
        other = EpisodeOracle(Line, policy, workers=0)
        other.policy = LinearPolicy(5, 1, normalize=True)
        again = bz.Search(oracle.x0, bz.RandomVector(0.1, 2), seed=1)
        again.load_state_dict(saved)
        with pytest.raises(ValueError, match="3 observations, but the policy sees 5: it belongs to another"):
            again.state_of(other)


def test_best_is_that_of_earlier_parts_too(tmp_path: Path) -> None:
    """And `train` gives the same policy for a run that was broken off as for one that was not."""

    def policy() -> MLPPolicy:
        return MLPPolicy(3, 1, (4,), normalize=True, seed=2)

    how: dict[str, Any] = {"workers": 0, "evaluate": 2, "every": 1, "seed": 3}
    whole = train(Line, "ars", policy(), steps=4, **how, journal=tmp_path / "whole.jsonl")
    found = {m["step"]: m["values"][RETURN] for m in measures(tmp_path / "whole.jsonl")}
    best = max(found, key=lambda step: found[step])
    assert 0 < best
    for cut in range(5):
        path = tmp_path / f"{cut}.jsonl"
        with Training(Line, "ars", policy(), **how, journal=path) as training:
            list(training.run(cut))
        again = train(Line, "ars", policy(), steps=4 - cut, **how, journal=path)
        assert np.array_equal(again.x, whole.x) and again.seen is not None and whole.seen is not None
        assert np.array_equal(again.seen.mean, whole.seen.mean)
        with Training(Line, "ars", policy(), **how, journal=path) as training:
            assert training.best_step == best and training.best is not None and training.best[1] == found[best]


@pytest.mark.parametrize("method", ["auto", "ars", "rank", "rank-sgd"])
def test_a_training_that_fails_in_every_step_ends(method: str) -> None:
    asked: list[Any] = []
    words = r"of the last 10 steps failed.*The first failure: RuntimeError: the motor is on fire"
    with pytest.raises(bz.OracleError, match=words):
        train(lambda: Line(misdeed=raises), method, workers=0, steps=50, callback=asked.append)
    assert len(asked) == 10


# ------------------------------------------------------------------------------------------------- the command line


def untimed(path: Path) -> list[Any]:
    return [{**entry, "seconds": 0} for entry in measures(path)]


@pytest.mark.parametrize("preset", ["ars", "rank"])
def test_killed_with_sigkill_and_resumed_by_name(preset: str, tmp_path: Path) -> None:
    (tmp_path / "my_env.py").write_text(SLOW)
    words = ["train-policy", "--env", "my_env:make_env", "--preset", preset, "--normalize", "--hidden", "3"]
    words += ["--steps", "5", "--every", "2", "--workers", "2", "--quiet"]
    done = cli(*words, "--journal", "whole.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path, instants = tmp_path / "part.jsonl", random.Random(preset)
    begin: list[str] = [*words, "--journal", "part.jsonl"]
    for kill in range(3):
        before = len(lines(path))
        process = subprocess.Popen(
            arguments(*(["resume", "part.jsonl"] if kill else begin)), cwd=tmp_path, env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        enough = before + (instants.randint(1, 25) if preset == "ars" else 1)
        wait_for(lambda: process.poll() is not None or len(lines(path)) > enough)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL, said
    assert read(path)[1] != read(tmp_path / "whole.jsonl")[1]
    rest = cli("resume", "part.jsonl", cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    by_id = [sorted(read(p)[1], key=lambda r: (r["step"], r.get("id", 0))) for p in (path, tmp_path / "whole.jsonl")]
    assert by_id[0] == by_id[1]
    assert untimed(path) == untimed(tmp_path / "whole.jsonl") and [m["step"] for m in untimed(path)] == [0, 2, 4, 5]


def test_what_a_run_needs_and_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    (tmp_path / "folder" / "my_env.py").write_text(SLOW)
    words = [
        "train-policy",
        "--preset",
        "cma",
        "--env",
        "my_env:other_env",
        "--workers",
        "0",
        "--steps",
        "1",
        "--quiet",
    ]
    done = cli(*words, "--journal", "../run.jsonl", cwd=tmp_path / "folder")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)

    def refused() -> str:
        capsys.readouterr()
        assert main(["resume", "run.jsonl", "--steps", "2"]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    (tmp_path / "folder" / "my_env.py").rename(tmp_path / "folder" / "moved.py")
    assert "--env: importing 'my_env' failed: ModuleNotFoundError: No module named 'my_env'" in refused()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    assert f"was started in folder {str(tmp_path / 'folder')!r}, which no longer exists" in refused()
    text = (tmp_path / "run.jsonl").read_text()
    (tmp_path / "run.jsonl").write_text(text.replace("my_env:other_env", "some_package:Game-v3"))
    (tmp_path / "folder").mkdir()
    assert (
        "'some_package:Game-v3' needs a package that is not installed: " in (said := refused())
        and "some_package" in said
    )
    for name in ("gymnasium", "cloudpickle"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        monkeypatch.chdir(tmp_path)
        assert f"This needs {name}, which is not installed: pip install 'blackbox-zo[rl]'" in refused()
        monkeypatch.undo()
