"""Test accuracy on reviews and news: probes of frozen features, searches of the model by forward passes, and AdamW.

    python benchmarks/llm_accuracy.py [--tasks foods bbc] [--rows ROW ...] [--seeds 0 1 2] [--minutes 60] [--keep DIR]

Rows are measured alone and kept in the JSON file; `--keep` holds the frozen features between runs, which cost one
forward pass for each example. AUC is of the difference of the two scores (foods only): its standard error over
the first 400 reviews is .02, and about .01 between two classifiers; ", all" has every test review that is long enough.
Nothing is chosen on test examples: strengths come from cross-validation on those to train on.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine
from _foods import LABELS, TEMPLATE, model, reviews
from _mezo import MeZO
from _probe import Head, States, logistic, states, support_vectors
from _tangents import agreement, gradients, moved
from data import bbc
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import blackbox_zo as bz
from oracles.llm import Examples, LabelWords, Tuning, classification, label_tokens

RESULT = Path(__file__).with_suffix(".json")
NEWS = ["business", "entertainment", "politics", "sport", "tech"]
VALUES = ["business", "entertainment", "politics", "sports", "tech"]
NEWS_TEMPLATE = "{text:100t}\n\nThe topic of this news article is"
SOME = 400
QUERIES = 24_000
"""Passes of one example's last token, for the hybrid."""


@dataclass(frozen=True)
class Task:
    """Examples, the words of their classes, and what the frozen model gives."""

    train: Examples
    test: Examples
    tokens: tuple[int, ...]
    tokenizer: Any
    first: int
    folder: Path | None
    name: str

    def seen(self, part: str) -> States:
        """The frozen features of "train" or "test"."""
        file = None if self.folder is None else self.folder / f"{self.name}_{part}.npz"
        return states(model()[0], getattr(self, part), self.first, file)


def foods_task(tokenizer: Any) -> tuple[Examples, Examples, tuple[int, ...]]:
    """Food reviews: "great" or not."""
    return *reviews(tokenizer, None), label_tokens(tokenizer, LABELS, TEMPLATE)


def bbc_task(tokenizer: Any) -> tuple[Examples, Examples, tuple[int, ...]]:
    """News of five topics: 1,000 to train on and 400 to test on."""
    rows = bbc()
    order = np.random.default_rng(0).permutation(len(rows))
    examples = classification([rows[i] for i in order[:1400]], tokenizer, NEWS_TEMPLATE, NEWS, values=VALUES)
    return examples.take(1000), examples.pick(range(1000, 1400)), label_tokens(tokenizer, NEWS, NEWS_TEMPLATE)


TASKS = {"foods": foods_task, "bbc": bbc_task}


@torch.no_grad()
def tested(net: torch.nn.Module, task: Task, loss: LabelWords | Head) -> dict[str, float]:
    """Accuracy, and AUC where there are two classes."""
    z = torch.cat([loss.scores(net, batch) for batch in task.test.batches(25)]).numpy()
    return scored(z[:, 1] - z[:, 0] if z.shape[1] == 2 else z, task.test.label)


def scored(z: np.ndarray[Any, Any], label: Any) -> dict[str, float]:
    """The same, of scores: (N,) with two classes, or (N, classes)."""
    out, right = {}, (z > 0 if z.ndim == 1 else z.argmax(1)) == np.array(label)
    for name, n in {"": SOME, ", all": len(label)}.items():
        if n == SOME or len(label) > SOME:
            out[f"accuracy{name}"] = round(float(right[:n].mean()), 4)
            if z.ndim == 1:
                out[f"auc{name}"] = round(float(roc_auc_score(label[:n], z[:n])), 4)
    return out


# ---------------------------------------------------------------------------------------- rows without a search


def zero_shot(task: Task) -> dict[str, float]:
    """The label words as they are."""
    return tested(model()[0], task, LabelWords(task.tokens, over="labels"))


