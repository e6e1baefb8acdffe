"""The kind of run of `blackbox-zo minimize`: a program that prints a number."""

from __future__ import annotations

import argparse
import json
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

import blackbox_zo as bz
from blackbox_zo._auto import answered_singly, auto
from blackbox_zo._methods import Recorded, recorded
from blackbox_zo._paths import expanded
from blackbox_zo._replay import known_as, restore
from blackbox_zo._stop import Stop
from blackbox_zo._typing import Floats, override
from blackbox_zo.distinct import Distinct, distinct
from blackbox_zo.journal import JournalReader
from blackbox_zo.tally import Tally
from oracles._files import write
from oracles.command.known import known_of
from oracles.command.methods import method_of
from oracles.command.options import EXAMPLE, OPTIONS, values_of
from oracles.command.oracle import CommandOracle
from oracles.function.history import History
from oracles.function.page import page_of
from oracles.kind import Kind, Session
from oracles.options import BadInput, told
from oracles.page import Page

__all__ = ["CommandKind", "ProgramTally"]

_METHOD = "--method"


class ProgramTally(Tally):
    """Counts queries, and reports the first failure at once: a wrong command would fail every time."""

    def __init__(self, total: int | None, *, maximize: bool, oracle: CommandOracle | None = None) -> None:
        super().__init__(total, maximize=maximize)
        self.oracle = oracle

    @override
    def failure(self, query: int, info: Mapping[str, Any]) -> str:
        """A failed query: the reason, its parameters, its command, and its last lines of output."""
        values = info.get("params", {})
        lines = [f"query {query} failed: {info.get('error', 'the number is NaN')}"]
        lines += [f"  {name} = {value}" for name, value in values.items()]
        if values and self.oracle is not None:
            lines.append(f"  {shlex.join(self.oracle.filled(values, query))}")
        lines += [f"  | {line}" for line in str(info.get("tail", "")).splitlines()]
        return "\n".join(lines)


class _Minimisation(Session):
    tally: ProgramTally

    def __init__(self, kind: Kind, given: argparse.Namespace, settings: dict[str, Any]) -> None:
        super().__init__(kind, given)
        header = given.header if given.run is None else None  # of a run that a Python program started
        if given.header is not None:  # an earlier resume may have had a larger budget
            given.budget = max(given.budget, sum(len(a.ids) for a in bz.read_journal(given.journal).answers()))
        with told():
            self.oracle = _oracle(given, header, kind)
            known = [pair for path in _known_files(given) for pair in known_of(path, self.oracle)]
            then = None if given.journal is None else recorded(given.journal)
            x0 = self.oracle.x0 if given.start else _start(self.oracle, known, then)
            variable, estimator, rule = _method(header, x0, self.oracle.bounds, then, given)
        if variable.fixed.all() and not self.oracle.noisy:
            given.budget, self.whole = 1, True
        self.tally = ProgramTally(given.budget, maximize=self.oracle.maximize, oracle=self.oracle)
        settings |= {"budget": given.budget, "workers": given.workers, "timeout": given.timeout}
        journal = self.journal(self.oracle.problem, settings)
        seed = given.seed if header is None else header["seed"]
        with told():
            self.search = bz.Search(
                variable, estimator, rule, seed=seed, budget=given.budget, journal=journal, change=_changed(given)
            )
            self.search.tell_known([point for point, _ in known], [value for _, value in known])
        if isinstance(estimator, Distinct) and self.search.limit_to(estimator.left(self.search.state)):
            given.budget = self.tally.total = self.search.budget
            self.whole = True

    @override
    def run(self, observers: Sequence[bz.Observer], stop: Stop) -> bz.Run:
        del stop  # a running program is ended at once
        target = self.given.target
        if target is not None and self.oracle.maximize:
            target = -target
        limit: float | None = self.given.time_limit
        warnings.filterwarnings("ignore", "The known value")  # it is said by the parameters' names
        observers = [*observers, _Doubts(self, observers)]
        asynchronous = self.search.estimator.any_age  # `resume` finds it in the journal
        return bz.Run(
            self.search, self.oracle, time_limit=limit, target=target, observers=observers, asynchronous=asynchronous
        )

    def doubt(self) -> str:
        """What is to be said of known values that the program contradicts; empty for nothing."""
        if self.search.doubt is None:
            return ""
        point, known, found = self.search.doubt
        sign = -1.0 if self.oracle.maximize else 1.0
        where = ", ".join(f"{name} = {value}" for name, value in self.oracle.decode(point).items())
        return (
            f"The known value {sign * known:.8g} disagrees with {sign * found:.8g}, which the program printed for "
            f"{where}. Are the known values of another program? The search relies on them."
        )

    @override
    def result(self, run: bz.Run) -> Iterator[str]:
        best = self.search.best
        if self.search.nfev == self.search.failed > 0 and run.ended is not bz.Ended.INTERRUPTED:
            return
        if np.isfinite(best.value):
            values = self.oracle.decode(best.x)
            width = max(map(len, values))
            whence = "known" if best.known else f"query {best.id}"
            yield f"best {-best.value if self.oracle.maximize else best.value:.8g}, {whence}"
            yield from (f"  {name:<{width}}  {value}" for name, value in values.items())
            yield f"  {shlex.join(self.oracle.command(best.x, max(best.id, 0)))}"
        if doubt := self.doubt():
            yield doubt
        if self.whole and run.ended is bz.Ended.BUDGET:
            yield "Every combination of the parameters has been tried."
        failed = f", {self.search.failed} failed" if self.search.failed else ""
        again = f", {self.search.retried} retries" if self.search.retried else ""
        yield f"{self.search.nfev} of {self.given.budget} queries{failed}{again}, {run.seconds:.1f} s"

    @override
    def failure(self, run: bz.Run) -> str:
        first = run.first_failure
        told = "" if first is None else f" The first: {self.tally.failure(first.query, first.info)}"
        return f"all {self.tally.done} queries failed.{told}"

    @override
    def close(self) -> None:
        self.oracle.close()
        super().close()


