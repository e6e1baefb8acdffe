"""`Ranks`: the processes that `torchrun` has started, as they run one search together."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.errors import RankError, StopRun
from blackbox_zo.proposal import Proposal
from blackbox_zo.ranks._wire import Traffic, Wire
from blackbox_zo.ranks._words import asked_in, digests_of, flags_of, message, spelt, versions
from blackbox_zo.variables import Variable

__all__ = ["Ranks"]

_LEFT, _NOTES, _LATE = 1, 2, 4
"""Bits of a control word: this rank leaves; it adds notes; its time is up."""

_INTERRUPTED = 130
"""The exit code from which on a rank was ended by a signal."""


class Ranks:
    """The processes of this run. Each holds all of x; they tell each other the answers, and make the same moves.

    Every rank runs the same program: the same search with the same seed. An oracle that knows the ranks, such as
    `AcrossRanks`, answers a part of each step's queries and collects the rest: 8 bytes a value, and 8 bytes a step in
    which each rank says what it is about to do. Whoever is at another step, has asked other queries, has other weights
    (looked at every `check_every` steps, and at the end), has left or has died ends the run on all ranks, by name.

    In a process that nobody started by `torchrun` there is one rank, and nothing is sent.

    Args:
        check_every: Steps between two comparisons of x.

    Attributes:
        rank: Number of this process, from 0. Rank 0 alone keeps the journal.
        size: Number of processes.
        late: Whether the time limit of rank 0 is reached; the same on all ranks within a step.

    Raises:
        ValueError: `check_every` is less than 1.
        RankError: Another rank differs, has left or has died. Also raised by every method.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> with bz.Ranks() as ranks:
        ...     f = bz.AcrossRanks(bz.FunctionOracle(lambda x: float(x @ x)), ranks)
        ...     search = bz.Search(np.ones(3), bz.RandomVector(1e-3, 4), bz.SGD(0.1), journal=ranks.journal(None))
        ...     reports = list(search.run(f, steps=100))
        >>> reports[-1].value < 1e-2
        True
    """

    def __init__(self, check_every: int = 100) -> None:
        check_at_least("Ranks", 1, check_every=check_every)
        self.check_every = int(check_every)
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.late = self._echo = False
        self._deadline = float("inf")
        self._trail = hashlib.blake2b(digest_size=8)
        self._met = 0
        self._variable: Variable | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._wire = Wire(self.rank, self.size) if self.size > 1 else None

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes and prints."""
        return self.rank == 0

    @property
    def traffic(self) -> Traffic:
        """What this rank has sent and received so far."""
        return Traffic() if self._wire is None else self._wire.traffic

    @property
    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return int(os.environ.get("LOCAL_RANK", 0))

    # ------------------------------------------------------------------------------------------------- meeting

    def gather(
        self,
        proposal: Proposal,
        values: Floats,
        notes: Mapping[str, Any] | None = None,
        about: Callable[[], Mapping[str, Any]] | None = None,
    ) -> tuple[Floats, list[Any] | None]:
        """What each rank found in a step.

        Args:
            proposal: The step, the same on all ranks.
            values: Numbers of this rank, shape (m,), the same m on all ranks.
            notes: Something JSON-able that the others should know, rarely.
            about: What else must be the same, JSON-able, by name; asked for whenever x is compared.

        Returns:
            The numbers of all ranks, shape (ranks, m), the same bits on each; and their notes, None if no rank had any.
        """
        if self._wire is None:
            return values[None], None if notes is None else [notes]
        variable = self._variable = proposal.variable
        check = self._met % self.check_every == 0
        if self._met == 0:
            self.agree({**versions(), "x": variable.fingerprint()})
        self._met += 1
        asked = asked_in(proposal, len(values))
        if check:
            asked |= {"x": variable.digest(), **({} if about is None else about())}
        words = self._meet(_NOTES * (notes is not None), asked, *values[:1])
        found = words[:, 1:].view(np.float64)[:, : len(values)]
        if len(values) > 1:
            found = np.concatenate([found, self._wire.numbers(np.asarray(values[1:], dtype=np.float64))], axis=1)
        self._trail.update(np.ascontiguousarray(found).tobytes())
        said = flags_of(words)
        return found, self._wire.things(notes) if any(flags & _NOTES for flags in said) else None

    def exchange(self, what: str, thing: Any) -> list[Any]:
        """What each rank gives at a place in the program that all of them reach, as JSON.

        Args:
            what: The name of the place.
            thing: Anything JSON-able.
        """
        if self._wire is None:
            return [thing]
        self._meet(0, {"place in the run": what})
        found = self._wire.things(thing)
        self._trail.update(json.dumps(found).encode())
        return found

    def agree(self, items: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
        """End the run unless all ranks give the same.

        Args:
            items: What must be the same, JSON-able, by name.
            names: What to call them in the message; other names are used as they are.

        Raises:
            RankError: A rank differs; the message names it and all items in which it does.
        """
        found = self.exchange("the comparison of " + ", ".join(items), dict(items))
        self._compare(found, names or {})

    def _compare(self, found: list[Mapping[str, Any]], names: Mapping[str, str]) -> None:
        for rank, theirs in enumerate(found):
            differs = [n for n in {**found[0], **theirs} if found[0].get(n) != theirs.get(n)]
            if differs:
                said = "; ".join(
                    f"{names.get(n, n)}: {spelt(theirs.get(n))} instead of {spelt(found[0].get(n))}" for n in differs
                )
                assert self._wire is not None
                where = f" ({self._wire.host(rank)})" if self._wire.host(rank) != self._wire.host(0) else ""
                raise self._known(
                    f"Rank {rank}{where} differs from rank 0 in {said}. All ranks must run the same program with the "
                    "same versions, options, data and weights."
                )

    def _meet(self, flags: int, items: Mapping[str, Any], value: float = 0.0) -> Ints:
        """Exchange control words, each with a value as its bits, shape (ranks, 2). Where all is well that is all."""
        assert self._wire is not None
        items = {**items, "answers so far": self._trail.hexdigest()}
        if self.first and time.monotonic() >= self._deadline:
            flags |= _LATE
        words: Ints = self._wire.numbers(message(flags, items, value))
        said = flags_of(words)
        if any(flags & _LEFT for flags in said):
            self._end(None)
        if len(set(digests_of(words))) > 1:
            last = {} if self._variable is None else {"x": self._variable.digest()}
            self._compare(self._wire.things({**items, **last}), {})
            raise RankError("The ranks differ, and no longer do when they are compared.")
        self.late = bool(said[0] & _LATE)
        return words

    # ------------------------------------------------------------------------------------------------- leaving

    def leave(self, code: int = 0, text: str = "") -> None:
        """Leave the other ranks; their next meeting ends the run there, too. The last x of all are compared.

        Args:
            code: The exit code of this process.
            text: Why it leaves before the end; empty if it does not.

        Raises:
            RankError: A rank has another x than rank 0 in the end.
        """
        wire = self._wire
        if wire is None or not wire.open:
            return
        if wire.inside:  # interrupted where nothing can be said any more
            wire.close()
            return
        wire.numbers(message(_LEFT, {}))
        self._end((code, text))

    def _end(self, mine: tuple[int, str] | None) -> None:
        """The last words of all ranks; what another rank left for ends this one.

        Args:
            mine: The exit code and the reason of this rank, if it leaves; None if it would have gone on.
        """
        wire = self._wire
        assert wire is not None
        code, text = mine or (None, "")
        variable, ends = self._variable, code is not None and code < _INTERRUPTED and not text
        x = [variable.version, variable.digest()] if ends and variable is not None else None
        found = wire.things([code, text, x])
        wire.close()
        if mine is not None:
            self._echo = bool(text) and not self.first and found[0][1] == text
            if all(x is not None for *_, x in found):
                names = ("number of moves", "x after the last move")
                self._compare([dict(zip(names, x, strict=True)) for *_, x in found], {})
            return
        who, (code, text, _) = next((r, said) for r, said in enumerate(found) if said[0] is not None)
        if text:
            raise self._known(
                f"Rank {who} has stopped: {text} If the run has a journal, this has every answer so far; continue "
                "from it with any number of ranks."
            )
        if code >= _INTERRUPTED:
            raise KeyboardInterrupt
        raise StopRun(f"Rank {who} has ended the run.")

    def _known(self, text: str) -> RankError:
        """An error that rank 0 also raises, or has itself."""
        error = RankError(text)
        error.elsewhere = not self.first
        return error

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self.leave()
            elif isinstance(error, KeyboardInterrupt):
                self.leave(_INTERRUPTED)
            else:
                self.leave(2, "" if isinstance(error, StopRun) else f"{type(error).__name__}: {error}")
                if self._echo:
                    error.elsewhere = True  # type: ignore[attr-defined]
        except RankError:
            if error is None:
                raise
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    # ------------------------------------------------------------------------------------------------- the run

    def time_limit(self, seconds: float | None) -> Callable[[], bool]:
        """The time limit of a `Run`: whether rank 0 has said, in the latest step, that it is reached.

        Args:
            seconds: From now on, on rank 0; None for none.
        """
        if seconds is not None:
            self._deadline = time.monotonic() + seconds
        return lambda: self.late

    def journal(self, path: str | Path | None) -> Path | None:
        """The journal that this rank opens: rank 0 the file itself, the others a copy of what it holds now.

        A copy is in a temporary folder, with the newest snapshot, and is deleted at the end. So only rank 0 needs the
        file, and all ranks continue from it, with as many ranks as there are now.

        Args:
            path: The file, read on rank 0 alone; None for no journal.

        Returns:
            None without a journal, and on the other ranks if the run is a new one.
        """
        mine = None if path is None else Path(path).expanduser()
        if self._wire is None:
            return mine
        sent: list[str] = []
        if self.first and mine is not None and mine.is_file() and mine.stat().st_size:
            sent = [mine.name, *(p.name for p in _newest(mine))]
        names: list[str] = self.exchange("the journal", sent)[0]
        if self.first:
            for name in names:
                assert mine is not None
                self._wire.file(mine.with_name(name), mine)
            return mine
        if not names:
            return None
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="blackbox_zo-rank-")
        folder = Path(self._folder.name)
        for name in names:
            self._wire.file(folder, folder / name)
        return folder / names[0]


def _newest(journal: Path) -> list[Path]:
    """The newest snapshot beside a journal, if there is one."""
    found = [p for p in journal.parent.iterdir() if p.name.startswith(f"{journal.name}.snapshot-")]
    moves = {int(n): p for p in found if (n := p.name.rpartition("-")[2].partition(".")[0]).isdecimal()}
    return [moves[max(moves)]] if moves else []
