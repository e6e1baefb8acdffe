"""`blackbox-zo bench`: `minimize` beside other optimisers on a suite of functions."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from oracles.bench._needed import check
from oracles.bench.solvers import OURS, SOLVERS
from oracles.bench.suites import SUITES, Suite
from oracles.bench.trials import Trial, measured, tasks
from oracles.options import BadInput, check_file, count, told, whole
from oracles.words import span

__all__ = ["add", "numbers"]


def numbers(text: str) -> list[int]:
    """Whole numbers from 1, such as 1-3,11 for 1, 2, 3 and 11."""
    try:
        spans = [[int(end) for end in part.split("-")] for part in text.split(",")]
        out = [n for span in spans for n in range(span[0], span[-1] + 1)]
        if out and min(out) >= 1 and max(map(len, spans)) <= 2:
            return out
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be whole numbers such as 5,10 or 1-3, got {text!r}")


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="measure minimize beside other optimisers on a suite of functions",
        description="Run minimize, with no method named, and other optimisers on the functions of a suite, and print "
        "the share of (function, target) pairs that each has reached by a number of queries. Targets are f_opt + 10^2 "
        "to f_opt + 10^-8. Every optimiser has the same starts; restarts go on until its budget is spent.",
        epilog="example: blackbox-zo bench bbob --against cma,slsqp --dimensions 5,10 --budget 100",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("suite", choices=SUITES, metavar="SUITE", help=f"one of {', '.join(SUITES)}")
    parser.add_argument(
        "--against",
        metavar="NAME,...",
        help=f"other optimisers: {', '.join(name for name in SOLVERS if name != OURS)}; default: depends on the suite",
    )
    parser.add_argument("--dimensions", type=numbers, metavar="N,...", help="default: depends on the suite")
    parser.add_argument("--budget", type=whole, default=100, metavar="N", help="queries per dimension; default 100")
    parser.add_argument("--functions", type=numbers, metavar="N,...", help="such as 1-5,8; default: all of the suite")
    parser.add_argument("--instances", type=numbers, default=[1], metavar="N,...", help="such as 1-3; default 1")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="seed of all solvers; default 0")
    parser.add_argument("--processes", type=whole, metavar="N", help="default: one for each CPU")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a .json file for the run lengths; what it already holds of other optimisers is not measured again",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the shares: a .png or .svg file")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _run(given: argparse.Namespace) -> int:
    from oracles.bench.plot import plot
    from oracles.bench.store import load, merged, saving
    from oracles.bench.table import table

    suite, peers = _checked(given)
    with told():
        kept = load(given.out) if given.out is not None else []
    if any(trial.task.suite != suite.name for trial in kept):
        raise BadInput(f"--out {str(given.out)!r} holds trials of {kept[0].task.suite}; name another file.")
    dimensions = given.dimensions or list(suite.dimensions)
    functions = given.functions or list(range(1, suite.functions + 1))
    plan = tasks(suite, [OURS, *peers], dimensions, given.budget, functions, given.instances, given.seed)
    known = {trial.task for trial in kept if trial.task.solver != OURS}
    plan = [task for task in plan if task not in known]
    trials: Iterable[Trial] = measured(plan, given.processes or os.cpu_count() or 1)
    if given.out is not None:
        machine = {"processor": platform.processor(), "python": platform.python_version(), "date": time.strftime("%F")}
        trials = saving(given.out, trials, machine)
    kept = merged(kept, trials if given.quiet else _shown(trials, len(plan)))
    print(table(kept))
    if given.plot is not None:
        plot(kept, given.plot)
    return 0


def _checked(given: argparse.Namespace) -> tuple[Suite, list[str]]:
    """The suite and the peers, after a look at all that would fail later."""
    suite = SUITES[given.suite]
    names = list(suite.peers) if given.against is None else [name for name in given.against.split(",") if name]
    for name in names:
        if name == OURS or name not in SOLVERS:
            known = ", ".join(name for name in SOLVERS if name != OURS)
            raise BadInput(f"--against names no optimiser {name!r}; known are {known}.")
    packages = {SOLVERS[name].package for name in names} | {suite.package} | {"matplotlib" if given.plot else ""}
    try:
        check(sorted(packages - {""}))
    except ModuleNotFoundError as error:
        raise BadInput(str(error)) from None
    if given.functions and max(given.functions) > suite.functions:
        raise BadInput(f"--functions: {suite.name} has {suite.functions} functions, got {max(given.functions)}.")
    with told():
        for d in given.dimensions or suite.dimensions:
            suite.problem(1, d, given.instances[0])
    check_file(given.out, "--out")
    check_file(given.plot, "--plot")
    if given.plot is not None and given.plot.suffix not in (".png", ".svg"):
        raise BadInput(f"--plot must end in .png or .svg, got {str(given.plot)!r}.")
    if given.plot is not None and suite.noisy:
        raise BadInput(f"--plot cannot show {suite.name}: under noise a run has a result at its end alone.")
    return suite, list(dict.fromkeys(names))


def _shown(trials: Iterable[Trial], total: int) -> Iterator[Trial]:
    """Pass trials on, with a bar on a terminal that rich is installed for, and elsewhere a line for each solver."""
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        yield from _barred(trials, total)
        return
    began, done = time.monotonic(), 0
    for (d, solver), some in groupby(trials, lambda trial: (trial.task.d, trial.task.solver)):
        for trial in some:
            done += 1
            yield trial
        print(f"{done}/{total} {solver}, d = {d}, {span(time.monotonic() - began)}", file=sys.stderr, flush=True)


def _barred(trials: Iterable[Trial], total: int) -> Iterator[Trial]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task("", total=total)
        for trial in trials:
            bar.update(shown, advance=1, description=f"{trial.task.solver}, d = {trial.task.d}")
            yield trial
