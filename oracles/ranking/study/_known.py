"""Rounds with a known answer, for practice and checks. Their candidates are stored best first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._paths import expanded
from blackbox_zo._typing import Floats
from blackbox_zo.errors import OracleError
from blackbox_zo.proposal import Proposal
from blackbox_zo.variables import Vector
from blackbox_zo.variables._tree import flatten
from oracles.ranking.study._drawing import Drawing
from oracles.ranking.study._record import CHECK, PRACTICE, Round
from oracles.ranking.study._study import Study

__all__ = ["KnownRounds", "fitting", "known_of"]

NUMBERS = "Put the largest number first."
"""The question of rounds that need no renderer."""


def known_of(path: str | Path) -> list[list[Any]]:
    """Rounds with a known answer from a JSON file: a list of rounds, each a list of candidates, best first.

    Raises:
        ValueError: It cannot be read, or is not that.
    """
    path = expanded(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}.") from error
    if not isinstance(found, list) or not found or any(not isinstance(r, list) or len(r) < 2 for r in found):
        raise ValueError(f"{str(path)!r} must be a list of rounds, each a list of two or more candidates, best first.")
    return found


class KnownRounds:
    """Makes and draws them.

    Args:
        study: Whose design asks for them, and whose raters are asked them.
        drawing: Draws them.
        n_ranked: How many places are asked for; None for all.
    """

    def __init__(self, study: Study, drawing: Drawing, n_ranked: int | None) -> None:
        self.study, self.turns, self.drawing, self.n_ranked = study, study.turns, drawing, n_ranked

    def practice(self, proposal: Proposal) -> None:
        """Have all practice rounds ready."""
        for number in range(len(self.turns.practice), self.study.design.practice):
            self.turns.practice.append(self._round(PRACTICE, number, proposal).id)

    def checks(self, proposal: Proposal) -> None:
        """Have as many checks ready as a rater who has answered all rounds so far can be asked."""
        every = self.study.design.check_every
        if not every:
            return
        with self.study.store.record() as record:
            wanted = len(record.holding()) // (every - 2) + 2
        for number in range(len(self.turns.checks), wanted):
            self.turns.checks.append(self._round(CHECK, number, proposal).id)

    def _round(self, purpose: str, number: int, proposal: Proposal) -> Round:
        design, rounds = self.study.design, self.study.store.rounds
        at = number + (design.practice if purpose == CHECK else 0)
        if design.known is None:
            said = numbers(at, proposal.n)
            k = _at_most(self.n_ranked, len(said))
            round_ = rounds.fixed(purpose, number, " ".join(said), len(said), n_ranked=k, question=NUMBERS)
            self.drawing.draw_fixed(round_, said, str)
            return round_
        which = at % len(design.known)
        if not isinstance(proposal.variable, Vector):
            raise OracleError("Rounds with a known answer need an x0 of numbers.")
        points = fitting(design.known[which], proposal.variable, which)
        trees = [proposal.variable.treedef.unflatten(point) for point in points]
        k = _at_most(self.n_ranked, len(trees))
        round_ = rounds.fixed(purpose, number, points.tobytes().hex(), len(trees), points, n_ranked=k)
        broken = self.drawing.draw_fixed(round_, trees, self.drawing.render)
        if broken:
            place, reason = broken
            raise OracleError(f"Candidate {place + 1} of known round {which + 1} cannot be drawn: {reason}")
        return round_


def numbers(number: int, n: int) -> list[str]:
    """The candidates of round `number`: numbers from 10 to 99, the largest first."""
    found = np.random.default_rng([number, n]).choice(np.arange(10, 100), min(n, 90), replace=False)
    return [str(value) for value in sorted(found.tolist(), reverse=True)]


def _at_most(k: int | None, n: int) -> int | None:
    return None if k is None else min(k, n)


def fitting(candidates: Sequence[Any], variable: Vector, which: int) -> Floats:
    """The candidates of known round `which`, from 0, as points, shape (n, d).

    Raises:
        ValueError: One has not the structure of x0.
        TypeError: One is not of numbers.
    """
    name, flats = f"known round {which + 1}", []
    for candidate in candidates:
        flat, treedef = flatten(np.asarray(candidate) if variable.treedef.is_flat else candidate, name)
        if [b.size for b in treedef.blocks] != [b.size for b in variable.treedef.blocks]:
            raise ValueError(
                f"A candidate of {name} has {flat.size} numbers in {len(treedef.blocks)} arrays; x0 has "
                f"{variable.size} in {len(variable.treedef.blocks)}."
            )
        flats.append(flat)
    return np.stack(flats)
