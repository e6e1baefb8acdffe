"""The first steps of episodes: how many, until when, and the same bits whoever plays them and wherever a run is cut."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from blackbox_zo.journal import read_journal
from blackbox_zo.learning import Learning
from oracles.cli.main import main
from oracles.rl import EpisodeOracle, Horizon, LinearPolicy, MLPPolicy, Rollouts, Training, preset
from oracles.rl._career import Career
from oracles.rl._episodes import Episode
from oracles.rl._single import SinglePlayer
from oracles.rl._vector import VectorPlayer
from tests.oracles.rl.environments import Line
from tests.oracles.rl.helpers import POINTS, ask, evidence_of, oracle_of, right, run, seeds_of


class Endless(Line):
    """Ends by a limit of time only, unless the point has gone far to the left."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, over, _, info = super().step(action)
        return observation, reward, self.at < -2.0, over, info


def long() -> Endless:
    return Endless(30)


def told(answer: bz.Values, name: str) -> list[Any]:
    assert answer.info is not None
    return [(note or {}).get(name) for note in answer.info]


STAY = POINTS[[0, 2, 3]] * 0.1
"""Policies that do not go far."""


def test_steps_of_an_episode() -> None:
    assert [Horizon()(step) for step in (0, 1, 500)] == [100, 101, 600]
    assert [Horizon(7, 0)(step) for step in (0, 9)] == [7, 7]


@pytest.mark.parametrize(("first", "growth"), [(0, 1), (2.5, 1), (10, -1), (10, 0.5), (float("nan"), 1)])
def test_a_bad_horizon(first: Any, growth: Any) -> None:
    with pytest.raises(ValueError, match=r"`Horizon\((first|growth)=\.\.\.\)` must be a whole number of at least"):
        Horizon(first, growth)


def test_the_first_steps_are_played_and_more_in_each_step_of_the_search() -> None:
    oracle = EpisodeOracle(long, LinearPolicy(3, 1), workers=0, horizon=Horizon(5, 10))
    for step, expected in ((0, 5), (1, 15), (2, 25), (3, 30), (4, 30)):
        answer = ask(oracle, step, STAY)
        assert told(answer, "steps") == [expected] * 3
        assert told(answer, "cut") == [expected if expected < 30 else None] * 3
    whole = oracle.evaluate(STAY[0], None, 2)
    assert [(e.steps, e.cut) for e in whole if isinstance(e, Episode)] == [(30, False)] * 2


def test_what_is_played_are_the_same_episodes() -> None:
    oracle = EpisodeOracle(Line, LinearPolicy(3, 1), 2, 0, horizon=Horizon(6, 0))
    np.testing.assert_array_equal(ask(oracle).values, right(oracle))
    policy = LinearPolicy(3, 1, normalize=True)
    one, whole = (SinglePlayer(Line, policy).play(POINTS[0], None, 3, horizon) for horizon in (2, None))
    assert (one.steps, one.cut, one.terminated) == (2, True, False) and one.seen is not None and one.seen.n == 2
    assert (whole.steps, whole.cut, whole.terminated) == (6, False, True)


def test_once_an_episode_ends_of_itself_the_next_step_plays_whole_ones() -> None:
    oracle, learning = EpisodeOracle(long, LinearPolicy(3, 1), workers=0, horizon=Horizon(20, 0)), Learning()
    left = np.vstack([STAY, [0.0, 0.0, -1.0]])
    assert told(ask(oracle, 0, STAY, learning), "steps") == [20] * 3
    answer = ask(oracle, 1, left, learning, over=False)
    assert told(answer, "steps")[:3] == [20] * 3 and told(answer, "steps")[3] < 20
    assert [taught.get("ended") for taught in evidence_of(oracle, left).values()] == [None, None, None, True]
    assert told(ask(oracle, 1, left, learning), "steps")[:3] == [20] * 3  # the step was not over
    answer = ask(oracle, 2, STAY, learning)
    assert told(answer, "steps") == [30] * 3 and told(answer, "cut") == [None] * 3
    assert learning.of(oracle).ended


def of(workers: int, horizon: Horizon) -> EpisodeOracle:
    policy = MLPPolicy(3, 1, (4,), normalize=True, seed=2)
    return EpisodeOracle(long, policy, 2, workers, seed=11, horizon=horizon)


@pytest.mark.parametrize("rank", [False, True])
def test_the_same_bits_by_workers_and_wherever_a_run_is_cut(rank: bool, tmp_path: Path) -> None:
    for name, horizon in (("short", Horizon(9, 3)), ("ends", Horizon(25, 0))):
        expected = run(of(0, horizon), 4, rank, tmp_path / f"{name}.jsonl")
        assert run(of(2, horizon), 4, rank) == expected
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines(keepends=True)
        for n in range(1, len(lines) + 1, 1 if rank else 5):
            path = tmp_path / f"{name}-{n}.jsonl"
            path.write_text("".join(lines[:n]))
            assert run(of(0, horizon), 4, rank, path) == expected
            assert path.read_text() == "".join(lines)
    assert any('"ended": true' in line or '"ended":true' in line for line in lines)  # so that this was tried, too
    whole, within = run(oracle_of(0), 2, rank), run(oracle_of(0, horizon=Horizon(6, 0)), 2, rank)
    assert (whole[:-17], whole[-16:]) == (within[:-17], within[-16:])  # all but whether an episode has ended of itself


