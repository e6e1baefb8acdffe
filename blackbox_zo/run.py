"""`Run`: one loop around a search and an oracle, with its limits, measures and observers."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from blackbox_zo._checks import check_at_least, check_number, check_positive
from blackbox_zo._engine import Snapshot
from blackbox_zo._records import Ended, Failure, Report, Searched
from blackbox_zo._rewind import Snapshots
from blackbox_zo._stop import Stop
from blackbox_zo.errors import BudgetExhausted, JournalError, Rewind, StopRun, TellError
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.journal import Answers, Measured
from blackbox_zo.journal.lines import answers_of
from blackbox_zo.measure import Measure
from blackbox_zo.oracle import Answered, parts_of, stream_of
from blackbox_zo.oracle import Answers as Answering
from blackbox_zo.proposal import Proposal
from blackbox_zo.workers._cancel import Cancelled, CancelScope

__all__ = ["Ended", "Failure", "Observer", "Report", "Run"]


class Observer:
    """Receives the events of a run. Every method does nothing by default. What a method raises ends the run.

    Attributes:
        called: What a message calls the observer if it raises; empty for the name of its class.
    """

    called: ClassVar[str] = ""

    def begin(self, run: Run) -> None:
        """The run starts or resumes."""

    def answered(self, run: Run, answers: Answers) -> None:
        """Some queries were answered, and the search was told."""

    def measured(self, run: Run, measured: Measured) -> None:
        """A measure was taken."""

    def stepped(self, run: Run, report: Report) -> bool | None:
        """A step is complete; return True to end the run."""

    def note(self, text: str) -> None:
        """Show a line of text to the user."""

    def end(self, run: Run) -> None:
        """The run has ended; `run.ended` and `run.message` say how."""


class _Tally:
    """The answers so far to an open step."""

    __slots__ = ("count", "left", "total")

    def __init__(self, n: int) -> None:
        self.left, self.count, self.total = n, 0, 0.0

    @property
    def mean(self) -> float:
        """The mean of its values; NaN if it has none."""
        return self.total / self.count if self.count else math.nan


def _close(answers: Any) -> None:
    """End what is under way."""
    if hasattr(answers, "close"):
        answers.close()


class Run:
    """The main loop: ask, answer, tell and measure until a limit is reached. Iterating yields a report after each step.

    Args:
        search: The search to run.
        oracle: Anything with `answer(proposal) -> Feedback`.
        steps: Maximum number of steps, not counting those of an earlier run; None for no limit.
        time_limit: Time limit in seconds; an oracle that can be interrupted then abandons the current step. Or a
            function that says after each step whether the time is up.
        target: The run ends once a value this low or lower is found.
        patience: The run ends after this many consecutive steps without a usable answer; None for never.
        until: Called without arguments after each step; the run ends when it returns true.
        measures: Evaluated between steps, and recorded in the journal in order with the answers.
        observers: Receive the events of the run.
        ahead: Number of later proposals to ask for before the current one is answered; see `Proposal.ahead`.
        stop: Catches signals; the run ends between two answers. None leaves Ctrl-C to Python.
        asynchronous: Ask for another step whenever a worker of the oracle is free, and do not wait for those before:
            steps end in any order. The oracle needs `Oracle.stream`; the steps of an `Asynchronous` estimator are one
            query each. A run repeats from its journal, but not from its seed: its course depends on time.
        origin: A snapshot from before this run, to which it may go back if an oracle raises `Rewind`; None for its own
            start.

    Attributes:
        ended: How the run ended; None until then.
        message: The same as a sentence.
        first_failure: The first query that failed in this run; None if none has.
        oracle_error: The exception that the oracle raised; None if it raised none.
        raised_by: The observer, or "`until`", that raised an exception, in words; empty if none did.
        seconds: Seconds since this run began.

    Raises:
        ValueError: No limit is given, or an argument is out of range.
        JournalError: The search has a journal, and the oracle cannot be replayed.
        OracleError: The oracle cannot answer asynchronously.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> search = bz.Search(np.ones(2), bz.EvolutionStrategy(0.3), seed=0)
        >>> f = bz.FunctionOracle(lambda x: float(x @ x))
        >>> centre = bz.Measure("centre", lambda search: float(search.x @ search.x), every=10)
        >>> run = bz.Run(search, f, steps=200, target=1e-6, measures=[centre])
        >>> run.to_the_end()
        <Ended.TARGET: 6>
        >>> [m.step for m in search.measured][:3]
        [0, 10, 20]
    """

    def __init__(
        self,
        search: Searched,
        oracle: Answering,
        *,
        steps: int | None = None,
        time_limit: float | Callable[[], bool] | None = None,
        target: float | None = None,
        patience: int | None = None,
        until: Callable[[], bool] | None = None,
        measures: Sequence[Measure] = (),
        observers: Sequence[Observer] = (),
        ahead: int = 0,
        asynchronous: bool = False,
        stop: Stop | None = None,
        origin: Snapshot | None = None,
    ) -> None:
        if steps is None and search.budget is None and until is None and time_limit is None:
            raise ValueError("`run(steps=...)` is needed: without a budget or another limit, the run would never end.")
        check_at_least("run", 0, ahead=ahead)
        if steps is not None:
            check_at_least("run", 0, steps=steps)
        if patience is not None:
            check_at_least("run", 1, patience=patience)
        if time_limit is not None and not callable(time_limit):
            check_positive("run", time_limit=time_limit)
        if target is not None:
            check_number("run", target=target)
        names = [m.name for m in measures]
        if len(set(names)) < len(names):
            raise ValueError(f"Two measures have the same name; the names are {', '.join(map(repr, names))}.")
        reason = getattr(oracle, "not_replayable", "")
        if search.journal is not None and reason:  # inside a wrapper, the oracle is refused at its first answer
            raise JournalError(
                f"A journal cannot replay a run with `{type(oracle).__name__}`: {reason}. Search without a journal."
            )
        self.search, self.oracle = search, oracle
        self.steps, self.time_limit, self.target, self.patience, self.until = steps, time_limit, target, patience, until
        self.measures, self.observers, self.ahead, self.stop = tuple(measures), tuple(observers), ahead, stop
        if asynchronous and ahead:
            raise ValueError(f"`run(ahead={ahead})` is for runs step by step; with `asynchronous=True` leave it out.")
        self.asynchronous, self._origin = asynchronous, origin
        self._asked = deque[Proposal]()
        self._tallies = dict[int, _Tally]()
        self._stream = stream_of(oracle, self._another) if asynchronous else None
        self._ask_error: Exception | None = None
        self.ended: Ended | None = None
        self.message = ""
        self.first_failure: Failure | None = None
        self.oracle_error: Exception | None = None
        self.raised_by = ""
        self._done = 0
        self._begun = time.monotonic()
        self._patient_from = 0
        self._taken = {m.name: m.step for m in search.measured}  # when each was last taken
        self._seconds_before = search.measured[-1].seconds if search.measured else 0.0

    @property
    def seconds(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self._begun

    def to_the_end(self) -> Ended:
        """Run until a limit is reached, and return how it ended. Ctrl-C ends it too; other exceptions propagate."""
        try:
            for _ in self:
                pass
        except KeyboardInterrupt:
            if self.stop is not None and self.stop.abrupt:
                raise
        assert self.ended is not None
        return self.ended

    def __iter__(self) -> Iterator[Report]:
        self._begun = time.monotonic()
        barren = self.search.barren  # a run that gave up and is resumed gets its full patience again
        self._patient_from = barren if self.patience is not None and barren >= self.patience else 0
        self._tell("begin")
        try:
            self._work(True)
            yield from self._go()
        except GeneratorExit:
            if self.ended is None:
                self._finish(Ended.STOPPED, "The caller left the loop.")
            raise
        except KeyboardInterrupt:
            self._finish(Ended.INTERRUPTED, "Interrupted; every answer is kept.")
            raise
        except Exception as error:
            by = f"{self.raised_by[0].upper()}{self.raised_by[1:]} raised " if self.raised_by else ""
            self._finish(Ended.RAISED, f"{by}{type(error).__name__}: {error}")
            raise
        finally:
            _close(self._stream)
            self.search.give_back(self._asked)
            self._work(False)
            self._tell("end")

    def _tell(self, event: str, *what: Any) -> list[Any]:
        """Call a method of each observer; what one of them raises says so in a note."""
        answers = []
        for observer in self.observers:
            try:
                answers.append(getattr(observer, event)(self, *what))
            except Exception as error:
                self._blame(observer.called or f"the observer `{type(observer).__name__}`", error)
                raise
        return answers

    def _work(self, running: bool) -> None:
        """Tell the journal whether this run is at work, or waits for its caller."""
        if self.search.journal is not None:
            self.search.journal.use.running = running

    def _blame(self, who: str, error: Exception) -> None:
        self.raised_by = who
        error.add_note(f"Raised by {who}, after {self.search.nfev} queries.")

    def _stops(self) -> bool:
        """What `until` says."""
        try:
            return self.until is not None and bool(self.until())
        except Exception as error:
            self._blame("`until`", error)
            raise

    def _finish(self, ended: Ended, message: str) -> None:
        self.ended, self.message = ended, message

    def _go(self) -> Iterator[Report]:
        search, asked = self.search, self._asked
        snapshots = Snapshots(search, self._origin)
        first = min(search.waiting, default=search.steps)
        told_before = 0
        ending = self.reached()
        if not search.waiting:  # the measures before a half-answered step have been taken
            self._measure(last=ending is not None)
        while ending is None:
            try:
                done, over = self._answer()
            except StopRun as stop:
                ending = Ended.STOPPED, str(stop) or "The oracle ended the run."
                break
            except Rewind as rewind:
                back = snapshots.back(rewind.step)
                if back is None:
                    raise
                asked.clear()
                self._tallies.clear()
                self._stream = stream_of(self.oracle, self._another) if self.asynchronous else None
                self._done, told_before = back - first, rewind.step
                self._taken = {m.name: m.step for m in search.measured}
                continue
            if over:
                ending = Ended.TIME, "The time limit is reached."
                break
            if done is None:
                ending = self.reached() or (Ended.BUDGET, "The rest of the budget was handed out elsewhere.")
                break
            proposal, value = done
            asked.remove(proposal)
            self._done += 1
            if proposal.moment.withdrawable:
                snapshots.keep()
            ending = self.reached()
            measured = self._measure(last=ending is not None)
            report = Report(proposal.step, search.nfev, value, search.best.value, search.failed, self.seconds, measured)
            stopped = self._tell("stepped", report)
            if ending is None and any(stopped):
                ending = Ended.STOPPED, "A callback asked to stop."
                self._measure(last=True)
            if proposal.step >= told_before:
                self._work(False)
                yield report
                self._work(True)
            if self.stop is not None:
                self.stop.check()
        self._finish(*self._all_failed(ending))

    def _all_failed(self, ending: tuple[Ended, str]) -> tuple[Ended, str]:
        search, reason = self.search, ""
        if self.first_failure is not None and self.first_failure.reason:
            reason = f" The first failure: {self.first_failure.reason}"
        if ending[0] is Ended.BARREN:
            return Ended.BARREN, ending[1] + reason
        if not search.nfev or search.failed < search.nfev:
            return ending
        return Ended.FAILED, f"All {search.nfev} queries failed (NaN or infinite).{reason}"

    def reached(self) -> tuple[Ended, str] | None:
        """The limit that has been reached, with a message; None if none has."""
        search = self.search
        if self.target is not None and search.best.value <= self.target:
            return Ended.TARGET, f"The target {self.target:g} is reached."
        if search.exhausted:
            return Ended.BUDGET, f"The budget of {search.budget} queries is spent."
        if (self.steps is not None and self._done >= self.steps) or self._stops():
            return Ended.STEPS, "All steps are done."
        if self.patience is not None and search.barren - self._patient_from >= self.patience:
            return Ended.BARREN, (f"All queries of the last {search.barren} steps failed, so x has not moved.")
        limit = self.time_limit
        if limit is not None and (limit() if callable(limit) else self.seconds >= limit):
            return Ended.TIME, "The time limit is reached."
        return None

    def _another(self) -> Proposal | None:
        """The next proposal; None if there are no more."""
        if self.search.exhausted or (self.steps is not None and self._done + len(self._asked) >= self.steps):
            return None
        try:
            proposal = self.search.ask()
        except BudgetExhausted:  # the rest was handed out elsewhere
            return None
        except Exception as error:
            self._ask_error = error
            raise
        self._asked.append(proposal)
        self._tallies[proposal.step] = _Tally(proposal.n)
        return proposal

    # ------------------------------------------------------------------------------------------------- answering

    def _answer(self) -> tuple[tuple[Proposal, float] | None, bool]:
        """Answer and tell until a step is complete.

        Returns:
            The step with the mean of its values, None if there is no other; and whether time ran out before its end.
        """
        if self._stream is not None:
            return self._take(self._stream)
        while len(self._asked) <= self.ahead and self._another() is not None:
            pass
        if not self._asked:
            return None, False
        proposal, *ahead = self._asked
        proposal.ahead = tuple(ahead)
        parts = parts_of(self.oracle, proposal)
        try:
            return self._take((proposal, ids, part) for ids, part in parts)
        finally:
            _close(parts)

    def _take(self, answers: Iterator[Answered]) -> tuple[tuple[Proposal, float] | None, bool]:
        """Tell answers until one completes its step; see `_answer`."""
        search = self.search
        limit = None if callable(self.time_limit) else self.time_limit
        deadline = math.inf if limit is None else self._begun + limit
        scope = None if limit is None else CancelScope(deadline)
        while True:
            try:
                if scope is None:
                    proposal, ids, part = next(answers)
                else:
                    with scope:
                        proposal, ids, part = next(answers)
            except StopIteration:
                break
            except Cancelled:
                return None, True
            except (Rewind, StopRun):
                raise
            except Exception as error:
                if error is not self._ask_error:
                    self.oracle_error = error
                raise
            search.tell(proposal, part, ids)
            tally = self._tallies[proposal.step]
            tally.left -= part.n
            if isinstance(part, Values):
                usable = part.values if not part.n_failed else part.values[np.isfinite(part.values)]
                tally.total, tally.count = sum(usable.tolist(), tally.total), tally.count + usable.size
                if part.n_failed and self.first_failure is None:
                    self._note_failure(ids, part, int(np.argmax(np.isnan(part.values))))
            elif part.info is not None and self.first_failure is None:
                failed = [position for position, info in enumerate(part.info) if info and "error" in info]
                if failed:
                    self._note_failure(ids, part, failed[0])
            if self.observers:
                self._tell("answered", answers_of(proposal.step, search.moves, ids, part))
            if self.stop is not None:
                self.stop.check()
            if not tally.left:
                del self._tallies[proposal.step]
                return (proposal, tally.mean), False
            if time.monotonic() > deadline:
                return None, True
        if self._asked and time.monotonic() > deadline:
            return None, True
        if self._asked:
            step = self._asked[0].step
            raise TellError(
                f"The oracle left {self._tallies[step].left} of {self._asked[0].n} queries of step {step} unanswered."
            )
        return None, False

    def _note_failure(self, ids: Any, part: Feedback, position: int) -> None:
        info = (part.info[position] if part.info is not None else None) or {}
        self.first_failure = Failure(int(ids[position]), str(info.get("error", "")), info)

    # ------------------------------------------------------------------------------------------------- measuring

    def _measure(self, last: bool) -> dict[str, Measured]:
        """Take the measures that are due after this many moves and have not been taken yet."""
        search, out = self.search, dict[str, Measured]()
        for measure in self.measures:
            if self._taken.get(measure.name) == search.moves or not measure.due(search.moves, last):
                continue
            seconds = self._seconds_before + self.seconds
            found = measure.take(search, search.moves, seconds, forgiving=measure.name in self._taken)
            search.record(found)
            self._taken[measure.name] = search.moves
            out[measure.name] = found
            self._tell("measured", found)
        return out
