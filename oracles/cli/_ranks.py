"""The command line under `torchrun`: which commands run there, and what each process does."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from blackbox_zo.errors import StopRun
from oracles.kind import Kind
from oracles.options import BadInput

__all__ = ["perform_across", "prepare", "said", "silent_unless", "speaks_here"]


def rank_of() -> int | None:
    """The number of this process among several that `torchrun` has started; None if it is the only one."""
    size, rank = os.environ.get("WORLD_SIZE", ""), os.environ.get("RANK", "")
    return int(rank) if size.isdecimal() and int(size) > 1 and rank.isdecimal() else None


def speaks_here() -> bool:
    """Whether this process says what all of its machine would: its first one."""
    return rank_of() is None or os.environ.get("LOCAL_RANK", "0") == "0"


@contextlib.contextmanager
def silent_unless(speaks: bool) -> Iterator[None]:
    """Inside this block nothing is printed, unless this process `speaks`."""
    if speaks:
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def perform_across(given: argparse.Namespace, verb: str, kinds: Sequence[Kind]) -> int:
    """Run a command in this process and the others of `torchrun`, if there are any.

    Args:
        given: The parsed command.
        verb: Its name.
        kinds: The known kinds of runs.

    Raises:
        BadInput: It is not a command for several processes.
        RankError: Another rank differs, has stopped or has died.
    """
    if rank_of() is None:
        return int(given.command(given))
    shared = [kind.name for kind in kinds if kind.shared]
    if verb not in (*shared, "resume"):
        refused = BadInput(
            f"`{verb}` is for one process, but torchrun has started {os.environ['WORLD_SIZE']}, each of which would do "
            f"the same. Type it without torchrun (only {', '.join(shared)} and resume share their work among "
            "processes)."
        )
        refused.elsewhere = not speaks_here()  # type: ignore[attr-defined]
        raise refused
    from blackbox_zo.ranks import Ranks

    with silent_unless(rank_of() == 0), Ranks() as ranks:
        given.ranks = ranks
        try:
            code = int(given.command(given))
        except StopRun:  # another rank has ended the run before it began
            code = 2
        ranks.leave(code)
    return code


def prepare(given: argparse.Namespace) -> None:
    """What this process is to do of a run: rank 0 alone shows, keeps and saves; the others continue from a copy."""
    ranks = given.ranks
    if ranks is None:
        return
    if given.header is None:  # else `resume` has asked for it
        given.journal = ranks.journal(given.journal)
    if not ranks.first:
        given.quiet, given.report, given.save, given.snapshot_every = True, None, None, 0


def said(error: BaseException) -> str:
    """An error as this process prints it; empty if rank 0 says it."""
    rank = rank_of()
    if rank is None or rank == 0:
        return f"blackbox-zo: {error}"
    return "" if getattr(error, "elsewhere", False) else f"blackbox-zo: rank {rank}: {error}"
