"""`blackbox-zo train-policy`, as a process: what it prints and keeps, and what Ctrl-C and a kill leave behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._replay import engine_of, replay
from oracles.cli.main import main
from oracles.rl import PRESETS, Horizon, Training, load, preset
from oracles.rl.options import PRESET_LINES
from tests.journals import measures, read
from tests.oracles.helpers import arguments, cli, environment, in_a_terminal, lines, wait_for

CART = ("train-policy", "--env", "CartPole-v1", "--steps", "6", "--every", "2", "--quiet")
SLOW = """
import time
from tests.oracles.rl.environments import Line


class Slow(Line):
    def step(self, action):
        time.sleep(0.004)
        return super().step(action)


def make_env():
    return Slow()


def other_env():
    return Line()


def failing():
    def misdeed(env, observation):
        raise RuntimeError("the motor is on fire")

    return Line(misdeed=misdeed)


def sometimes():
    def misdeed(env, observation):
        if env.at > 0.0:
            raise RuntimeError("the motor is on fire")
        return observation

    return Line(misdeed=misdeed)


number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_env.py").write_text(SLOW)
    return tmp_path


def slow(journal: str, *more: str) -> list[str]:
    """Arguments of a training in `Slow`; observations are normalised, so that their statistics count too."""
    what = ["train-policy", "--env", "my_env:make_env", "--preset", "ars", "--policy", "mlp", "--hidden", "3"]
    return [*what, "--steps", "6", "--workers", "2", "--every", "2", "--journal", journal, *more]


def final_x(journal: Path) -> Any:
    """Where a journal's run stands, and how many steps that were."""
    reader = bz.read_journal(journal)
    engine = engine_of(reader.header)
    replay(engine, reader)
    assert isinstance(engine.variable, bz.Vector)
    return engine.variable.version, np.array(engine.variable.value)


def answers(journal: Path) -> list[Any]:
    return sorted(read(journal)[1], key=lambda r: int(r["id"]))


def evaluations(journal: Path) -> list[Any]:
    """The measures, without the seconds they were taken at."""
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in measures(journal)]


# ------------------------------------------------------------------------------------------------- from start to end


