"""The ranking page under load: time to the first round, time of an answer, and what is left after kills.

    python benchmarks/page.py [--raters 20] [--rounds 200] [--kills 50]

The server is a process of its own (`HumanRanking`, 8 texts a round, SQLite). Each rater is a thread that asks for the
round, orders it, and sends the order until the server says it has it, as the page does. In a second run the server is
killed by SIGKILL at random instants and started again. Then the store is compared with what was sent. The time to the
first round is that of `blackbox-zo rank` with the palette, from its start as a process, Python's own start included. So
is the time of a restart, after as many rounds; an undo takes until the round is there again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

from oracles.ranking.study._export import rows_of
from oracles.ranking.study._store import Store

PROGRAM = """
import sys
import blackbox_zo as bz
from oracles.ranking import HumanRanking
raters, rounds = int(sys.argv[2]), int(sys.argv[3])
oracle = HumanRanking(lambda x: " ".join(map(str, x)), sys.argv[1], n_ranked=3, raters=raters, rounds=rounds)
known = oracle.store.people.names()
print(*(oracle.invite(f"rater {i}") for i in range(raters)) if not known else "", flush=True)
search = bz.Search([0.0] * 8, bz.RankBased(0.3, 8, 3), bz.SGD(0.5), seed=1)
for report in search.run(oracle, rounds):
    pass
"""


class Rater(threading.Thread):
    """Answers every round once."""

    def __init__(self, url: str, rounds: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.host = re.findall(r"//([^/]+)", url)[0]
        self.rounds, self.rng = rounds, np.random.default_rng(seed)
        self.sent: dict[int, list[str]] = {}
        self.seconds: list[float] = []
        self.connection = http.client.HTTPConnection(self.host, timeout=10)
        self.cookie = self.csrf = ""
        self.cookie = self.ask("POST", url.split(self.host)[1])[2]["set-cookie"].split(";")[0]
        self.csrf = re.findall(r'csrf" content="(\w+)"', self.ask("GET", "/")[1].decode())[0]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, dict[str, str]]:
        """One request, again until there is a reply."""
        headers = {"Cookie": self.cookie, "X-CSRF": self.csrf, "Origin": f"http://{self.host}"}
        headers["Content-Type"] = "application/json"
        while True:
            try:
                self.connection.request(method, path, None if body is None else json.dumps(body), headers)
                reply = self.connection.getresponse()
                data = reply.read()
                if reply.status not in (429, 503):  # busy; the store cannot be used
                    return reply.status, data, {k.lower(): v for k, v in reply.getheaders()}
            except (OSError, http.client.HTTPException):
                self.connection.close()
            time.sleep(0.05)

    def run(self) -> None:
        """All rounds."""
        while len(self.sent) < self.rounds:
            status, data, _ = self.ask("GET", "/api/round")
            state = json.loads(data) if status == 200 else {"round": None}
            if state["round"] is None or not all(state["candidates"]):
                time.sleep(0.25)  # as the page
                continue
            order = [c["id"] for c in self.rng.permutation(np.array(state["candidates"], dtype=object))[:3]]
            body = {"round": state["round"], "kind": "rank", "groups": [[i] for i in order], "ms": 1}
            begun = time.perf_counter()
            status, data, _ = self.ask("POST", "/api/answer", {**body, "client_id": secrets.token_hex(16)})
            self.seconds.append(time.perf_counter() - begun)
            assert status == 200, data
            self.sent[state["step"]] = order


def compared(where: str, people: list[Rater]) -> dict[str, int]:
    """What is in the store of what was acknowledged."""
    store = Store(where)
    rows = [row for row in rows_of(store) if row["status"] == "counts"]
    with store.record() as record:
        rounds = record.holding()
    places = {c.id: c.position for r in rounds for c in store.gallery.candidates(r)}
    store.close()
    kept = {(row["step"], row["name"]): row["order"] for row in rows}
    sent = {
        (step, f"rater {i}"): [[places[c]] for c in order]
        for i, person in enumerate(people)
        for step, order in person.sent.items()
    }
    lost = sum(kept.get(key) != order for key, order in sent.items())
    return {"answers": len(sent), "lost": lost, "doubled": len(rows) - len(kept)}


def study(raters: int, rounds: int, kills: int) -> dict[str, Any]:
    """One study; what was lost or doubled, and how long answers took."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "study.db")
        words = [sys.executable, "-c", PROGRAM, store, str(raters), str(rounds)]

        def start() -> tuple[subprocess.Popen[str], list[str]]:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            return process, process.stdout.readline().split()

        process, urls = start()
        people = [Rater(url, rounds, i) for i, url in enumerate(urls)]
        begun = time.perf_counter()
        for person in people:
            person.start()
        rng, killed = np.random.default_rng(0), 0
        while any(person.is_alive() for person in people):
            if killed < kills:
                time.sleep(float(rng.uniform(0.02, 1.0)))
                if any(person.is_alive() for person in people):
                    os.kill(process.pid, signal.SIGKILL)
                    process.communicate()
                    killed += 1
                    process, _ = start()
            else:
                time.sleep(0.05)
        seconds = time.perf_counter() - begun
        process.communicate(timeout=60)
        left = compared(store, people)
    times = np.array([s for person in people for s in person.seconds]) * 1000
    return {
        "kills": killed,
        **left,
        "answer, ms": {"median": round(float(np.median(times)), 1), "99 %": round(float(np.quantile(times, 0.99)), 1)},
        "answers a second": round(left["answers"] / seconds, 1),
    }


