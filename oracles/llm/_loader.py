"""The batches of a torch `DataLoader`, by the number of the step."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from oracles.llm._examples import Examples

__all__ = ["LoaderBatches", "as_batches"]

_GENERATOR = "`DataLoader(..., shuffle=True, generator=torch.Generator().manual_seed(0))`"


def as_batches(batches: Any) -> Any:
    """Batches as a `LossOracle` takes them; a `DataLoader` becomes `LoaderBatches`.

    Raises:
        ValueError: A step's batch would not depend on the number of the step alone.
        TypeError: It is something that gives no batches, such as rows of text.
    """
    if isinstance(batches, DataLoader):
        return LoaderBatches(batches)
    if isinstance(batches, Mapping) or hasattr(batches, "column_names"):
        kind = type(batches).__name__
        advice = (
            "put a `DataLoader` around it, or make `Examples` of its rows"
            if hasattr(batches, "column_names")
            else "if it is one batch, give a list of it"
        )
        raise TypeError(
            f"`batches` must be a list of batches, a function of the step or a `DataLoader`, not `{kind}`; {advice}."
        )
    if isinstance(batches, Examples):
        raise TypeError("`batches` are `Examples`; say how many a step takes, `examples.shuffled(16)`.")
    if not callable(batches) and not (hasattr(batches, "__len__") and hasattr(batches, "__getitem__")):
        raise TypeError(
            "`batches` must be a list of batches, a function from the step to one, or a `DataLoader`, so that a step "
            f"always has the same batch; got a `{type(batches).__name__}`. Of an iterator, give `list(...)`."
        )
    return batches


@final
class LoaderBatches:
    """The batches of a `DataLoader` as a function of the step: a resumed run has those that it would have had.

    Each pass over the data is drawn anew from the seed of the loader's generator and the number of the pass. It is not
    the order of `for batch in loader`, which depends on how often that was done before. Items are fetched and collated
    in this process; the loader's workers are not used.

    Args:
        loader: The loader. Where it shuffles it needs a generator; the dataset gives the same item for an index each
            time it is asked.

    Raises:
        ValueError: The loader shuffles without a generator, its dataset is iterable only, or it gives other items or
            another order each time.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        if isinstance(loader.dataset, IterableDataset):
            raise ValueError(
                "The `DataLoader` has an iterable dataset, of which no batch can be asked for by its number; give a "
                "list of its batches, `list(loader)`, or a function from the step to a batch."
            )
        self.loader, self._epoch, self._order = loader, -1, list[Any]()
        self._sampler: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        samplers = {id(s): s for s in (self._sampler, getattr(self._sampler, "sampler", None), loader.sampler)}
        self._samplers = [s for s in samplers.values() if s is not None]
        with _nothing_global():
            unseeded = any(getattr(s, "generator", self) is None for s in self._samplers)
            if unseeded or not _same(self._drawn(0), self._drawn(0)):
                raise ValueError(
                    "The `DataLoader` shuffles without a generator, so a step's batch would depend on what was drawn "
                    f"before, and a run could not be resumed. Give it one, {_GENERATOR}, or use `Examples.shuffled`."
                )
            if not _same(self(0), self(0)):
                raise ValueError(
                    "The dataset or the collator of the `DataLoader` gives another batch for the same indices each "
                    "time, as random augmentation or masking does. A step must have one batch: make it depend on the "
                    "index alone."
                )

    def __call__(self, step: int) -> Any:
        """The batch of a step, from 0."""
        if self._epoch < 0:
            self._order = self._drawn(0)
            self._epoch = 0
        count = len(self._order)
        epoch, i = divmod(step, count)
        if epoch != self._epoch:
            order = self._drawn(epoch)
            if len(order) != count:
                raise ValueError(
                    f"The `DataLoader` gives {count} batches in a pass over the data, then {len(order)}; a step's "
                    "batch can be found by its number only if each pass has as many."
                )
            self._order, self._epoch = order, epoch
        return self._fetched(self._order[i])

    def _drawn(self, epoch: int) -> list[Any]:
        """The indices of each batch of a pass over the data."""
        generators: list[torch.Generator] = []
        for sampler in self._samplers:
            if isinstance(found := getattr(sampler, "generator", None), torch.Generator):
                generators.append(found)
            if callable(set_epoch := getattr(sampler, "set_epoch", None)):  # a `DistributedSampler`
                set_epoch(epoch)
        before = [(generator, generator.get_state(), generator.initial_seed()) for generator in generators]
        try:
            for generator, _, seed in before:
                generator.manual_seed((seed + epoch * 0x9E3779B97F4A7C15) % 2**63)
            order = list(self._sampler)
        finally:
            for generator, state, _ in before:
                generator.set_state(state)
        if not order:
            raise ValueError(
                "The `DataLoader` has no batches; are there fewer rows than `batch_size`, with `drop_last`?"
            )
        return order

    def _fetched(self, indices: Any) -> Any:
        dataset: Any = self.loader.dataset
        collate: Callable[[Any], Any] = self.loader.collate_fn
        if self.loader.batch_sampler is None:  # its items are batches
            return collate(dataset[indices])
        if callable(several := getattr(dataset, "__getitems__", None)):
            return collate(several(indices))
        return collate([dataset[i] for i in indices])


class _nothing_global:
    """Inside, what draws from the global generators moves them; afterwards they are as before."""

    def __enter__(self) -> None:
        self._states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self._states[0])
        random.setstate(self._states[1])
        np.random.set_state(self._states[2])  # noqa: NPY002


def _same(a: Any, b: Any) -> bool:
    """Whether two batches are equal, in all their parts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        close = a.is_floating_point() and a.shape == b.shape and torch.allclose(a, b, 0.0, 0.0, equal_nan=True)
        return torch.equal(a, b) or close
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    inner = getattr(a, "data", None)
    if isinstance(inner, dict) and not isinstance(a, dict):  # transformers' BatchEncoding
        return _same(inner, b.data)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    try:
        return bool(a == b)
    except (TypeError, ValueError, RuntimeError):
        return True  # it cannot be told
