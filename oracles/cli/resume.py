"""`blackbox-zo resume`: go on with a run from its journal alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from blackbox_zo import _replay
from blackbox_zo.journal import Journal, read
from oracles.cli._errors import BadInput, told
from oracles.cli._finetune_journal import go_on, is_finetuning
from oracles.cli._rl_journal import go_on as train_on
from oracles.cli._rl_journal import is_training
from oracles.cli._run import Run
from oracles.cli.minimize import add_limits
from oracles.command import CommandOracle

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "resume",
        help="go on with a run from its journal",
        description="Go on with a run of `blackbox-zo minimize --journal FILE`. No answered query is asked again.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("journal", type=Path, metavar="FILE", help="the journal")
    add_limits(parser, budget=None, workers=None)


def _run(given: argparse.Namespace) -> int:
    header, records = read(given.journal)
    problem, settings = header.get("problem"), header.get("settings") or {}
    if is_finetuning(header) and "arguments" in settings:
        raise BadInput(
            f"'{given.journal}' fine-tunes a model. To go on, in folder {settings.get('cwd')!r}: "
            + go_on(settings["arguments"])
        )
    if is_training(header):
        how = (
            f"in folder {settings.get('cwd')!r}: {train_on(settings['arguments'])}"
            if "arguments" in settings
            else (f"call oracles.rl.train with the same arguments and journal={str(given.journal)!r}.")
        )
        raise BadInput(f"'{given.journal}' trains a policy. To go on, {how}")
    if not isinstance(problem, dict) or not {"run", "parameters", "read", "maximize"} <= problem.keys():
        raise BadInput(
            f"'{given.journal}' records a run of a Python function, which only your program can call; "
            f"to go on, call bz.minimize with the same arguments and journal={str(given.journal)!r}."
        )
    answered = sum(len(r["ids"]) if "ids" in r else 1 for r in records)
    budget = given.budget or max(settings.get("budget") or 100, answered)
    workers = given.workers or settings.get("workers") or 1
    timeout = given.timeout or settings.get("timeout")
    cwd = settings.get("cwd")  # the command's own paths start there
    if cwd and not Path(cwd).is_dir():
        raise BadInput(f"The run belongs in folder {cwd!r}, which is gone; bring it back.")
    with told():
        oracle = CommandOracle.of_problem(problem, timeout=timeout, workers=workers, cwd=cwd)
        variable, estimator, rule = _replay.restore(header)
    journal = Journal(given.journal, problem=problem, settings=settings)
    run = Run(oracle, journal, budget, given.time_limit, given.quiet)
    bounds = list(zip(variable.lower.tolist(), variable.upper.tolist(), strict=True))
    return run.minimize(variable.flat, bounds=bounds, unit=variable.unit, method=(estimator, rule), seed=header["seed"])