@pytest.mark.parametrize("horizon", [1, 4, 6])
def test_environments_that_step_together_play_the_same(horizon: int) -> None:
    policy = LinearPolicy(3, 1, normalize=True)
    for make in (Line, long):
        alone = SinglePlayer(make, policy).play_all(POINTS, None, [1, 2, 3, 4], horizon)
        many = VectorPlayer(functools.partial(gymnasium.vector.SyncVectorEnv, [make] * 4), policy)
        together = many.play_all(POINTS, None, [1, 2, 3, 4], horizon)
        for one, other in zip(alone, together, strict=True):
            assert isinstance(one, Episode) and isinstance(other, Episode) and one.seen and other.seen
            assert one._replace(seen=None) == other._replace(seen=None)
            np.testing.assert_array_equal(one.seen.mean, other.seen.mean)


def test_a_function_of_all_candidates_knows_its_own_length() -> None:
    def roll(x: Any, seeds: Any, seen: Any) -> Any:
        return -(x**2).sum(axis=1)

    policy = LinearPolicy(20, 2)
    with pytest.raises(ValueError, match="`horizon` is for environments"):
        EpisodeOracle(Rollouts(roll), policy, workers=0, horizon=Horizon())
    with Training(Rollouts(roll), preset("auto", 40, normalize=False), policy, workers=0) as training:
        assert training.preset.horizon is not None and training.oracle.horizon is None
        assert len(list(training.run(2))) == 2


def test_a_number_is_no_horizon() -> None:
    with pytest.raises(TypeError, match=r"must be a `Horizon`, as `Horizon\(200, growth=0\)`, got 200"):
        EpisodeOracle(Line, LinearPolicy(3, 1), workers=0, horizon=200)  # type: ignore[arg-type]


def test_a_preset_brings_its_horizon_unless_a_score_needs_whole_episodes(tmp_path: Path) -> None:
    policy = MLPPolicy(3, 1, (8,))
    for more, expected in (({}, Horizon()), ({"score": len}, None), ({"horizon": None}, None)):
        with Training(Line, "auto", policy, workers=0, **more) as training:
            assert training.oracle.horizon == expected
    path = tmp_path / "run.jsonl"
    with Training(Line, "auto", policy, workers=0, journal=path) as training:
        list(training.run(1))
    assert json.loads(path.read_text().splitlines()[0])["problem"]["horizon"] == [100, 1]
    with pytest.raises(JournalError, match="horizon"):
        Training(Line, "auto", policy, workers=0, journal=path, horizon=None)


def test_an_earlier_policy_is_rebuilt(tmp_path: Path) -> None:
    policy = MLPPolicy(3, 1, (8,), normalize=True)
    path = tmp_path / "run.jsonl"
    with Training(long, "auto", policy, workers=0, journal=path, horizon=Horizon(9)) as training:
        list(training.run(2))
        then = training.trained
        list(training.run(3))
        assert bytes(training.after(2).x) == bytes(then.x)
        assert training.experience.steps == 20 * (9 + 10 + 11 + 12 + 13) or training.experience.ended


def test_seeds_are_those_of_whole_episodes() -> None:
    short, whole = (EpisodeOracle(Line, LinearPolicy(3, 1), workers=0, horizon=h) for h in (Horizon(3), None))
    assert seeds_of(short) == seeds_of(whole)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train-policy", "--env", "Pendulum-v1", "--preset", "pgpe", "--workers", "0", "--steps", "3"]
    words += ["--evaluate", "1", "--every", "3", "--horizon", "8", "--journal", "run.jsonl"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "in the first 10 steps" in printed.out + printed.err
    assert f"{40 * (8 + 9 + 10):,} steps of the environment" in printed.out
    career = Career(read_journal("run.jsonl"))
    assert np.isnan(career.mean_return).all() and not career.barren.any() and not career.failed.size
    assert main(["report", "run.jsonl", "--no-video"]) == 0 and capsys.readouterr().out
    assert "8 steps, 1 more in each step of the search" in Path("run.html").read_text()
    assert main(["watch", "run.jsonl"]) == 0
    assert "return -" in (told := capsys.readouterr().out) and "in the first 8 steps" in told and "best" not in told
    with pytest.raises(SystemExit):
        main([*words[:-4], "--horizon", "-1"])
    capsys.readouterr()
    words[words.index("--horizon") + 1] = "0"
    assert main(words) == 2
    assert "its --horizon (or --preset) is [8, 1], here it is None" in capsys.readouterr().err


def test_the_report_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    monkeypatch.chdir(tmp_path)
    words = ["train-policy", "--env", "Pendulum-v1", "--preset", "cma", "--workers", "0", "--steps", "2", "--quiet"]
    assert main([*words, "--horizon", "199", "--evaluate", "1", "--journal", "run.jsonl"]) == 0
    assert main(["report", "run.jsonl", "-o", "run.html", "--no-video"]) == 0
    page = Path("run.html").read_text()
    assert "Candidates whose episodes the horizon cut short are left out." in page
    assert "mean return of a step" in page and "all failed" not in page
