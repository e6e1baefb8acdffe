"""`blackbox-zo studies`: several studies on one server."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackbox_zo._paths import expanded
from blackbox_zo._stop import Stop
from blackbox_zo.errors import OracleError, StopRun
from blackbox_zo.workers._cancel import LOOK
from oracles.options import BadInput, told

if TYPE_CHECKING:
    from oracles.kind import Kind, Session

__all__ = ["add"]

_SERVER = ("host", "port", "public-url", "allow-host")
"""Options of the server, at the top of the file; a study has all others of `blackbox-zo rank`."""

_EXAMPLE = """example of a FILE:
  port = 8000
  public-url = "https://lab.example.org/ranking"

  [colours]
  render = "oracles.ranking.renderers.demo:palette"
  store = "colours.db"
  ranked = 3

  [drums]
  render = "oracles.ranking.renderers.demo:drum"
  store = "drums.db"
"""


def add(commands: Any, kind: Kind, rank: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        commands: The subparsers to add it to.
        kind: The kind of a study.
        rank: The parser of its own command.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "studies",
        help="run several ranking studies on one server",
        description="Run several studies on one server, each under its name and with its own store. The researcher's "
        "page of each lists all.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kind, rank))
    parser.add_argument("file", type=expanded, metavar="FILE", help="a TOML file, with a table for each study")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="run these studies of the file alone")


def _run(given: argparse.Namespace, kind: Kind, rank: argparse.ArgumentParser) -> int:
    server, tables = _read(given.file)
    unknown = [name for name in given.only if name not in tables]
    if unknown:
        raise BadInput(f"{given.file} has no study {unknown[0]!r}; it has {', '.join(map(repr, tables))}.")
    chosen = {name: table for name, table in tables.items() if not given.only or name in given.only}
    parsed = {name: _parsed(name, table, rank) for name, table in chosen.items()}
    _check_stores(parsed)
    from oracles.ranking import StudyServer

    with told():
        shared = StudyServer(**server)
    try:
        with Stop():
            return _serve(parsed, kind, shared)
    finally:
        shared.close()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The server's arguments, and a table for each study."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not TOML: {error}.") from error
    tables = {name: _dashed(table) for name, table in found.items() if isinstance(table, dict)}
    rest = _dashed({name: value for name, value in found.items() if name not in tables})
    unknown = [name for name in rest if name not in _SERVER]
    if unknown:
        raise BadInput(f"{path}: {unknown[0]!r} is not an option of the server; these are {', '.join(_SERVER)}.")
    if not tables:
        raise BadInput(f"{path} has no study; a study is a table such as [colours].")
    names = {"public-url": "public_url", "allow-host": "allowed_hosts"}
    return {names.get(name, name): value for name, value in rest.items()}, tables


def _dashed(table: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the command's names; `public_url` is as good as `public-url`."""
    return {key.replace("_", "-"): value for key, value in table.items()}


def _parsed(name: str, table: Mapping[str, Any], rank: argparse.ArgumentParser) -> argparse.Namespace:
    """A study's options, as the command would have them."""
    words: list[str] = []
    for key, value in table.items():
        if key in (*_SERVER, "open"):
            raise BadInput(f"[{name}]: {key!r} is not an option of a study on a shared server.")
        if value is True:
            words.append(f"--{key}")
        elif value is not False:
            if key == "x0" and not isinstance(value, str):
                value = json.dumps(value)
            words += [f"--{key}", *(str(v) for v in (value if isinstance(value, list) else [value]))]
    print(f"{name}: rank {' '.join(words)}", flush=True)
    return rank.parse_args(words, argparse.Namespace(typed=words, study=name))


def _check_stores(parsed: Mapping[str, argparse.Namespace]) -> None:
    seen: dict[str, str] = {}
    for name, given in parsed.items():
        if given.store in seen:
            raise BadInput(
                f"[{name}] and [{seen[given.store]}] have the same store {given.store!r}; give each its own."
            )
        seen[given.store] = name


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")  # whole lines, also from threads
    sys.stdout.flush()


def _serve(parsed: Mapping[str, argparse.Namespace], kind: Kind, shared: Any) -> int:
    sessions: dict[str, Session] = {}
    failed = dict[str, str]()
    closing = threading.Event()

    def run(name: str, session: Session) -> None:
        try:
            study = session.run([], Stop())
            study.to_the_end()
            for line in session.result(study):
                _say(f"{name}: {line}")
        except Exception as error:
            if not (closing.is_set() and isinstance(error, OracleError | StopRun)):
                failed[name] = str(error)
                print(f"blackbox-zo: {name}: {error}", file=sys.stderr, flush=True)

    threads: list[threading.Thread] = []
    interrupted = False
    try:
        for name, given in parsed.items():
            given.host = shared
            settings = {"arguments": given.typed, "cwd": str(Path.cwd())}
            sessions[name] = kind.open(given, settings)
        threads = [threading.Thread(target=run, args=each, name=each[0]) for each in sessions.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a signal is heard between two waits
                thread.join(LOOK)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        closing.set()
        for session in sessions.values():
            session.close()
        for thread in threads:
            thread.join()
    if interrupted:
        _say("Interrupted; every answer is kept.")
        return 130
    return 2 if failed else 0
