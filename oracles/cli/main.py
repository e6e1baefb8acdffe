"""Black-box optimisation: tune a program, fine-tune a language model, train a policy, or ask people to rank."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from blackbox_zo import __version__
from blackbox_zo.errors import JournalError, MeasureError, OracleError
from oracles.cli import answers, bench, export, plan, report, resume, watch
from oracles.cli._perform import add_run
from oracles.cli._ranks import perform_across, said, silent_unless, speaks_here
from oracles.cli.kinds import KINDS
from oracles.kind import Kind
from oracles.options import BadInput
from oracles.ranking import studies

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, kinds: Sequence[Kind] = KINDS) -> int:
    """Run one command.

    Args:
        arguments: The arguments after `blackbox-zo`; None takes them from the command line.
        kinds: The known kinds of runs; to add one of your own, pass `[*KINDS, MyKind()]`.

    Returns:
        The exit code: 0 on success; 1 if every query failed, or ten steps of a training in a row; 2 on bad input, or if
        a file cannot be written; 130 if interrupted; 143 on SIGTERM.
    """
    parser = argparse.ArgumentParser(prog="blackbox-zo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"blackbox-zo {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parsers = {kind.name: add_run(commands, kind, kinds) for kind in kinds if kind.name}
    resume.add(commands, kinds, parsers)
    for verb in (watch, report, export):
        verb.add(commands, kinds)
    answers.add(commands)
    bench.add(commands)
    plan.add(commands)
    for ranking in (kind for kind in kinds if kind.name == "rank"):
        studies.add(commands, ranking, parsers[ranking.name])
    typed = sys.argv[1:] if arguments is None else list(arguments)
    with silent_unless(speaks_here()):
        given = parser.parse_args(typed, argparse.Namespace(typed=typed[1:]))
    format_before, warnings.formatwarning = warnings.formatwarning, _plain
    try:
        code = perform_across(given, typed[0], kinds)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        kind = next((kind for kind in kinds if kind.name == typed[0]), None)
        extra = f": pip install 'blackbox-zo[{kind.extra}]'" if kind is not None else ""
        print(f"blackbox-zo: this needs {error.name}, which is not installed{extra}", file=sys.stderr)
        return 2
    except (BadInput, JournalError, MeasureError, OracleError, OSError) as error:
        if text := said(error):
            print(text, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("blackbox-zo: interrupted.", file=sys.stderr)
        return 130
    finally:
        warnings.formatwarning = format_before


def _plain(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning to a user, without the line of code that gave it; one to a programmer as Python writes it."""
    if category is UserWarning:
        return f"blackbox-zo: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


if __name__ == "__main__":
    sys.exit(main())