def first_round() -> float:
    """Seconds from the start of the command until a browser has the first round with all its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "oracles.cli.main", "rank", "--render", "oracles.ranking.renderers.demo:palette"]
        begun = time.perf_counter()
        process = subprocess.Popen([*words, "--store", f"{folder}/s.db"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        person = Rater(process.stdout.readline().split()[-1], 1, 0)
        while True:
            state = json.loads(person.ask("GET", "/api/round")[1])
            if state["round"] is not None and all(state["candidates"]):
                break
            time.sleep(0.005)
        for candidate in state["candidates"]:
            assert person.ask("GET", f"/{candidate['url']}")[0] == 200
        seconds = time.perf_counter() - begun
        process.kill()
        process.communicate()
    return seconds


def undo_and_restart(rounds: int, repeats: int = 3) -> dict[str, Any]:
    """Seconds until the round is there again after an undo, and until the next one is after a kill.

    A study of the command line with the palette, `PreferenceGP`, after so many answered rounds.
    """
    undos, restarts = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "oracles.cli.main", "rank", "--store", f"{folder}/s.db", "--ranked", "3"]
        words += ["--render", "oracles.ranking.renderers.demo:palette", "--rounds", str(rounds + 10)]

        def start() -> tuple[subprocess.Popen[str], str]:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            return process, process.stdout.readline().split()[-1]

        def wait(step: int) -> None:
            while True:
                state = json.loads(person.ask("GET", "/api/round")[1])
                if state.get("round") is not None and state["step"] == step and all(state["candidates"]):
                    return
                time.sleep(0.005)

        process, url = start()
        person = Rater(url, rounds, 0)
        person.run()
        wait(rounds)
        for _ in range(repeats):
            begun = time.perf_counter()
            assert person.ask("POST", "/api/undo", {"client_id": secrets.token_hex(16)})[0] == 200
            wait(rounds - 1)
            undos.append(time.perf_counter() - begun)
            person.sent.popitem()
            person.run()
            wait(rounds)
        for _ in range(repeats):
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            begun = time.perf_counter()
            process, _ = start()
            wait(rounds)
            restarts.append(time.perf_counter() - begun)
        process.kill()
        process.communicate()
    return {
        "rounds": rounds,
        "undo, s": {"median": round(float(np.median(undos)), 3), "all": undos},
        "restart, s": {"median": round(float(np.median(restarts)), 3), "all": restarts},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    times = [first_round() for _ in range(5)]
    out: dict[str, Any] = {"first round, s": {"median": round(float(np.median(times)), 3), "all": times}}
    print(out, flush=True)
    out["undo and restart"] = undo_and_restart(given.rounds)
    print(out["undo and restart"], flush=True)
    for name, kills in (("undisturbed", 0), ("killed", given.kills)):
        out[name] = study(given.raters, given.rounds, kills)
        print(name, out[name], flush=True)
    save(__file__, out)


if __name__ == "__main__":
    main()
