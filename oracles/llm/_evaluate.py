"""Means over examples at the present weights, with what does not change computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from blackbox_zo.modules import Module
from oracles.llm._passes import Passes, batch_size
from oracles.llm._reuse import FeatureCache, Features, is_faithful
from oracles.llm._sweeps import ScratchSweep

__all__ = ["Evaluator", "evaluate"]

Measure = Callable[[torch.nn.Module, Any], torch.Tensor]


class Evaluator:
    """Means of some measures over fixed batches. Layers below all searched ones run only once for each batch.

    Args:
        model: The model.
        batches: What to measure on.
        measures: By name, functions from (model, batch) to a value per example.
        module: What is searched; none reuses nothing.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Sequence[Any],
        measures: Mapping[str, Measure],
        module: Module | None = None,
    ) -> None:
        self.model, self.batches, self.measures = model, batches, dict(measures)
        self.searched = {} if module is None else {id(p): name for name, p in module.parameters.items()}
        first = next(iter(self.measures.values()))
        self.caches = [FeatureCache(model, first, keep=False) for _ in batches] if module is not None else None
        self.kept: dict[int, Features | None] = {}
        self.usable: dict[str, bool] = {}

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """The mean of each measure over all examples, in fp64."""
        sums = dict.fromkeys(self.measures, 0.0)
        count = 0
        training = self.model.training
        self.model.eval()
        try:
            for number, batch in enumerate(self.batches):
                size = batch_size(batch)
                count += size
                features = self._features(number, batch)
                for name, measure in self.measures.items():
                    sums[name] += self._sum(measure, batch, size, self._usable(features, name, batch))
        finally:
            self.model.train(training)
        return {name: total / count for name, total in sums.items()}

    def _usable(self, features: Features | None, name: str, batch: Any) -> Features | None:
        """The features, if a measure comes out the same on them: one that generates runs the layers more than once."""
        if features is not None and name not in self.usable:
            self.usable[name] = is_faithful(features, self.model, self.measures[name], batch)
        return features if self.usable.get(name) else None

    def _features(self, number: int, batch: Any) -> Features | None:
        if self.caches is None:
            return None
        if number not in self.kept:
            self.kept[number] = self.caches[number].of(self.searched, batch)
        return self.kept[number]

    def _sum(self, measure: Measure, batch: Any, size: int, features: Features | None) -> float:
        sweep, passes, total = ScratchSweep(self.model, measure), Passes(None), 0.0
        for _, part in passes.plan(1, size, passes.examples(batch, size)):
            rows = torch.arange(part.start, part.stop)[None]
            total += float(sweep(None, slice(0, 1), batch, size, rows, features).sum())
        return total


def evaluate(model: torch.nn.Module, batches: Sequence[Any], measures: Mapping[str, Measure]) -> dict[str, float]:
    """The mean of each measure over all examples of some batches.

    Args:
        model: The model; dropout is off meanwhile.
        batches: What to measure on, such as `Examples.batches(16)`.
        measures: By name, functions from (model, batch) to a value per example.

    Returns:
        The means by name.
    """
    return Evaluator(model, batches, measures)()
