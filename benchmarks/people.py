"""Whole studies on real generators, through the page: practice, checks, repeats, three people, a final vote.

    python benchmarks/people.py [--studies 10]

The server is a process of its own, `blackbox-zo rank` with its defaults: 8 pictures a round of which the 3 best are
named, 15 rounds, 3 answers a round. A simulated person is a browser without a screen: it fetches the pictures over
HTTP and judges what it sees, not x. Two are careful: they want the same thing, see it with noise (Thurstone: a
standard deviation of half that of what a first round spreads over), press anything in one round of 20, and prefer what
is shown first a little. The third presses anything in every round.

- "clothes": `oracles.ranking.renderers.fashion:picture`; wanted is one of the 10 classes of Fashion-MNIST, by the
  log-probability of a classifier of real pictures. Found: the final picture is of that class.
- "palette", "texture": the demonstrations; wanted is a picture at a random x. Left: the distance of pixels from it, at
  the end by that of the start.

Also told: who wins the final vote among the careful two, and whether the weights tell who is careless.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import save
from page import Rater
from PIL import Image

from oracles.ranking.renderers import demo, fashion
from oracles.ranking.study._export import document_of
from oracles.ranking.study._store import Store

ROUNDS, RATERS = 15, 3

Taste = Callable[[np.ndarray], float]
"""From pixels in [0, 1] to a liking."""


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((56, 56), Image.Resampling.BOX)) / 255.0


def of_class(label: int, picture: np.ndarray) -> float:
    grey = picture.mean(axis=2).reshape(28, 2, 28, 2).mean(axis=(1, 3))
    return float(fashion.classifier()(grey)[label])


def like(target: np.ndarray, picture: np.ndarray) -> float:
    return -float(np.sqrt(((picture - target) ** 2).mean()))


class Person(Rater):
    """Answers all it is asked, by what it sees."""

    def __init__(self, url: str, name: str, taste: Taste, careful: bool, seed: int) -> None:
        super().__init__(url, ROUNDS, seed)
        self.taste, self.careful, self.noise = taste, careful, 0.0
        self.ended = False
        assert self.ask("POST", "/api/name", {"name": name})[0] in (200, 409)

    def seen(self, candidate: dict[str, Any]) -> float:
        """How much a candidate is liked; a number, in practice and checks, by its size."""
        if candidate["kind"] == "text":
            return float(candidate["text"])
        return self.taste(pixels(self.ask("GET", f"/{candidate['url']}")[1]))

    def run(self) -> None:
        """Until the study ends."""
        while not self.ended:
            status, data, _ = self.ask("GET", "/api/round")
            state = json.loads(data) if status == 200 else {"round": None, "state": "running"}
            if state["round"] is None or not all(state["candidates"]):
                time.sleep(0.05)
                continue
            shown = state["candidates"]
            liked = np.array([self.seen(c) for c in shown])
            if shown[0]["kind"] != "text" and self.careful:
                self.noise = self.noise or 0.5 * float(liked.std())
                liked = liked + self.noise * (self.rng.standard_normal(len(shown)) - 0.05 * np.arange(len(shown)))
            if not self.careful or self.rng.random() < 0.05:
                liked = self.rng.random(len(shown))
            order = [shown[i]["id"] for i in np.argsort(-liked, kind="stable")[: state["needed"]]]
            body = {"round": state["round"], "kind": "rank", "groups": [[i] for i in order], "ms": 1}
            self.ask("POST", "/api/answer", {**body, "client_id": secrets.token_hex(16)})


def study(render: str, taste: Taste, seed: int) -> tuple[list[float], dict[str, Any]]:
    """The final x, and the export of one study."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "oracles.cli.main", "rank", "--render", render, "--store", f"{folder}/s.db"]
        words += ["--ranked", "3", "--rounds", str(ROUNDS), "--raters", str(RATERS), "--seed", str(seed)]
        words += ["--practice", "2", "--final-vote", "--save", f"{folder}/x.json"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        urls: list[str] = []
        while len(urls) < RATERS:
            urls += re.findall(r": (http\S+)", process.stdout.readline())
        people = [Person(u, f"rater {i}", taste, i < 2, 10 * seed + i) for i, u in enumerate(urls)]
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        for thread in (drain, *people):
            thread.start()
        process.wait(300)
        for person in people:
            person.ended = True
        store = Store(f"{folder}/s.db")
        try:
            return json.loads(Path(folder, "x.json").read_text()), document_of(store)
        finally:
            store.close()


def summed_up(whole: dict[str, Any]) -> dict[str, Any]:
    """What is told of each study."""
    by_name = {r["name"]: r for r in whole["raters"]}
    careful, careless = [by_name[f"rater {i}"] for i in (0, 1)], by_name["rater 2"]
    told = [a for a in whole["answers"] if a["purpose"] == "final" and a["name"] != "rater 2"]
    return {
        "careless one has the least weight": careless["weight"] < min(r["weight"] for r in careful),
        "votes of the careful": [sum(a["order"][0] == [0] for a in told), len(told)],
        "checks of each": [f"{r['checks_passed']} of {r['checks_asked']}" for r in (*careful, careless)],
        "retest of each": [r["retest"] and round(r["retest"]["tau"], 2) for r in (*careful, careless)],
        "purposes": {p: sum(a["purpose"] == p for a in whole["answers"]) for p in ("practice", "check", "repeat")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10, help="of each generator")
    given = parser.parse_args()
    out: dict[str, Any] = {"studies of each": given.studies}
    for name in ("clothes", "palette", "texture"):
        rows = []
        for seed in range(given.studies):
            if name == "clothes":
                x, whole = study(
                    "oracles.ranking.renderers.fashion:picture", functools.partial(of_class, seed % 10), seed
                )
                end = fashion.classifier()(fashion.generator()(np.array(x)))
                row = {"class": fashion.CLASSES[seed % 10], "found": int(end.argmax()) == seed % 10}
            else:
                render = getattr(demo, name)
                start = np.array(render.x0)

                def drawn(x: Any, render: Any = render) -> np.ndarray:
                    data = io.BytesIO()
                    Image.fromarray(np.uint8(np.round(255 * render(x)))).save(data, "PNG")
                    return pixels(data.getvalue())

                target = drawn(start + np.random.default_rng([seed, 7]).standard_normal(start.size))
                x, whole = study(f"oracles.ranking.renderers.demo:{name}", functools.partial(like, target), seed)
                row = {"left": round(like(target, drawn(np.array(x))) / like(target, drawn(start)), 3)}
            rows.append({**row, **summed_up(whole)})
            print(name, seed, rows[-1], flush=True)
        votes = np.array([row["votes of the careful"] for row in rows]).sum(axis=0).tolist()
        sums = {
            "careless one has the least weight": sum(r["careless one has the least weight"] for r in rows),
            "votes of the careful for the winner": votes,
        }
        if name == "clothes":
            sums["found"] = sum(r["found"] for r in rows)
        else:
            sums["left, median"] = float(np.median([r["left"] for r in rows]))
        out[name] = {**sums, "each": rows}
    save(__file__, out)


if __name__ == "__main__":
    main()
