"""`SharedSearch`: one search, followed by every process that works on a study."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._doors.one_by_one import Asked, OneByOne
from blackbox_zo._doors.space import Space
from blackbox_zo._typing import Floats

__all__ = ["Lineage", "SharedSearch", "value_of"]


class Lineage(NamedTuple):
    """What makes two searches the same, as long as they get the same answers in the same order.

    Attributes:
        name: By which its trials are marked.
        seed: Of the search.
        x0: Its start, shape (d,).
    """

    name: str
    seed: int
    x0: Floats


class SharedSearch:
    """Replays a search from the trials of a study, and chooses the parameters of the next one.

    The search asks its questions in order. One whose parameters a trial has is not asked again: it is answered when
    that trial ends, by whomever it was started. So a search that is continued in another process catches up with the
    study. Where searches that share a study grow apart, since answers reached them in another order, each learns the
    trials that it would not have asked for as known points.

    Args:
        method: As for `minimize`.
        space: The parameters.
        lineage: See there.
        key: Under which a trial holds its mark: the name of the lineage, the number of the question, and where it is.
    """

    def __init__(self, method: Any, space: Space, lineage: Lineage, key: str) -> None:
        self._search = OneByOne(method, lineage.x0, space.bounds, None, lineage.seed)
        self._space, self._lineage, self._key = space, lineage, key
        self._asked = 0  # questions so far
        self._ours: set[int] = set()  # trials that were started here
        self._waiting: dict[int, Asked] = {}  # by the trial that will answer
        self._open: set[int] = set()  # trials of which there is more to be heard
        self._read = 0  # trials looked at
        self._listed: set[int] = set()  # trials that were free
        self._free: dict[str, list[int]] = {}  # trials that may answer a question, by where they are

    def next(self, trials: Sequence[Any], number: int, sign: float) -> tuple[dict[str, Any], list[Any]]:
        """The parameters of a trial, and its mark.

        Args:
            trials: All trials, in their order.
            number: Of the trial to be started.
            sign: 1 to minimise, -1 to maximise.
        """
        self._listen(trials, number, sign)
        while True:
            asked = self._search.ask() or self._stale(trials) or self._search.ask_aside()
            params = self._space.decode(asked.point)
            place = self._place(params)
            mark = [self._lineage.name, self._asked, place]
            self._asked += 1
            if not (free := self._free.get(place)):
                self._waiting[number] = asked
                self._ours.add(number)
                return params, mark
            self._waiting[free.pop(0)] = asked
            self._listen(trials, number, sign)

    def _place(self, params: dict[str, Any]) -> str:
        """By which parameters are compared; storage may round them."""
        rounded = np.round(self._space.encode(params), 12) + 0.0
        return hashlib.blake2b(rounded.tobytes(), digest_size=8).hexdigest()

    def _found(self, trial: Any) -> str:
        """Where a trial is; empty if it lacks a parameter, or has one out of its range."""
        try:
            return self._place(trial.params) if self._space.dimensions.keys() <= trial.params.keys() else ""
        except ValueError:
            return ""

    def _stale(self, trials: Sequence[Any]) -> Asked | None:
        """A question that a trial of another process should have answered: that process may be dead."""
        for number, asked in self._waiting.items():
            if number not in self._ours and not trials[number].state.is_finished():
                del self._waiting[number]
                return asked
        return None

    def _listen(self, trials: Sequence[Any], number: int, sign: float) -> None:
        """Tell the search what has been found since."""
        fresh = range(self._read, len(trials))
        self._read = len(trials)
        for i in sorted(self._open.union(fresh, self._waiting) - {number}):
            if self._heard(i, trials[i], sign):
                self._open.discard(i)
            else:
                self._open.add(i)
        self._open.add(number)

    def _heard(self, i: int, trial: Any, sign: float) -> bool:
        """Tell the search about one trial; whether there is nothing more to be heard of it."""
        name, query, place = trial.system_attrs.get(self._key) or ("", -1, "")
        ended = trial.state.is_finished()
        if name != self._lineage.name:
            place = self._found(trial) if ended else ""
        if place and i not in self._listed and i not in self._ours:
            self._listed.add(i)
            self._free.setdefault(place, []).append(i)
        if not ended:
            return False
        found, value = self._found(trial), value_of(trial, sign)
        asked = self._waiting.pop(i, None)
        if asked is not None:
            if found == self._place(self._space.decode(asked.point)) or (not found and math.isnan(value)):
                self._search.tell(asked, value)
                return True
            self._search.give_back(asked)  # its parameters were chosen by somebody else
        elif name == self._lineage.name and query >= self._asked:
            return False  # the search will come to ask this
        if found:
            self._search.know(self._space.encode(trial.params), value)
        return True


def value_of(trial: Any, sign: float) -> float:
    """What a finished trial found, to be minimised; NaN if it failed, was pruned, or violates a constraint."""
    attributes = trial.system_attrs
    violated = [c for c in attributes.get("constraints") or () if c > 0]
    violated += [c for key, c in attributes.items() if key.startswith("constraints:") and c > 0]
    return sign * float(trial.value) if trial.state.name == "COMPLETE" and not violated else math.nan
