"""`blackbox-zo report`: one file that shows a run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from blackbox_zo.journal import read
from oracles.cli._errors import BadInput
from oracles.cli._finetune_journal import is_finetuning
from oracles.cli._history import history_of
from oracles.cli._rl_journal import is_training
from oracles.cli._summary import summary_of

__all__ = ["add", "write"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="draw a run to one HTML or PNG file",
        description="Draw convergence, parameters and failures of a run, which may still be going on, to one file.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("journal", type=Path, metavar="FILE", help="the journal")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="an .html or .png file; default: the journal's name with .html",
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE.npz",
        help="of a training: show this policy at play; default the one that the run saved",
    )
    parser.add_argument("--no-video", action="store_true", help="of a training: show none")


def write(journal: Path, output: Path, policy: Path | None = None, video: bool = True) -> str:
    """Draw a journal to a file that appears at once and complete; what was drawn, in a line.

    Args:
        journal: The journal.
        output: The file.
        policy: Of a training: whom to show at play; none takes what the run saved.
        video: Of a training: whether to.

    Raises:
        JournalError: It is empty, damaged, or no journal.
        BadInput: matplotlib is missing.
        OSError: A file cannot be read or written.
    """
    header, _ = read(journal)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BadInput("a report needs matplotlib; pip install 'blackbox-zo[cli]'") from None
    beside = output.with_name(f".{output.name}.{os.getpid()}")  # a reader never meets half a report
    try:
        if output.suffix.lower() == ".html" and is_finetuning(header):
            from oracles.cli._finetune_history import tuning_of
            from oracles.cli._finetune_page import page_of_tuning

            tuning = tuning_of(journal)
            beside.write_text(page_of_tuning(tuning), encoding="utf-8")
            what = f"{tuning.steps} steps"
        elif is_training(header):
            what = _write_training(journal, output, beside, policy, video)
        else:
            what = _write_history(journal, output, beside)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    return f"{output}: {what}, {output.stat().st_size / 1000:,.0f} kB"


def _write_training(journal: Path, output: Path, beside: Path, policy: Path | None, video: bool) -> str:
    from oracles.cli._rl_history import career_of
    from oracles.cli._rl_page import page_of_career, picture_of_career, shown_policy

    career = career_of(journal)
    what = f"{career.steps} steps"
    if output.suffix.lower() == ".png":
        picture_of_career(career, beside)
        return what
    shown = shown_policy(career, policy) if video else ("", None, "")
    beside.write_text(page_of_career(career, shown), encoding="utf-8")
    return what + (f", and {shown[0]} at play" if shown[1] else f", no video ({shown[2]})" if shown[0] else "")


def _write_history(journal: Path, output: Path, beside: Path) -> str:
    history = history_of(journal)
    if output.suffix.lower() == ".html":
        from oracles.cli._page import page

        beside.write_text(page(history, summary_of(history)), encoding="utf-8")
    else:
        from oracles.cli._picture import picture

        picture(history, summary_of(history), beside)
    return f"{history.n} answers"


def _run(given: argparse.Namespace) -> int:
    output: Path = given.output or given.journal.with_suffix(".html")
    if output.suffix.lower() not in (".html", ".png"):
        raise BadInput(f"--output {str(output)!r} must end in .html or .png.")
    if not output.parent.is_dir():
        raise BadInput(f"--output {str(output)!r} is in a folder that is not there; make it first.")
    if given.policy is not None and not is_training(read(given.journal)[0]):
        raise BadInput(f"--policy is of a training, but '{given.journal}' records none.")
    print(write(given.journal, output, given.policy, not given.no_video))
    return 0
