"""The kind of run of `blackbox-zo minimize`: a program that prints a number."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

import blackbox_zo as bz
from blackbox_zo._auto import answered_singly, auto
from blackbox_zo._replay import restore
from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.distinct import Distinct, distinct
from blackbox_zo.journal import JournalReader
from blackbox_zo.tally import Tally
from oracles._files import write
from oracles.command.options import EXAMPLE, OPTIONS, values_of
from oracles.command.oracle import CommandOracle
from oracles.function.history import History
from oracles.function.page import page_of
from oracles.kind import Kind, Session
from oracles.options import BadInput, told
from oracles.page import Page

__all__ = ["CommandKind", "ProgramTally"]


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
            variable, estimator, rule = _method(header, self.oracle, given)
        most = estimator.n if isinstance(estimator, Distinct) else 1 if variable.fixed.all() else math.inf
        self.whole = given.budget >= most and not self.oracle.noisy
        if self.whole:
            given.budget = int(most)
        self.tally = ProgramTally(given.budget, maximize=self.oracle.maximize, oracle=self.oracle)
        settings |= {"budget": given.budget, "workers": given.workers, "timeout": given.timeout}
        journal = self.journal(self.oracle.problem, settings)
        seed = given.seed if header is None else header["seed"]
        self.search = bz.Search(variable, estimator, rule, seed=seed, budget=given.budget, journal=journal)

    @override
    def run(self, observers: Sequence[bz.Observer], stop: Stop) -> bz.Run:
        del stop  # a running program is ended at once
        target = self.given.target
        if target is not None and self.oracle.maximize:
            target = -target
        limit: float | None = self.given.time_limit
        asynchronous = self.search.estimator.any_age  # `resume` finds it in the journal
        return bz.Run(
            self.search, self.oracle, time_limit=limit, target=target, observers=observers, asynchronous=asynchronous
        )

    @override
    def result(self, run: bz.Run) -> Iterator[str]:
        best = self.search.best
        if self.search.nfev == self.search.failed > 0 and run.ended is not bz.Ended.INTERRUPTED:
            return
        if np.isfinite(best.value):
            values = self.oracle.decode(best.x)
            width = max(map(len, values))
            yield f"best {-best.value if self.oracle.maximize else best.value:.8g}, query {best.id}"
            yield from (f"  {name:<{width}}  {value}" for name, value in values.items())
            yield f"  {shlex.join(self.oracle.command(best.x, best.id))}"
        if self.whole and run.ended is bz.Ended.BUDGET:
            yield "Every combination of the parameters has been tried."
        failed = f", {self.search.failed} failed" if self.search.failed else ""
        yield f"{self.search.nfev} of {self.given.budget} queries{failed}, {run.seconds:.1f} s"

    @override
    def failure(self, run: bz.Run) -> str:
        first = run.first_failure
        told = "" if first is None else f" The first: {self.tally.failure(first.query, first.info)}"
        return f"all {self.tally.done} queries failed.{told}"

    @override
    def close(self) -> None:
        self.oracle.close()
        super().close()


def _oracle(given: argparse.Namespace, header: Mapping[str, Any] | None, kind: Kind) -> CommandOracle:
    """The program, from the journal's header when resuming, else from the options."""
    changes = {"timeout": given.timeout, "workers": given.workers, "stopping": given.stopping}
    if header is not None:
        fixed = sorted({word.partition("=")[0] for word in given.typed} & set(kind.names.values()))
        if fixed:
            raise BadInput(f"A Python program started this run, so {fixed[0]} cannot be changed; leave it out.")
        return CommandOracle.of_problem(header["problem"], **changes)
    if given.run is None or not given.param:
        raise BadInput("--run COMMAND and --param NAME=LOW:HIGH are needed; see blackbox-zo minimize --help.")
    start = values_of(given.start)
    changes["noisy"] = given.noisy
    return CommandOracle(given.run, given.param, read=given.read, maximize=given.maximize, start=start, **changes)


def _method(
    header: Mapping[str, Any] | None, oracle: CommandOracle, given: argparse.Namespace
) -> tuple[bz.Vector, bz.Estimator, bz.Rule | None]:
    if header is not None:
        return restore(header)
    start = bz.Vector(oracle.x0, oracle.bounds)
    stopping = given.stopping is not None
    variable, estimator = auto(
        start, oracle.x0, oracle.bounds, None, asynchronous=given.asynchronous, stopping=stopping
    )
    if given.asynchronous:
        estimator = answered_singly(variable, estimator)
    return variable, distinct(variable, estimator), None


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
        if not history.best_first.size:
            raise BadInput(f"'{reader.path}' holds no value yet.")
        top = int(history.best_first[0])
        found = {"params": history.infos[top].get("params"), "value": float(history.values[top])}
        write(given.output, json.dumps(found) + "\n")
        yield f"{given.output}: the best parameters, value {history.values[top]:.6g}, query {history.ids[top]}"
