"""Means of measures over examples at the current weights; layers that are not searched run only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from blackbox_zo.modules import Module
from blackbox_zo.modules._stacking import take_rows
from blackbox_zo.ranks import Ranks
from oracles.llm._examples import Examples
from oracles.llm._features import Features, is_faithful
from oracles.llm._passes import Passes, batch_size, on_device_of, run_together
from oracles.llm._per_example import per_example
from oracles.llm._prompts import SharedPrompts, shorter
from oracles.llm._reuse import FeatureCache

__all__ = ["Evaluator", "Measures", "evaluate"]

Measure = Callable[[torch.nn.Module, Any], torch.Tensor]
Measures = Mapping[str, Measure] | Callable[[torch.nn.Module, Any], Mapping[str, torch.Tensor]]


class Evaluator:
    """Computes means of measures over fixed batches. Layers below all searched ones run only once for each batch.

    Args:
        model: The model.
        batches: What to measure on.
        measures: Functions of (model, batch) by name, each returning one value per example; or one function that
            returns several such values by name from one forward pass, such as `LabelWords.measures`.
        module: The searched parameters; None disables reuse.
        ranks: The processes that share the batches; each then has all means.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Iterable[Any] | Examples,
        measures: Measures,
        module: Module | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks
        batches = batches.batches(16) if isinstance(batches, Examples) else batches
        self.model, self.batches = model, list(batches)  # a `DataLoader` may shuffle, and features are kept by number
        self.runs = [measures] if callable(measures) else [_named(n, measure) for n, measure in measures.items()]
        self.searched = {} if module is None else {id(p): name for name, p in module.parameters.items()}
        self.caches = [FeatureCache(model, _first(self.runs[0]), keep=False) for _ in batches]
        writer = _writer(measures)
        self.prompts = None if writer is None else SharedPrompts(model, writer, keep=True)
        self.kept: dict[int, Features | None] = {}
        self.usable: dict[int, bool] = {}

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """The mean of each measure over all examples, in fp64: the same numbers with any number of ranks.

        Raises:
            RuntimeError: The measure raised an exception on another rank.
        """
        sums: dict[str, float] = {}
        for values in self._all_found():
            for name, total in values.items():
                sums[name] = sums.get(name, 0.0) + total
        count = sum(map(batch_size, self.batches))
        return {name: total / count for name, total in sums.items()}

    def _all_found(self) -> list[Mapping[str, float]]:
        """The sums of each measure over each pass, in order, whichever rank made it."""
        ranks = self.ranks
        if ranks is None or ranks.size == 1:
            return self._found(range(len(self.batches)))
        mine: dict[str, Any] = {}
        error: Exception | None = None
        try:
            for number in range(ranks.rank, len(self.batches), ranks.size):
                mine[str(number)] = self._found([number])
        except Exception as raised:  # the others must hear of it, or they would wait for this rank
            error, mine = raised, {"error": f"{type(raised).__name__}: {raised}"}
        every = ranks.exchange("a validation", mine)
        for rank, theirs in enumerate(every):
            if "error" in theirs:
                raise RuntimeError(f"rank {rank}: {theirs['error']}") from error
        return [values for number in range(len(self.batches)) for values in every[number % ranks.size][str(number)]]

    def _found(self, numbers: Iterable[int]) -> list[Mapping[str, float]]:
        """The sums of each measure over each pass on some of the batches."""
        found: list[Mapping[str, float]] = []
        tasks: list[Callable[[], object]] = []
        training = self.model.training
        self.model.eval()
        try:
            for number in numbers:
                batch = on_device_of(self.model, self.batches[number])
                if self.prompts is not None:
                    batch = self.prompts.add(self.searched, self.searched, batch, Passes(None))
                elif number not in self.kept:
                    self.kept[number] = self.caches[number].of(self.searched, batch)
                for which in range(len(self.runs)):
                    for some in self._sums(which, batch, self._usable(which, number, batch)):
                        tasks.append(partial(_into, found, len(found), some))
                        found.append({})
            run_together(self.model, tasks)
        finally:
            self.model.train(training)
        return found

    def _usable(self, which: int, number: int, batch: Any) -> Features | None:
        """The features, if the measure is the same with them; not so if it generates, running the layers repeatedly."""
        features = self.kept.get(number)
        if features is not None and which not in self.usable:
            self.usable[which] = is_faithful(features, self.model, _first(self.runs[which]), batch)
        return features if self.usable.get(which) else None

    def _sums(self, which: int, batch: Any, features: Features | None) -> Iterator[Callable[[], Mapping[str, float]]]:
        """Passes over parts of a batch, each of which gives the sum of each value of one measure function."""
        size = batch_size(batch)

        def some_sums(some: slice) -> Mapping[str, float]:
            rows = torch.arange(some.start, some.stop)
            part = take_rows(batch, rows, size, lambda t: t)
            with nullcontext() if features is None else features.instead(rows):
                found = self.runs[which](self.model, part)
            return {n: float(per_example(values, len(rows), mean_too=True).sum()) for n, values in found.items()}

        passes = Passes(None)
        for _, some in passes.plan(1, size, passes.examples(shorter(batch), size)):
            yield partial(some_sums, some)


def _into(found: list[Mapping[str, float]], place: int, make: Callable[[], Mapping[str, float]]) -> None:
    found[place] = make()


def _named(name: str, measure: Measure) -> Callable[[torch.nn.Module, Any], Mapping[str, torch.Tensor]]:
    return lambda model, batch: {name: measure(model, batch)}


def _writer(measures: Measures) -> Any:
    """The loss that generates, if the first measure is one or a method of one; its layers run once a token."""
    first = measures if callable(measures) else next(iter(measures.values()), None)
    first = getattr(first, "_function", first)  # of a `Tuning`
    owner = getattr(first, "__self__", first)
    return owner if getattr(owner, "generates", False) else None


def _first(run: Callable[[torch.nn.Module, Any], Mapping[str, torch.Tensor]]) -> Measure:
    return lambda model, batch: next(iter(run(model, batch).values()))


def evaluate(model: torch.nn.Module, batches: Iterable[Any] | Examples, measures: Measures) -> dict[str, float]:
    """The mean of each measure over all examples of some batches.

    Args:
        model: The model; evaluated with dropout off.
        batches: What to measure on: batches, such as a `DataLoader`, or `Examples`.
        measures: Functions of (model, batch) by name, each returning one value per example; or one function that
            returns several such values by name.

    Returns:
        The means by name.
    """
    return Evaluator(model, batches, measures)()
