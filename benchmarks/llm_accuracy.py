"""Test accuracy after at most 30 minutes of forward passes, beside TF-IDF with logistic regression and AdamW.

    python benchmarks/llm_accuracy.py [--tasks foods bbc] [--seeds 0 1 2] [--steps 6000] [--adamw-steps 60]

Ours searches the weights of the final norm by the loss over the label words; what the layers give is computed once for
each example and kept. AdamW tunes all weights by backward passes. Times are of whole runs. AUC is of the difference of
the two scores (foods only).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine
from _foods import LABELS, TEMPLATE, model, reviews
from data import bbc
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import blackbox_zo as bz
from oracles.llm import Examples, LabelWords, classification, finetune, label_tokens

RESULT = Path(__file__).with_suffix(".json")
NEWS = ["business", "entertainment", "politics", "sport", "tech"]
VALUES = ["business", "entertainment", "politics", "sports", "tech"]
NEWS_TEMPLATE = "{text:100t}\n\nThe topic of this news article is"


@dataclass(frozen=True)
class Task:
    """Examples, and the words of their classes."""

    train: Examples
    test: Examples
    tokens: tuple[int, ...]
    tokenizer: Any


def foods_task(tokenizer: Any) -> Task:
    """Food reviews: "great" or not."""
    return Task(*reviews(tokenizer), label_tokens(tokenizer, LABELS, TEMPLATE), tokenizer)


def bbc_task(tokenizer: Any) -> Task:
    """News of five topics: 1,000 to train on and 400 to test on."""
    rows = bbc()
    order = np.random.default_rng(0).permutation(len(rows))
    examples = classification([rows[i] for i in order[:1400]], tokenizer, NEWS_TEMPLATE, NEWS, values=VALUES)
    return Task(
        examples.take(1000), examples.pick(range(1000, 1400)), label_tokens(tokenizer, NEWS, NEWS_TEMPLATE), tokenizer
    )


TASKS = {"foods": foods_task, "bbc": bbc_task}


@torch.no_grad()
def tested(net: torch.nn.Module, task: Task) -> dict[str, float]:
    """Accuracy, and AUC where there are two classes."""
    words = LabelWords(task.tokens)
    z = torch.cat([words.scores(net, batch) for batch in task.test.batches(25)]).numpy()
    return _scored(z, np.array(task.test.label))


def _scored(z: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> dict[str, float]:
    out = {"accuracy": round(float((z.argmax(1) == label).mean()), 4)}
    if z.shape[1] == 2:
        out["auc"] = round(float(roc_auc_score(label, z[:, 1] - z[:, 0])), 4)
    return out


def tfidf(task: Task) -> dict[str, float]:
    """Words and pairs of words of the same tokens, and logistic regression."""
    texts = [[task.tokenizer.decode(t) for t in part.tokens] for part in (task.train, task.test)]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    x = vectorizer.fit_transform(texts[0])
    fitted = LogisticRegression(max_iter=2000).fit(x, task.train.label)
    z = fitted.predict_log_proba(vectorizer.transform(texts[1]))
    return _scored(z, np.array(task.test.label))


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
            out[f"{step + 1} steps"] = {**tested(net, task), "seconds": round(time.perf_counter() - begun)}
            print("   ", step + 1, out[f"{step + 1} steps"], flush=True)
    return out


def ours(task: Task, steps: int, seed: int) -> dict[str, float]:
    """Zeroth-order Adam on the final norm."""
    net, _ = model()
    size = min(512, len(task.train))
    begun = time.perf_counter()
    run = finetune(
        net,
        task.train,
        LabelWords(task.tokens, over="labels"),
        steps=steps,
        batch_size=size,
        module="top",
        estimator=bz.RandomVector(1e-2, size, "rademacher"),
        rule=bz.Adam(bz.Cosine(0.03, 3e-4, steps)),
        reuse="keep",
        seed=seed,
    )
    assert not run.stopped
    return {"seconds": round(time.perf_counter() - begun), **tested(net, task)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--adamw-steps", type=int, default=60, help="0 leaves AdamW out")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
    for name in given.tasks:
        net, tokenizer = model()
        task, found = TASKS[name](tokenizer), result.setdefault(name, {})

        def note(key: str, value: Any, found: dict[str, Any] = found, name: str = name) -> None:
            found[key] = value
            print(name, key, value, flush=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")

        note("examples", {"train": len(task.train), "test": len(task.test)})
        note("zero-shot", tested(net, task))
        note("tf-idf and logistic regression", tfidf(task))
        for seed in given.seeds:
            note(f"ours, seed {seed}", ours(task, given.steps, seed))
        if given.adamw_steps:
            note("AdamW, all weights", adamw(task, given.adamw_steps))


if __name__ == "__main__":
    main()