def test_from_start_to_end(tmp_path: Path) -> None:
    done = cli(*CART, "--journal", "run.jsonl", "--save", "policy.npz", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told, counts, saved, see = done.stdout.splitlines()
    assert told.startswith("evaluated: ") and " before, " in told and told.endswith(" after step 6")
    assert counts.startswith("6 of 6 steps, 60 episodes, ") and " steps of the environment, " in counts
    assert saved.startswith("policy after step ") and saved.endswith(": policy.npz")
    assert see == "to see it: blackbox-zo report run.jsonl"
    found = measures(tmp_path / "run.jsonl")
    assert [e["step"] for e in found] == [0, 2, 4, 6] and {e["measure"] for e in found} == {"return"}
    done_at = [e["values"] for e in found]
    assert [e["episodes"] for e in done_at] == [0, 20, 40, 60] and done_at[-1]["return"] > done_at[0]["return"]
    assert done_at[-1]["steps"] == sum(r["info"]["steps"] for r in read(tmp_path / "run.jsonl")[1])
    best = max(found, key=lambda e: e["values"]["return"])
    value = best["values"]["return"]
    assert f"evaluated {value:.1f}".removesuffix(".0") in saved and f"after step {best['step']}," in saved
    assert load(tmp_path / "policy.npz")(np.zeros(4)).shape == (2,)


def test_the_journal_is_that_of_a_program(tmp_path: Path) -> None:
    """What the command began, `oracles.rl.train` can go on with; evaluations are those of `Trained.evaluate`."""
    journal = tmp_path / "run.jsonl"
    assert cli(*CART, "--preset", "ars", "--journal", str(journal), cwd=tmp_path).returncode == 0
    with Training("CartPole-v1", "ars", workers=0, journal=journal) as training:
        assert training.search.steps == 6
        for _ in training.search.run(training.oracle, 0):
            pass
        mean = training.trained.evaluate(5).mean()
    assert measures(journal)[-1]["values"]["return"] == mean


def test_rankings_alone(tmp_path: Path) -> None:
    done = cli(*CART, "--preset", "rank", "--journal", "run.jsonl", "--workers", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    header, records = read(tmp_path / "run.jsonl")
    assert header["problem"]["rank"] and all("levels" in r and "value" not in r for r in records)


def test_steps_of_the_environment_end_it(tmp_path: Path) -> None:
    given = ["train-policy", "--env", "CartPole-v1", "--workers", "0", "--env-steps", "300", "--evaluate", "0"]
    done = cli(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "/300 env-steps, step 1, return" in done.stderr
    assert "Nothing was saved" in done.stdout and "evaluated" not in done.stdout
    taken = int(done.stdout.split(" steps of the environment")[0].split()[-1].replace(",", ""))
    assert 300 <= taken < 300 + 10 * 500


def test_all_options_reach_the_oracle(tmp_path: Path) -> None:
    given = ["--episodes", "2", "--max-steps", "7", "--survival-bonus", "0.5", "--seed", "4", "--hidden", "5,3"]
    given += ["--num-envs", "4"]
    done = cli(*CART, *given, "--workers", "0", "--journal", "run.jsonl", "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    header, records = read(tmp_path / "run.jsonl")
    problem = header["problem"]
    assert problem["episodes"] == 2 and problem["max_steps"] == 7 and problem["survival_bonus"] == 0.5
    assert problem["num_envs"] == 4
    assert (
        header["seed"] == problem["seed"] == problem["policy_seed"] == 4
        and header["dimension"] == (4 + 1) * 5 + (5 + 1) * 3 + (3 + 1) * 2
    )
    assert all(r["info"]["steps"] <= 14 and r["value"] == -r["info"]["return"] / 2 for r in records)


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    done = cli(*CART, "--steps", "1", "--workers", "0", "--onnx", "policy.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "policy.onnx").stat().st_size > 100


def test_a_live_bar_on_a_terminal(tmp_path: Path) -> None:
    pytest.importorskip("rich", reason="rich is not installed: pip install rich")
    code, out, shown = in_a_terminal(
        arguments(*CART[:-1], "--workers", "0", "--steps", "16"), environment() | {"COLUMNS": "120"}, tmp_path
    )
    assert code == 0 and b"evaluated: " in out
    assert "16/16" in shown and "steps/s" in shown and "evaluated" in shown and "━" in shown


# ------------------------------------------------------------------------------------------------- ends and resumes


def test_interrupted_and_resumed_is_the_same_run(folder: Path) -> None:
    whole = cli(*slow("whole.jsonl", "--save", "whole.npz"), cwd=folder)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        arguments(*slow("part.jsonl")),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(lines(folder / "part.jsonl")) > 22)  # amid the second step
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    assert "Interrupted; every answer is kept.\n" in out and "\n1 of 6 steps, " in out
    assert "to continue: blackbox-zo resume part.jsonl" in out
    killed = len(answers(folder / "part.jsonl"))
    assert 22 <= killed < 90
    second = subprocess.Popen(arguments("resume", "part.jsonl", "--quiet"), cwd=folder, env=environment())
    wait_for(lambda: len(lines(folder / "part.jsonl")) > killed + 20)
    second.send_signal(signal.SIGKILL)
    second.wait()
    rest = cli(*slow("part.jsonl", "--save", "part.npz", "--workers", "1"), cwd=folder)
    assert rest.returncode == 0, rest.stderr
    assert "steps of this run, which continues." in rest.stdout and " now)" in rest.stdout
    assert answers(folder / "part.jsonl") == answers(folder / "whole.jsonl")
    done, x = final_x(folder / "part.jsonl")
    assert done == 6 and np.array_equal(x, final_x(folder / "whole.jsonl")[1])
    assert evaluations(folder / "part.jsonl") == evaluations(folder / "whole.jsonl")
    assert [e["step"] for e in evaluations(folder / "part.jsonl")] == [0, 2, 4, 6]
    one, two = (np.load(folder / f"{name}.npz") for name in ("whole", "part"))
    assert all(np.array_equal(one[name], two[name]) for name in one.files)
    again = cli(*slow("part.jsonl", "--save", "again.npz"), cwd=folder)  # now the best is all of earlier runs
    assert again.returncode == 0 and "holds all 6 steps of this run; give a larger --steps to continue." in again.stdout
    three = np.load(folder / "again.npz")
    assert all(np.array_equal(one[name], three[name]) for name in one.files)
    kept = evaluations(folder / "part.jsonl")
    text = lines(folder / "part.jsonl")
    (folder / "part.jsonl").write_text("\n".join(text[:-1]) + "\n")  # as if killed amid the last evaluation
    assert len(evaluations(folder / "part.jsonl")) == 3
    assert cli(*slow("part.jsonl"), cwd=folder).returncode == 0
    assert evaluations(folder / "part.jsonl") == kept and len(lines(folder / "part.jsonl")) == len(text)


def test_a_signal_is_heard_between_the_episodes_of_a_ranking(folder: Path) -> None:
    """Whose answer comes when the whole step is done, here after two seconds."""
    words = ["train-policy", "--env", "my_env:make_env", "--preset", "rank", "--episodes", "10", "--workers", "1"]
    given = arguments(*words, "--evaluate", "0", "--journal", "run.jsonl", "--quiet")
    process = subprocess.Popen(given, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(lines(folder / "run.jsonl")) == 2)  # the second step has begun
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130 and len(lines(folder / "run.jsonl")) == 2  # and was not waited for


def test_another_run_is_refused_by_the_name_of_what_differs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.delitem(sys.modules, "my_env", raising=False)
    base = [*CART, "--workers", "0", "--steps", "1", "--journal", "run.jsonl", "--evaluate", "0"]

    def refused(*given: str) -> str:
        capsys.readouterr()
        assert main(given) == 2
        return capsys.readouterr().err

    assert main(base) == 0
    for more, words in (
        (["--env", "Acrobot-v1"], "its --env is 'CartPole-v1', here it is 'Acrobot-v1'"),
        (["--env", "my_env:make_env"], "its --env is 'CartPole-v1', here it is 'my_env:make_env'"),
        (["--preset", "ars"], "its --normalize (or --preset) is False, here it is True"),
        (["--preset", "ars-v1"], "its --horizon (or --preset) is [300, 3], here it is None"),
        (["--preset", "consensus", "--no-normalize", "--horizon", "300"], "its --horizon (or --preset) is [300, 3]"),
        (["--seed", "3"], "its --seed is 0, here it is 3"),
        (["--hidden", "2", "--preset", "cma"], "its --policy is 'LinearPolicy', here it is 'MLPPolicy'"),
        (["--episodes", "3"], "its --episodes is 1, here it is 3"),
        (["--num-envs", "2"], "its --num-envs is 1, here it is 2"),
        (["--max-steps", "9"], "its --max-steps is None, here it is 9"),
    ):
        said = refused(*base, *more)
        assert words in said and said.count("\n") == 1, said
    journal = folder / "run.jsonl"
    text = journal.read_text()
    journal.write_text(text.replace('"versions": {"gymnasium": "', '"versions": {"gymnasium": "0.'))
    assert "its set of versions is {'gymnasium': '0." in refused(*base)
    bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=10, journal=folder / "other.jsonl")
    assert "belongs to another run" in refused(*base, "--journal", "other.jsonl")
    journal.write_text(text)
    assert "its --seed is 0, here it is 3" in refused("resume", "run.jsonl", "--seed", "3").splitlines()[-1]


def test_when_all_fail_the_reason_is_shown(folder: Path) -> None:
    given = ["train-policy", "--preset", "ars", "--workers", "0", "--evaluate", "0", "--steps"]
    done = cli(*given, "30", "--env", "my_env:failing", cwd=folder)
    assert done.returncode == 1
    assert "candidate 0 failed: RuntimeError: the motor is on fire" in done.stderr
    assert "blackbox-zo: All queries of the last 10 steps failed" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("The first failure: RuntimeError: the motor is on fire")
    assert "10 of 30 steps, 160 episodes, 160 failed, 0 steps of the environment" in done.stdout
    done = cli(*given, "3", "--env", "my_env:failing", cwd=folder)
    assert done.returncode == 1
    assert "blackbox-zo: all 48 candidates failed. The first: RuntimeError: the motor is on fire" in done.stderr
    done = cli(*given, "6", "--env", "my_env:sometimes", cwd=folder)
    assert done.returncode == 0 and " failed, " in done.stdout and "blackbox-zo:" not in done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--env", "CartPol-v1"], "Did you mean CartPole-v1"),
        (["--env", "no_module:make"], "--env: importing 'no_module' failed"),
        (["--env", "my_env:nothing"], "--env: 'my_env' has no function 'nothing'; it has "),
        (["--env", "my_env:number"], "--env: 'my_env' has no function 'number'"),
        (["--env", "json:loads"], "loads"),
        (["--env", "CartPole-v1", "--preset", "arz"], "invalid choice"),
        (["--env", "CartPole-v1", "--policy", "linear", "--hidden", "3"], "a linear policy has no hidden layers"),
        (["--env", "CartPole-v1", "--hidden", "3,x"], "at least 1, got 'x'"),
        (["--env", "CartPole-v1", "--steps", "0"], "at least 1, got '0'"),
        (["--env", "CartPole-v1", "--survival-bonus", "nan"], "must be a number"),
        (["--env", "CartPole-v1", "--save", "no/such/policy.npz"], "--save 'no/such/policy.npz' is in a folder that"),
        (["--env", "CartPole-v1", "--journal", "."], "--journal '.' is a folder"),
        ([], "--env"),
    ],
)
def test_bad_input_is_a_sentence(
    given: list[str],
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    try:
        code: Any = main(["train-policy", *given])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    finally:
        sys.modules.pop("my_env", None)
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "", printed
    assert words in printed.err and "Traceback" not in printed.err


def test_the_help_lists_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(PRESET_LINES) == list(PRESETS)
    with pytest.raises(SystemExit):
        main(["train-policy", "--help"])
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and line in out for name, line in PRESET_LINES.items())
    assert preset("ars", 100) == preset("ars-v2-t", 100) and preset("rank", 100) == preset("auto", 100, rank=True)
    assert preset("auto", 32) == preset("cma", 32, horizon=Horizon(300, 3))
    assert preset("auto", 33).horizon == Horizon() and isinstance(preset("auto", 33).estimator, bz.PGPE)


@pytest.mark.parametrize(
    ("name", "words", "normalized"), [("auto", ["--normalize"], True), ("ars", ["--no-normalize"], False)]
)
def test_observations_are_normalised_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str], normalized: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = ["train-policy", "--env", "CartPole-v1", "--preset", name, "--workers", "0", "--steps", "1", "--quiet"]
    assert main([*usual, *words, "--journal", "run.jsonl"]) == 0
    assert read("run.jsonl")[0]["problem"]["normalize"] is normalized
    assert main([*usual, "--journal", "run.jsonl", "--steps", "2"]) == 2  # the preset's own would be another run


def test_mujoco_neither_prints_nor_leaves_a_log(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason='mujoco is not installed: pip install "gymnasium[mujoco]"')
    quick = ("--steps", "1", "--max-steps", "5", "--evaluate", "0", "--quiet")
    for more in (("--workers", "1"), ("--workers", "0", "--num-envs", "2")):
        done = cli("train-policy", "--env", "HalfCheetah-v5", *quick, *more, cwd=tmp_path)
        assert done.returncode == 0 and done.stderr == "", done
        assert not list(tmp_path.iterdir())