def tfidf(task: Task) -> dict[str, float]:
    """Words and pairs of words of the same tokens, and logistic regression."""
    texts = [[task.tokenizer.decode(t) for t in part.tokens] for part in (task.train, task.test)]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    fitted = LogisticRegression(max_iter=2000).fit(vectorizer.fit_transform(texts[0]), task.train.label)
    return scored(fitted.decision_function(vectorizer.transform(texts[1])), task.test.label)


def frozen(task: Task, fit: Callable[..., Any], of: Callable[[States], Any]) -> dict[str, Any]:
    """A classifier on frozen features; seconds are of the fit, beside those of the features."""
    train, test, begun = task.seen("train"), task.seen("test"), time.perf_counter()
    made, chosen = fit(of(train), task.train.label)
    fitting = time.perf_counter() - begun
    z = made.decision_function(of(test))
    times = {"seconds": round(fitting), "seconds of the features": round(train.seconds)}
    return {**scored(z, task.test.label), **chosen, **{k: v for k, v in times.items() if v}}


def cosines(task: Task) -> dict[str, float]:
    """Of an example's gradient with the others', at the output projections, last token; 100 examples."""
    found = agreement(model()[0], task.train.batch(range(100)), head_of(task), task.first)
    return {f"layer {task.first + i}": cosine for i, cosine in enumerate(found)}


