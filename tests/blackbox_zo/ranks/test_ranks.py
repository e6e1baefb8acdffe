"""`Ranks` and `AcrossRanks`: real processes that share one search, differ, leave and are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.ranks._wire import PATIENCE
from tests.ranks import Said, done, launched, run

PROGRAM = "tests.blackbox_zo.ranks.programs"


def ranks(size: int, *words: object, cwd: Path) -> list[Said]:
    return run(*([[PROGRAM, *map(str, words)]] * size), cwd=cwd)


def fine(found: list[Said]) -> list[str]:
    """What each rank printed, if all went well."""
    assert [said.code for said in found] == [0] * len(found), found
    return [said.out for said in found]


def test_any_number_of_ranks_gives_the_journal_of_one(tmp_path: Path) -> None:
    """Byte for byte: failures and their reasons and standard errors too; and a run goes on with any other number."""
    for size in (1, 2, 4):
        fine(ranks(size, "same", tmp_path, size, 12, cwd=tmp_path))
    for name in ("plain", "means"):
        one, two, four = ((tmp_path / f"{name}-{n}.jsonl").read_bytes() for n in (1, 2, 4))
        assert one == two == four
    assert b"is too far" in (tmp_path / "plain-1.jsonl").read_bytes() and b'"stderr": 0.0' in one
    for size, steps in ((2, 5), (4, 4), (1, 3)):
        fine(ranks(size, "same", tmp_path, "mixed", steps, cwd=tmp_path))
    for name in ("plain", "means"):
        assert (tmp_path / f"{name}-mixed.jsonl").read_bytes() == (tmp_path / f"{name}-1.jsonl").read_bytes()


@pytest.mark.parametrize("size", [2, 4])
def test_sixteen_bytes_a_step(size: int, tmp_path: Path) -> None:
    """Counted at the collectives: a value and a word from each rank, for a pair of queries; 64 with what it hears."""
    for out in fine(ranks(size, "wire", cwd=tmp_path)):
        found = json.loads(out)
        assert found["sent"] == found["said"] == 16
        assert found["received"] == found["heard"] == 16 * (size - 1)
        assert found["sent"] + found["received"] <= 64


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("seed", r"Rank 1 differs from rank 0 in queries of the step: \w+ instead of \w+\. All ranks must"),
        ("rate", r"Rank 1 differs from rank 0 in x: \w+ instead of \w+"),
        ("x", r"Rank 1 differs from rank 0 in x: \w+ instead of \w+"),
        ("last", r"Rank 1 differs from rank 0 in x after the last move: \w+ instead of \w+"),
        ("raises", "Rank 1 has stopped: ZeroDivisionError: a fault of rank 1"),
        ("steps", "Rank 1 has ended the run"),
        ("stops", "Rank 1 has ended the run"),
        ("interrupted", "KeyboardInterrupt"),
    ],
)
def test_a_rank_that_differs_or_leaves_ends_the_run_by_name(what: str, said: str, tmp_path: Path) -> None:
    """On all ranks, at that step or the next comparison."""
    first, second = ranks(2, "differ", what, cwd=tmp_path)
    if what in ("steps", "stops"):  # the run of the others ends as if a callback had asked for it
        assert (first.code, second.code) == (0, 0)
        return
    assert first.code and second.code
    assert re.search(said, first.err), first.err
    if what not in ("raises", "interrupted"):
        assert re.search(said, second.err), second.err


def test_a_killed_rank_ends_the_others_and_the_run_goes_on_with_fewer(tmp_path: Path) -> None:
    """SIGKILL, within seconds, by name; the journal then goes on as if nothing had happened."""
    with launched([[PROGRAM, "slow", tmp_path / "run.jsonl", "4000"]] * 4, tmp_path) as four:
        assert four[0].stdout is not None and four[0].stdout.readline() == "at work\n"
        os.kill(four[2].pid, signal.SIGKILL)
        begun = time.monotonic()
        found = done(four)
        assert time.monotonic() - begun < 20
    assert [said.code for said in found] == [1, 1, -signal.SIGKILL, 1]
    for said in (found[0], found[1], found[3]):
        assert "RankError: Rank 2 has died, so the run of all 4 ends here" in said.err
        assert "continue from it with any number of ranks" in said.err
    asked = (tmp_path / "run.jsonl").read_bytes().count(b"\n") - 1
    fine(ranks(2, "slow", tmp_path / "run.jsonl", 10, cwd=tmp_path))
    fine(ranks(1, "slow", tmp_path / "whole.jsonl", asked + 10, cwd=tmp_path))
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_who_waits_hears_of_a_death_at_once(tmp_path: Path) -> None:
    """Also the rank that shows the run, whoever has died."""
    begun = time.monotonic()
    first, second = ranks(2, "leaves_inside", cwd=tmp_path)
    assert second.code == -signal.SIGKILL and "Rank 1 has died" in first.err
    assert time.monotonic() - begun < 60


def test_who_waits_is_patient(tmp_path: Path) -> None:
    """A rank may be busy alone for as long as it likes: what limits the wait of the others is days."""
    fine(ranks(2, "waits_for", "own", cwd=tmp_path))
    assert [said.code for said in ranks(2, "waits_for", 0.5, cwd=tmp_path)] == [1, 1]
    assert PATIENCE > timedelta(days=30)


def test_the_time_limit_is_that_of_rank_0(tmp_path: Path) -> None:
    """All ranks end after the same step, whatever their clocks say."""
    first, second = fine(ranks(2, "limited", cwd=tmp_path))
    assert first == second and first.startswith("TIME ") and int(first.split()[1]) > 3


class Learns(bz.Oracle):
    """Something from each answer."""

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        proposal.learn(self, int(proposal.ids[0]), 1)
        return bz.Values(np.zeros(proposal.n))


def test_one_process_is_one_rank() -> None:
    """Nothing is sent, and nothing is refused that one process can do."""
    with bz.Ranks() as ranks:
        assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
        s = bz.Search(np.ones(2), bz.RandomVector(0.1), bz.SGD(0.1), journal=ranks.journal(None))
        for _ in s.run(bz.AcrossRanks(Learns(), ranks), steps=2):
            pass
        assert ranks.exchange("here", [1.5]) == [[1.5]]
        assert ranks.traffic == (0, 0, 0)


def test_what_cannot_be_shared_is_refused() -> None:
    """By name, where it is given or first asked."""
    from oracles.llm import LossOracle
    from tests.oracles.llm.loss_helpers import net, regression, squares

    ranks = bz.Ranks()
    s = bz.Search(np.ones(2), bz.RankBased(0.1, 4), bz.SGD(0.1))
    with pytest.raises(bz.FeedbackError, match=r"`AcrossRanks` with this oracle: it needs the value of each query"):
        bz.AcrossRanks(bz.RankOnly(bz.FunctionOracle(lambda x: float(x @ x))), ranks).answer(s.ask())
    with pytest.raises(ValueError, match="whole number of at least 1, got 0"):
        bz.Ranks(check_every=0)
    ranks.size = 2
    own = LossOracle(net(), [regression()], squares, ranks=ranks)
    with pytest.raises(ValueError, match=r"this `LossOracle` has ranks of its own"):
        bz.AcrossRanks(own, ranks)
    with pytest.raises(bz.OracleError, match=r"`AcrossRanks` with `Learns`, which learns.*Cache\(AcrossRanks"):
        bz.AcrossRanks(Learns(), ranks).answer(s.ask())
