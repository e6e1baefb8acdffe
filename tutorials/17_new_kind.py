"""A kind of run of your own: one oracle, one file for the kind, one for its options.

You learn how a simulator of yours gets a command with a live bar, a journal, `resume`, `watch`, `report` and `export`,
and how an oracle that learns is resumed. The three files are in tutorials/golf: read `oracle.py` first.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from golf.kind import GolfKind

from oracles.cli.kinds import KINDS
from oracles.cli.main import main

mine = [GolfKind(), *KINDS]


def command(*words):
    """As `blackbox-zo` would be typed in a shell, if this program were called so."""
    print(f"\n$ golf.py {' '.join(words)}", flush=True)
    code = main(words, mine)
    print(f"exit code {code}", flush=True)


def answers(journal):
    """All lines but the header."""
    return Path(journal).read_text().splitlines()[1:]


home = Path.cwd()
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    command("golf", "--steps", "30", "--journal", "whole.jsonl", "--quiet")

    command("golf", "--steps", "12", "--journal", "part.jsonl", "--quiet")  # as if it had been killed after 12
    command("resume", "part.jsonl", "--steps", "30", "--quiet")
    same = [json.loads(a) for a in answers("part.jsonl") if '"measure"' not in a]
    same = same == [json.loads(a) for a in answers("whole.jsonl") if '"measure"' not in a]
    print(f"\nthe resumed run gave the same answers, and learnt the same of the wind: {same}")

    command("resume", "part.jsonl", "--wind", "3")  # another wind is another run
    command("watch", "whole.jsonl", "--last", "2")
    command("report", "whole.jsonl", "-o", "golf.html")
    command("golf", "--steps", "30", "--wind", "4", "--journal", "storm.jsonl", "--quiet")
    command("report", "whole.jsonl", "storm.jsonl", "-o", "both.png")
    command("export", "whole.jsonl", "-o", "best.json")
    os.chdir(home)

# To keep such a command, put `sys.exit(main(kinds=[GolfKind(), *KINDS]))` at the end of a program of your own.