def adamw(task: Task, steps: int) -> dict[str, Any]:
    """All weights by AdamW, rate 2e-5, batches of 16: what it reaches now and then."""
    net, _ = model()
    loss, batches = LabelWords(task.tokens), task.train.shuffled(16, 0)
    optimizer, out, begun = torch.optim.AdamW(net.parameters(), 2e-5, weight_decay=0.0), {}, time.perf_counter()
    for step in range(steps):
        loss(net, batches(step)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 30 == 0:
            out[f"{step + 1} steps"] = {**tested(net, task, loss), "seconds": round(time.perf_counter() - begun)}
    return out


# ------------------------------------------------------------------------------------------ searches of the model


def norm(task: Task, seed: int, minutes: float) -> dict[str, float]:
    """The final norm's 576 numbers, zeroth-order Adam, features kept."""
    size = min(512, len(task.train))
    loss, steps = LabelWords(task.tokens, over="labels"), 6000
    return searched(
        task, seed, minutes, steps, loss, "top", 1e-2, size, bz.Adam(bz.Cosine(0.03, 3e-4, steps)), "rademacher"
    )


def layers(task: Task, seed: int, minutes: float) -> dict[str, float]:
    """All weights of the top two layers from the probe, features below kept."""
    top = r"^model\.layers\.(28|29)\."
    return searched(task, seed, minutes, 1500, head_of(task), top, 1e-3, 64, bz.SGD(bz.Cosine(3e-3, 3e-4, 1500)))


def lora(task: Task, seed: int, minutes: float) -> dict[str, float]:
    """An adapter of rank 8 from the probe."""
    return searched(task, seed, minutes, 500, head_of(task), "lora", 1e-2, 16, bz.SGD(bz.Cosine(1e-2, 1e-3, 500)))


def everything(task: Task, seed: int, minutes: float) -> dict[str, float]:
    """All weights from the probe."""
    return searched(task, seed, minutes, 500, head_of(task), "all", 1e-3, 16, bz.SGD(bz.Cosine(3e-4, 3e-5, 500)))


def head_of(task: Task) -> Head:
    """The probe as the model's head."""
    return Head.of(logistic(task.seen("train").top, task.train.label)[0])


def searched(
    task: Task, seed: int, minutes: float, steps: int, loss: Any, select: str, radius: float, size: int, rule: bz.Rule,
    distribution: str = "lowrank",
) -> dict[str, float]:  # fmt: skip
    """A search with a direction an example, until its steps or minutes are over."""
    net, _ = model()
    if select == "lora":
        from peft import LoraConfig, get_peft_model

        net = get_peft_model(net, LoraConfig(r=8, target_modules="all-linear"))  # type: ignore[assignment]
    estimator, begun = bz.RandomVector(radius, size, distribution), time.perf_counter()  # type: ignore[arg-type]
    reuse: Any = True if select in ("all", "lora") else "keep"
    tuning = Tuning(
        net, task.train, loss, rule=rule, batch_size=size, module=select, estimator=estimator, seed=seed, reuse=reuse
    )
    with tuning.search as search:
        for _ in tuning.run(steps, time_limit=60 * minutes):
            pass
    return {**tested(net, task, loss), "steps": search.moves, "seconds": round(time.perf_counter() - begun)}


def hybrid(task: Task, seed: int, minutes: float) -> dict[str, Any]:
    """The exact head of the probe above the output projections; see `_tangents`. It stops by itself."""
    net, _ = model()
    begun, seen = time.perf_counter(), task.seen("train")
    known = Head.of(logistic(seen.top, task.train.label)[0])
    found, missed = gradients(net, task.train, known, task.first, QUERIES, seed)
    after, chosen = moved(net, task.train, seen, known, found, task.first)
    seconds = round(time.perf_counter() - begun + seen.seconds)
    left = round(float(np.mean(missed[-10:])), 3)
    return {**tested(net, task, after), **chosen, "changes not predicted": left, "seconds": seconds}


def mezo(task: Task, seed: int, minutes: float) -> dict[str, float]:
    """MeZO's loop on all weights, two-way loss, for the same minutes."""
    net, _ = model()
    loss, batches, begun, steps = LabelWords(task.tokens, over="labels"), task.train.shuffled(16, seed), time.time(), 0
    method = MeZO(net.parameters(), 1e-4, seed=seed)
    while time.time() - begun < 60 * minutes:
        method.step(lambda: loss(net, batches(steps)).mean())  # noqa: B023
        steps += 1
    return {**tested(net, task, loss), "steps": steps, "seconds": round(time.time() - begun)}


FIXED: dict[str, Callable[[Task], dict[str, Any]]] = {
    "zero-shot": zero_shot,
    "tf-idf": tfidf,
    "probe": lambda task: frozen(task, logistic, lambda seen: seen.top),
    "probe of layers": lambda task: frozen(task, logistic, lambda seen: seen.all),
    "probe of projections": lambda task: frozen(task, logistic, lambda seen: seen.inputs),
    "SVM of layers": lambda task: frozen(task, support_vectors, lambda seen: seen.all),
    "cosines": cosines,
    "AdamW": lambda task: adamw(task, 120),
}
SEARCHES: dict[str, Callable[[Task, int, float], dict[str, Any]]] = {
    "norm": norm, "hybrid": hybrid, "top layers": layers, "LoRA": lora, "all weights": everything, "MeZO": mezo,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--rows", nargs="+", default=[*FIXED, *SEARCHES], choices=[*FIXED, *SEARCHES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=60, help="of each search")
    parser.add_argument("--keep", type=Path, help="a folder for the frozen features")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    for name in given.tasks:
        net, tokenizer = model()
        train, test, tokens = TASKS[name](tokenizer)
        first = 2 * len(net.model.layers) // 5
        task = Task(train, test, tokens, tokenizer, first, given.keep, name)
        note(name, "examples", {"train": len(train), "test": len(test)})
        for row in given.rows:
            for seed in given.seeds if row in SEARCHES else [None]:
                key = row if seed is None else f"{row}, seed {seed}"
                note(name, key, FIXED[row](task) if seed is None else SEARCHES[row](task, seed, given.minutes))


def note(task: str, key: str, value: Any) -> None:
    """Put a value into the file, which another process may have changed."""
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
    result.setdefault(task, {})[key] = value
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(task, key, value, flush=True)


if __name__ == "__main__":
    main()