class _Doubts(bz.Observer):
    """Says at once that the program contradicts a known value."""

    def __init__(self, session: _Minimisation, shown: Sequence[bz.Observer]) -> None:
        self.session, self.shown, self.said = session, shown, bool(session.doubt())

    @override
    def stepped(self, run: bz.Run, report: bz.Report) -> None:
        if not self.said and (text := self.session.doubt()):
            self.said = True
            for observer in self.shown:
                observer.note(text)


def _oracle(given: argparse.Namespace, header: Mapping[str, Any] | None, kind: Kind) -> CommandOracle:
    """The program, from the journal's header when resuming, else from the options."""
    changes = {"timeout": given.timeout, "workers": given.workers, "retries": given.retries, "stopping": given.stopping}
    if header is not None:
        decided = set(kind.names.values()) - {_METHOD}
        fixed = sorted({word.partition("=")[0] for word in given.typed} & decided)
        if fixed:
            raise BadInput(f"A Python program started this run, so {fixed[0]} cannot be changed; leave it out.")
        return CommandOracle.of_problem(header["problem"], **changes)
    if given.run is None or not given.param:
        raise BadInput("--run COMMAND and --param NAME=LOW:HIGH are needed; see blackbox-zo minimize --help.")
    start = values_of(given.start)
    changes["noisy"] = given.noisy
    return CommandOracle(given.run, given.param, read=given.read, maximize=given.maximize, start=start, **changes)


def _start(oracle: CommandOracle, known: list[tuple[Floats, float]], then: Recorded | None) -> Floats:
    """Where the search begins if nothing is said of it: as the journal says, at the best known point, in the middle."""
    there = then.header.get("variable", {}).get("x0") if then is not None else None
    if there is not None and np.shape(there) == oracle.x0.shape:
        return np.array(there)
    if any(value == value for _, value in known):
        return min((pair for pair in known if pair[1] == pair[1]), key=lambda pair: pair[1])[0]
    return oracle.x0


