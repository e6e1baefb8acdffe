"""`blackbox-zo`: minimise what a program prints, tune a language model, train a policy, have people rank, go on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from blackbox_zo import __version__
from blackbox_zo.errors import JournalError
from oracles.cli import answers, export, finetune, minimize, rank, report, resume, train_policy, watch
from oracles.cli._errors import BadInput

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows `blackbox-zo`; none takes them from the command line.

    Returns:
        The exit code: 0 done, 1 every query failed, or ten steps of a training in a row, 2 bad input, 130
        interrupted, 143 ended by SIGTERM.
    """
    parser = argparse.ArgumentParser(prog="blackbox-zo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"blackbox-zo {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (minimize, resume, finetune, export, train_policy, watch, rank, answers, report):
        module.add(commands)
    typed = sys.argv[1:] if arguments is None else list(arguments)
    given = parser.parse_args(typed, argparse.Namespace(typed=typed))
    try:
        return int(given.command(given))
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BadInput, JournalError, OSError) as error:
        print(f"blackbox-zo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("blackbox-zo: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
