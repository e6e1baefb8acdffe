"""Objectives without a gradient, from zero-shot: accuracy itself, and a reward for what the model writes.

    python benchmarks/llm_nondifferentiable.py [--objectives accuracy match labels] [--seeds 0 1 2]

All search the norm after the last layer of SmolLM2-135M. Accuracy is on the food reviews, with what the layers give
kept for each example. "match" is a reward by generation: 1 if the model writes exactly the topic of an article of BBC
News, up to a line break, else 0; every query writes. "labels" has the same forward passes with the cross-entropy of the
topic's word in place of the reward, which needs no text, and is measured by the same reward. Both report how far the
model has drifted on food reviews.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from _common import machine
from _foods import model, reviews, words
from data import bbc, foods

import blackbox_zo as bz
from oracles.llm import (
    Accuracy,
    Examples,
    LabelWords,
    Reward,
    Tuning,
    classification,
    evaluate,
    exact_match,
    label_tokens,
    prompts,
    text,
)
from oracles.llm._evaluate import Evaluator

RESULT = Path(__file__).with_suffix(".json")
TOPICS = ["business", "entertainment", "politics", "sports", "tech"]
QUESTION = (
    "Article: The match ended 2-1.\nTopic: sports\n\nArticle: Shares fell.\nTopic: business\n\n"
    "Article: Ministers resigned.\nTopic: politics\n\nArticle: A new film opens.\nTopic: entertainment\n\n"
    "Article: A new phone is out.\nTopic: tech\n\nArticle: {text:30t}\nTopic:"
)
TRAIN, TEST, PAIRS = 400, 300, 64
"""Articles to learn from and to test on; examples in a step, each under a pair of queries."""


def accuracy(steps: int, seed: int) -> dict[str, Any]:
    """Shares of right answers on 400 reviews, before and after."""
    net, tokenizer = model()
    train, test = reviews(tokenizer)
    loss = Accuracy(words(tokenizer))
    before = evaluate(net, test.batches(20), {"loss": loss})["loss"]
    begun = time.perf_counter()
    _run(_tuning(net, train.take(1000), loss, steps, seed, radius=0.3, size=512, rate=0.03), steps)
    after = evaluate(net, test.batches(20), {"loss": loss})["loss"]
    return _found(1 - before, 1 - after, steps, begun)


def topic(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
    """The reward: 1 for the topic's word, else 0."""
    return [exact_match(text, row["label"]) for text, row in zip(completions, rows, strict=True)]


class News:
    """The model, the articles, and what the layers make of the prompts, which no seed changes."""

    def __init__(self, first: int) -> None:
        self.net, self.tokenizer = model()
        rows = bbc()
        order = np.random.default_rng(0).permutation(len(rows))
        self.rows = [rows[i] for i in order[first : first + TRAIN + TEST]]
        self.train, test = (
            prompts(some, self.tokenizer, QUESTION, None) for some in (self.rows[:TRAIN], self.rows[TRAIN:])
        )
        self.reward = Reward(topic, self.tokenizer, max_new_tokens=2, stop="\n")
        self.top = self.net.model.norm.weight
        self.start = self.top.detach().clone()
        self.evaluator = Evaluator(self.net, test.batches(20), self.reward.measures, bz.Module(self.net, "top"))
        self.others = text(foods()[1][:16], self.tokenizer, "text:40t")
        self.kept: Any = None

    @classmethod
    @lru_cache
    def of(cls, seed: int) -> News:
        """Settings were chosen on other articles, with seeds from 10."""
        return cls(0 if seed < 10 else 1100)


def match(steps: int, seed: int, loss: str = "reward") -> dict[str, Any]:
    """Shares of exact matches on held-out articles, before and after, and the drift on food reviews."""
    news = News.of(0 if seed < 10 else 10)
    with torch.no_grad():
        news.top.copy_(news.start)
    before = news.evaluator()["reward"]
    train, objective = news.train, cast(Any, news.reward)
    if loss == "labels":
        train = classification(news.rows[:TRAIN], news.tokenizer, QUESTION, TOPICS)
        objective = LabelWords(label_tokens(news.tokenizer, TOPICS, QUESTION))
    begun = time.perf_counter()
    tuning = _tuning(news.net, train, objective, steps, seed, radius=0.3, size=PAIRS, rate=0.1, off_task=news.others)
    if tuning.oracle.prompts is not None:
        news.kept = news.kept or tuning.oracle.prompts
        tuning.oracle.prompts = news.kept
    _run(tuning, steps)
    found = _found(before, news.evaluator()["reward"], steps, begun)
    start, end = (m.values for m in tuning.search.measured if m.name == "off-task")
    drift = {name: [round(start[name], 4), round(end[name], 4)] for name in ("kl", "perplexity")}
    return {**found, "forwards": tuning.oracle.forwards, "off-task": drift}


def labels(steps: int, seed: int) -> dict[str, Any]:
    """The same with the cross-entropy of the topic's word."""
    return match(steps, seed, "labels")


def _found(before: float, after: float, steps: int, begun: float) -> dict[str, Any]:
    seconds = round(time.perf_counter() - begun)
    return {"zero-shot": round(before, 4), "tuned": round(after, 4), "steps": steps, "seconds": seconds}


def _tuning(
    net: Any, train: Examples, loss: Any, steps: int, seed: int, radius: float, size: int, rate: float, **more: Any
) -> Tuning:
    return Tuning(
        net,
        train,
        loss,
        batch_size=size,
        module="top",
        estimator=bz.RandomVector(radius, size, "rademacher"),
        rule=bz.Adam(bz.Cosine(rate, rate / 100, steps)),
        reuse="keep",
        seed=seed,
        **more,
    )


def _run(tuning: Tuning, steps: int) -> None:
    for p in (run := tuning.run(steps)):
        if (p.step + 1) % max(1, steps // 10) == 0:
            print(f"    {p.step + 1} {p.value:.3f}", flush=True)
    assert tuning.search.moves == steps, run.message


OBJECTIVES: dict[str, tuple[Any, int]] = {"accuracy": (accuracy, 2000), "match": (match, 120), "labels": (labels, 120)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    for name in given.objectives:
        run, steps = OBJECTIVES[name]
        for seed in given.seeds:
            found = run(steps, seed)
            print(name, seed, found, flush=True)
            result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
            result.setdefault(name, {})[f"seed {seed}"] = found
            RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
