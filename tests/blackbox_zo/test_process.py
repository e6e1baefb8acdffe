"""Processes that are never left behind, however their owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blackbox_zo.workers._process import Process, end, how
from tests.oracles.helpers import alive, environment, wait_for

STUBBORN = """
import os, signal, subprocess, sys, time
if "child" not in sys.argv:
    program = subprocess.Popen([sys.executable, __file__, sys.argv[1], "child"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
{rest}
"""

OWNER = """
import os, sys, time
import numpy as np
from tests.oracles.helpers import proposal_of
from oracles import CommandOracle, FunctionOracle
folder, kind = sys.argv[1:]
if kind == "program":
    oracle = CommandOracle(["{python}", os.path.join(folder, "..", "stubborn.py"), folder, "{x}"], ["x=0:1"])
else:
    def fun(x):
        import runpy
        sys.argv[:] = ["stubborn.py", folder]
        runpy.run_path(os.path.join(folder, "..", "stubborn.py"))
    oracle = FunctionOracle(fun, workers=2)
oracle.answer(proposal_of([[0.5]]))
"""

FOREVER = "time.sleep(600)"
HELD = "import ctypes\nctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock: no thread of Python's gets to run"


def pids(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where processes leave their numbers."""
    path = tmp_path / "pids"
    path.mkdir()
    return path


@pytest.mark.parametrize("rest", [FOREVER, HELD])
@pytest.mark.parametrize("kind", ["function", "program"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_whoever_dies_takes_all_with_it_also_in_mid_call(
    kind: str, number: signal.Signals, rest: str, folder: Path, tmp_path: Path
) -> None:
    """What runs ignores SIGTERM, has a child, and may hold the interpreter's lock."""
    (tmp_path / "stubborn.py").write_text(STUBBORN.format(rest=rest))
    (tmp_path / "owner.py").write_text(OWNER)
    words = [sys.executable, str(tmp_path / "owner.py"), str(folder), kind]
    owner = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: len(pids(folder)) == 2 or owner.poll() is not None, 60)
        owner.send_signal(number)
        _, said = owner.communicate(timeout=30)
    finally:
        owner.kill()
    assert len(pids(folder)) == 2 and owner.returncode == -number, said
    wait_for(lambda: not any(map(alive, pids(folder))), 10)
    assert "ResourceWarning" not in said


def test_a_warden_that_was_killed_is_replaced(folder: Path, tmp_path: Path) -> None:
    text = (
        "import os, signal, sys, time\n"
        "from blackbox_zo.workers import _process\n"
        "first = _process.Process(['sleep', '600'])\n"
        "os.kill(_process._warden._popen.pid, signal.SIGKILL)\n"
        "_process._warden._popen.wait()\n"
        "second = _process.Process(['sleep', '600'])\n"
        "for p in (first, second): open(os.path.join(sys.argv[1], str(p.pid)), 'w').close()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", text, str(folder)], env=environment(), timeout=60, check=False)
    assert len(pids(folder)) == 2
    wait_for(lambda: not any(map(alive, pids(folder))), 10)


def test_a_fork_that_lives_on_does_not_keep_what_its_parent_had(folder: Path) -> None:
    text = (
        "import os, signal, sys, time\n"
        "from blackbox_zo.workers._process import Process\n"
        "mine = Process(['sleep', '600'])\n"
        "if not os.fork():\n"
        "    mine.signal(signal.SIGKILL)  # is not its own\n"
        "    time.sleep(30); os._exit(0)\n"
        "time.sleep(0.3)\n"
        "open(os.path.join(sys.argv[1], str(mine.pid if mine.code is None else 0)), 'w').close()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run(
        [sys.executable, "-c", text, str(folder)], env=environment(), timeout=60, check=False, stderr=subprocess.DEVNULL
    )
    (pid,) = pids(folder)
    assert pid
    wait_for(lambda: not alive(pid), 10)


def test_ending_asks_first_and_then_forces(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(4))\nprint(1, flush=True)\ntime.sleep(600)"
    )
    deaf = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(600)"
    processes = [Process([sys.executable, "-c", text], stdout=subprocess.PIPE) for text in (polite, deaf)]
    for process in processes:
        process.pipes[0].readline()
    begun = time.monotonic()
    end(processes, grace=1.0)
    assert 1.0 <= time.monotonic() - begun < 10
    assert [process.code for process in processes] == [4, -9]
    for process in processes:
        process.pipes[0].close()
        process.signal(signal.SIGKILL)  # nothing happens any more
        assert not process.alive()


def test_how_it_ended_in_words() -> None:
    assert [how(code) for code in (0, 3, -9, -99)] == ["exit code 0", "exit code 3", "signal 9 (SIGKILL)", "signal 99"]
    assert os.name == "posix"