def _method(
    header: Mapping[str, Any] | None, x0: Floats, bounds: Any, then: Recorded | None, given: argparse.Namespace
) -> tuple[bz.Vector, bz.Estimator, bz.Rule | None]:
    """The variable, and the method: the one that was asked for; else that of the journal; else auto."""
    own, default = auto(
        bz.Vector(x0, bounds), x0, bounds, None, asynchronous=given.asynchronous, stopping=given.stopping is not None
    )
    variable = restore(header)[0] if header is not None and "variable" in header else own
    named = given.method if given.header is None or _changed(given) else None
    if named is None and given.header is not None and then is not None:
        return variable, known_as(then.last[0]), known_as(then.last[1])
    estimator, rule = (default, None) if named in (None, "auto") else method_of(named)
    if given.asynchronous:
        estimator = answered_singly(own, estimator)
    return variable, distinct(own, estimator), rule


def _new_words(given: argparse.Namespace) -> list[str]:
    """The words that `resume` adds to those of the recorded command."""
    if given.header is None:
        return []
    words: list[str] = given.typed[len(CommandKind().arguments(given.header)) :]
    return words


def _changed(given: argparse.Namespace) -> bool:
    """Whether `resume` names a method."""
    return any(word.partition("=")[0] == _METHOD for word in _new_words(given))


def _known_files(given: argparse.Namespace) -> list[Path]:
    """The files of known values; those that the journal already has may be gone."""
    new = {str(expanded(word)) for word in _new_words(given)}
    return [path for path in given.known if given.header is None or path.exists() or str(path) in new]


@final
class CommandKind(Kind):
    """Programs that print a number."""

    name = "minimize"
    help = "find the arguments that make a program print the smallest number"
    example = EXAMPLE
    options = OPTIONS

    @override
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """A search over the unit cube of the parameters."""
        return _Minimisation(self, given, settings)

    @override
    def recognises(self, header: Mapping[str, Any]) -> bool:
        # Journals of format 1 do not name their kind
        problem = header.get("problem")
        old = isinstance(problem, dict) and {"run", "parameters", "read", "maximize"} <= problem.keys()
        return super().recognises(header) or (header.get("format") == 1 and old)

    @override
    def arguments(self, header: Mapping[str, Any]) -> list[str]:
        """Only the options that may change: the header has the rest, even if a Python program started the run."""
        settings = header.get("settings") or {}
        if "arguments" in settings:
            return super().arguments(header)
        names = [name for name in ("budget", "workers", "timeout") if settings.get(name)]
        return [word for name in names for word in (f"--{name}", str(settings[name]))]

    @override
    def tally(self, header: Mapping[str, Any]) -> Tally:
        """A tally of values with the sign that the program printed."""
        settings = header.get("settings") or {}
        return ProgramTally(settings.get("budget"), maximize=header["problem"]["maximize"] is True)

    @override
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """Convergence, parameters, failures, and the command for the best."""
        history, problem = History(reader), reader.header["problem"]
        settings = history.settings
        try:
            oracle = CommandOracle.of_problem(problem, cwd=settings.get("cwd"))
        except (ValueError, TypeError, KeyError):
            oracle = None  # the program does not exist here

        def again(row: int) -> str:
            values = history.infos[row].get("params")
            if oracle is None or not isinstance(values, dict):
                return ""
            try:
                return shlex.join(oracle.filled(values, int(history.ids[row])))
            except (ValueError, KeyError):
                return ""

        facts = [("number read from", str(problem["read"]))]
        facts += [(name, str(settings[name])) for name in ("workers", "timeout") if settings.get(name) is not None]
        run = problem["run"] if isinstance(problem["run"], str) else shlex.join(problem["run"])
        return page_of(history, run, again, facts)

    @override
    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """The best parameters, as JSON."""
        history = History(reader)
        if history.known_best:
            params, value = history.known_first[0]
            write(given.output, json.dumps({"params": params, "value": value, "known": True}) + "\n")
            yield f"{given.output}: the best parameters, value {value:.6g}, known"
            return
        if not history.best_first.size:
            raise BadInput(f"'{reader.path}' holds no value yet.")
        top = int(history.best_first[0])
        found = {"params": history.infos[top].get("params"), "value": float(history.values[top])}
        write(given.output, json.dumps(found) + "\n")
        yield f"{given.output}: the best parameters, value {history.values[top]:.6g}, query {history.ids[top]}"
