"""`CommandOracle`: any program as an oracle. Runs it with arguments and reads one number from its output."""

from __future__ import annotations

import math
import os
import queue
import shlex
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._describe import describe
from blackbox_zo._paths import expanded
from blackbox_zo._typing import Floats, override
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Answered, Part, gather, queries_of
from blackbox_zo.proposal import Proposal
from blackbox_zo.retry import again, check_no_retries
from blackbox_zo.stopping import Stoppable, Stopper, StoppingRule
from blackbox_zo.workers._cancel import CancelScope, current
from blackbox_zo.workers._process import how
from oracles.command._program import Program, end
from oracles.command._reading import Unreadable, lines_of, reader_of
from oracles.command._reports import Reports
from oracles.command._template import Template, did_you_mean
from oracles.command.parameters import Parameter, Value, bounds_of, parameters_of, parameters_of_problem

__all__ = ["CommandOracle"]

_TAIL_CHARACTERS = 4000


class CommandOracle(Stoppable):
    r"""Runs a program with the parameters of each query and reads one number from its output.

    The search moves in the unit cube, one coordinate per parameter. No shell is involved: a value with spaces, quotes
    or `$` in it arrives unchanged, as one argument. A program that exits with an error, is killed, takes too long, or
    prints no number is a failed query, kept with its last lines; it never raises.

    Args:
        run: The command, split as a shell would, `~` in front of an argument being the home
            folder; or a list of arguments. `{name}` stands for a parameter, even
            inside an argument; `{python}` for this Python, `{id}` for the query's number, `{{` and `}}` for braces.
        parameters: Names with a `Float`, `Integer` or `Choice`, or with its text; or a list of "name=low:high:log".
        read: Where the number is. "last": the last word of the last line of stdout that is not blank. "json:a.b": a
            field of the last line of stdout that is a JSON object, or of stdout as a whole. "file:PATH": the last word
            of a file that this run wrote; PATH may hold placeholders. "regex:PATTERN": group 1 of the last match in
            stdout followed by stderr, `^` and `$` matching at lines. Of each stream the last MiB is kept.
        timeout: Seconds for one run; past them the program is killed with all its descendants.
        workers: Number of programs run in parallel.
        maximize: Whether a higher number is better. The search then sees its negative.
        cwd: Folder to run in; none is the current one.
        env: Environment variables to add to the current ones.
        tail: How many last lines of a failed run to keep.
        start: Starting values of some or all parameters; the rest start at the middle of their range.
        stopping: Decides whether a run goes on, by its reports: lines `report 0.83` or `report 0.83 step=12` on its
            stdout, which it must flush. It is ended as after `timeout`. With `maximize`, a higher report is better.
        noisy: Whether the program may be run again with the values of an earlier run. By default it is not, where all
            parameters are whole numbers and choices: the run ends once all combinations have been tried.
        retries: How often a failed run of the program is repeated before the query has failed; see `blackbox_zo.Retry`.

    Attributes:
        x0: The start, shape (d,).
        bounds: (0, 1) for each parameter, equal ones where its value is fixed. Unless the program is noisy, they also
            say which points are the same to it.
        calls: Number of programs started.
        problem: What is minimised, for the header of a journal: `Journal(path, problem=oracle.problem)`.

    Raises:
        ValueError: The program cannot be found, a placeholder is unknown, a parameter is not used, or an argument is
            out of its range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import blackbox_zo as bz
        >>> oracle = CommandOracle("{python} -c 'print(({x} - 3) ** 2)'", ["x=0:10"])
        >>> r = bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, budget=20)
        >>> abs(oracle.decode(r.x)["x"] - 3) < 0.1
        True
    """

    def __init__(
        self,
        run: str | Sequence[str],
        parameters: Mapping[str, Parameter | str] | Iterable[str],
        *,
        read: str = "last",
        timeout: float | None = None,
        workers: int = 1,
        maximize: bool = False,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        tail: int = 20,
        start: Mapping[str, Value] | None = None,
        noisy: bool = False,
        retries: int = 0,
        stopping: StoppingRule | None = None,
    ) -> None:
        if timeout is not None:
            check_positive("CommandOracle", timeout=timeout)
        check_at_least("CommandOracle", 1, workers=workers)
        check_at_least("CommandOracle", 0, tail=tail)
        check_at_least("CommandOracle", 0, retries=retries)
        self.parameters = parameters_of(parameters)
        self.timeout, self.workers, self.maximize, self.tail = timeout, int(workers), maximize, int(tail)
        self.noisy, self.retries = noisy, int(retries)
        self.stopper = None if stopping is None else Stopper(stopping, "the program")
        self.cwd = None if cwd is None else os.fspath(expanded(cwd))
        self.env = None if env is None else {**os.environ, **env}
        self.run, self.read, self.calls = run if isinstance(run, str) else list(run), read, 0
        known = [*self.parameters, "python", "id"]
        self._command = Template(_split(run), known, "`run`")
        for name in self.parameters:
            if name not in self._command.names:
                raise ValueError(f"`run` never uses parameter {name!r}; put {{{name}}} where its value belongs.")
        self._reader = reader_of(read, known, self.cwd, workers)
        self.x0 = self.encode({} if start is None else start)
        self.bounds = [bounds_of(parameter, noisy) for parameter in self.parameters.values()]
        self.problem: dict[str, Any] = {
            "kind": "minimize",
            "run": self.run,
            "parameters": describe(self.parameters),
            "read": read,
            "maximize": bool(maximize),
            "noisy": bool(noisy),
        }
        self._running: set[Program] = set()
        _check_program(self.command(self.x0)[0], self.cwd, self.env)

    @classmethod
    def of_problem(cls, problem: Mapping[str, Any], **settings: Any) -> CommandOracle:
        """The oracle of a journal.

        Args:
            problem: From the header.
            **settings: Any further arguments.
        """
        parameters = parameters_of_problem(problem)
        settings = {"noisy": problem.get("noisy", False), **settings}
        return cls(problem["run"], parameters, read=problem["read"], maximize=problem["maximize"], **settings)

    def decode(self, x: Any) -> dict[str, Value]:
        """The parameters' values at a point of the search, shape (d,).

        Raises:
            ValueError: It has another number of coordinates than there are parameters.
        """
        u = np.asarray(x, dtype=np.float64).reshape(-1)
        if len(u) != len(self.parameters):
            raise ValueError(
                f"There are {len(self.parameters)} parameters, but the point has {len(u)} coordinates; "
                "start the search from `oracle.x0`."
            )
        return {name: p.decode(value) for (name, p), value in zip(self.parameters.items(), u.tolist(), strict=True)}

    def encode(self, values: Mapping[str, Value]) -> Floats:
        """The point of some or all parameters' values, shape (d,); the middle of the range for the others.

        Raises:
            ValueError: A name is unknown, or a value is out of its range.
        """
        for name in values:
            if name not in self.parameters:
                hint = did_you_mean(name, self.parameters)
                raise ValueError(
                    f"`start` names {name!r}, which is not a parameter{hint}; "
                    f"the parameters are {', '.join(self.parameters)}."
                )
        point = np.full(len(self.parameters), 0.5)
        for i, (name, parameter) in enumerate(self.parameters.items()):
            if name in values:
                try:
                    point[i] = parameter.encode(values[name])
                except ValueError as error:
                    raise ValueError(f"`start` of parameter {name!r}: {error}") from None
        return point

    def command(self, x: Any, query: int = 0) -> list[str]:
        """The arguments that the program is run with at a point, as query number `query`."""
        return self.filled(self.decode(x), query)

    def filled(self, values: Mapping[str, Value], query: int = 0) -> list[str]:
        """The arguments that the program is run with for some values of all parameters."""
        return self._command.fill({**values, "python": sys.executable, "id": query})

    @override
    def answer(self, proposal: Proposal) -> Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        # One part per program, as each ends. Closing the iterator kills the programs still running
        return again(self._parts_once, proposal, self.retries) if self.retries else self._parts_once(proposal)

    def _parts_once(self, proposal: Proposal) -> Iterator[Part]:
        left = iter([proposal])
        answers = self._stream(lambda: next(left, None))
        try:
            for _, ids, part in answers:
                yield ids, part
        finally:
            answers.close()

    @override
    def stream(self, ask: Callable[[], Proposal | None]) -> Generator[Answered, None, None]:
        check_no_retries(self.retries)
        return self._stream(ask)

    def _stream(self, ask: Callable[[], Proposal | None]) -> Generator[Answered, None, None]:
        stop = current() or CancelScope()
        done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        with stop.heard(lambda: done.put(None)):
            yield from self._answers(queries_of(ask), done, stop)

    def _answers(
        self, queries: Iterator[tuple[Proposal, int]], done: queue.SimpleQueue[int | None], stop: CancelScope
    ) -> Iterator[Answered]:
        mine: dict[int, tuple[Program, Proposal, int, dict[str, Value], Any, Reports | None]] = {}
        count = 0
        try:
            while True:
                while len(mine) < self.workers and (wanted := next(queries, None)) is not None:
                    (proposal, i), count = wanted, count + 1
                    values, query = self.decode(proposal.points[i]), int(proposal.ids[i])
                    before = self._reader.before({**values, "python": sys.executable, "id": query})
                    reports = None
                    if self.stopper is not None:
                        reports = Reports(self.stopper, self.stopper.begin(self, proposal, query), self.maximize)
                    program = Program(self.filled(values, query), self.cwd, self.env, self.timeout, reports)
                    mine[count] = program, proposal, i, values, before, reports
                    self._running.add(program)
                    self.calls += 1
                    program.start(lambda k=count: done.put(k))  # type: ignore[misc]
                if not mine:
                    return
                program, proposal, i, values, before, reports = mine.pop(stop.next_of(done))
                self._running.discard(program)
                answer = self._value(program, values, before, reports)
                if self.stopper is not None and reports is not None:
                    query, failed = int(proposal.ids[i]), bool(answer.n_failed)
                    note = self.stopper.end(
                        self, proposal, query, reports.curve, stopped=program.stopped and not failed, failed=failed
                    )
                    answer.info = ({**(answer.info or ({},))[0], **note},)  # type: ignore[dict-item]
                yield proposal, proposal.ids[i : i + 1], answer
        finally:
            under_way = [program for program, *_ in mine.values()]
            end(under_way)
            self._running.difference_update(under_way)

    def _value(self, program: Program, values: dict[str, Value], before: Any, reports: Reports | None) -> Values:
        """The answer of a program that has ended."""
        number, trouble = math.nan, program.trouble
        if reports is not None and program.stopped:
            trouble = reports.trouble
            number = (-1 if self.maximize else 1) * reports.curve.values[-1] if reports.curve.values else math.nan
        elif program.code is None and not trouble:
            trouble = "the program was killed before it started"
        elif not trouble and program.code:
            trouble = how(program.code) if program.code > 0 else f"killed by {how(program.code)}"
        elif not trouble:
            try:
                number = self._reader.number(program.stdout, program.stderr, before)
                trouble = "" if math.isfinite(number) else f"the number is {number}"
            except Unreadable as error:
                trouble = str(error)
        info: dict[str, Any] = {"params": values, "seconds": round(program.seconds, 3)}
        if trouble:
            last = [*lines_of(program.stdout), *lines_of(program.stderr)][-self.tail :] if self.tail else []
            return Values([np.nan], info=[{**info, "error": trouble, "tail": "\n".join(last)[-_TAIL_CHARACTERS:]}])
        return Values([-number if self.maximize else number], info=[info])

    @override
    def close(self) -> None:
        """Kill all programs that are still running."""
        end(self._running)


def _split(run: str | Sequence[str]) -> list[str]:
    if not isinstance(run, str):
        tokens = list(run)
        if not all(isinstance(token, str) for token in tokens):
            raise TypeError(f"`run` must be text or a list of texts, got {tokens!r:.80}.")
    else:
        try:
            tokens = [str(expanded(token)) if token.startswith("~") else token for token in shlex.split(run)]
        except ValueError as error:
            raise ValueError(f"`run={run!r}` cannot be split into arguments: {error}; check its quotes.") from None
    if not tokens:
        raise ValueError("`run` is empty; give a command such as 'python train.py --lr {lr}'.")
    return tokens


def _check_program(program: str, cwd: str | None, env: Mapping[str, str] | None) -> None:
    """Refuse a missing program before the first query."""
    if cwd is not None and not Path(cwd).is_dir():
        raise ValueError(f"`cwd={cwd!r}` is not a folder.")
    place = os.path.join(cwd or os.curdir, program) if os.path.dirname(program) else program  # noqa: PTH118, PTH120
    if shutil.which(place, path=(env or os.environ).get("PATH", os.defpath)) is None:
        raise ValueError(f"`run` starts with {program!r}, which cannot be found; check its name or path.")
