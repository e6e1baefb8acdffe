"""Prompts that are run once for all queries of a step, where these differ only in what comes after the layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch

from blackbox_zo.modules._stacking import take_rows
from oracles.llm._features import Trunk
from oracles.llm._passes import CPU_TOKENS, Passes, batch_size, is_out_of_memory

__all__ = ["SharedPrompts", "past_of", "shorter"]

KEPT_BYTES = 2 << 30
"""Maximum memory for the keys and values of prompts that are kept from step to step."""

PASS_ROWS, PASS_BYTES = 64, 1 << 28
"""Maximum examples in a pass on a CPU that only generates, and of their copied keys and values."""

_PAST = "past"
"""Name of the keys and values in a batch: a list of (keys, values) for each layer, (B, heads, T - 1, width) each."""

Past = list[tuple[torch.Tensor, torch.Tensor]]


class SharedPrompts:
    """The keys and values of the prompts of a batch, of all tokens but the last.

    They are the same for all queries if only parameters after the last layer are searched, such as the last norm.

    Args:
        model: A causal language model with a plain key-value cache.
        loss: A loss that generates, with a method `texts(model, batch)`.
        keep: Whether to keep them for each example from step to step, up to 2 GiB.
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Any], Any], keep: bool) -> None:
        self.model, self.loss, self.keep = model, loss, keep
        self.trunk: Trunk | None = Trunk(model)
        self.kept: dict[int, Past] = {}
        self.bytes = 0
        self._tried = False

    def add(self, searched: Mapping[int, str], moving: Mapping[int, str], batch: Any, passes: Passes) -> Any:
        """The batch with the keys and values of its prompts; the batch itself if they cannot be shared.

        Args:
            searched: Names of the parameters that the queries of this step displace, by the id of the parameter.
            moving: The same for the parameters that any step may move.
            batch: The batch.
            passes: Limits the examples in a pass.
        """
        if self.trunk is None or not searched or "input_ids" not in batch or not self._above(searched, batch):
            return batch
        keep = self.keep and self._above(moving, batch)
        size = batch_size(batch)
        ids = batch["example_id"].tolist() if "example_id" in batch else list(range(size))
        first = {i: place for place, i in reversed(list(enumerate(ids)))}
        past = {i: self.kept[i] for i in first if keep and i in self.kept}
        missing = [i for i in first if i not in past]
        if missing:
            part = take_rows(batch, torch.tensor([first[i] for i in missing]), size, lambda t: t)
            made = passes.fit(part, len(missing), lambda most: self._run(part, len(missing), most, passes))
            if made is None:
                self.trunk = None
                return batch
            past |= dict(zip(missing, made, strict=True))
            for i in missing if keep else ():
                self._keep(i, past[i])
        with_past = {**batch, _PAST: _padded([past[i] for i in ids], batch["input_ids"].shape[1] - 1)}
        if not self._tried:
            self._tried = self._is_faithful(batch, with_past, size)
            self.trunk = self.trunk if self._tried else None
        return with_past if self.trunk is not None else batch

    def _above(self, searched: Mapping[int, str], batch: Any) -> bool:
        """Whether parameters are used only after the last layer."""
        trunk = self.trunk
        assert trunk is not None
        one = {name: batch[name][:1] for name in ("input_ids", "attention_mask")}
        return 0 < len(trunk.layers) == trunk.cut(searched, lambda: self.model(**one))

    def _run(self, batch: Any, size: int, most: int, passes: Passes) -> list[Past] | None:
        """The keys and values of each example, without its padding; None if the model's cache is of another kind."""
        out: list[Past] = []
        for a in range(0, size, most):
            ids, mask = (batch[name][a : a + most] for name in ("input_ids", "attention_mask"))
            passes.used = len(ids)
            found = self._of(ids[:, :-1], mask[:, :-1])
            if found is None:
                return None
            for row, count in enumerate(mask[:, :-1].sum(1).tolist()):
                width = ids.shape[1] - 1 - int(count)
                out.append([(k[row, :, width:].clone(), v[row, :, width:].clone()) for k, v in found])
        return out

    def _of(self, ids: torch.Tensor, mask: torch.Tensor) -> Past | None:
        if not ids.shape[1] or getattr(getattr(self.model, "config", None), "is_encoder_decoder", False):
            return None
        try:
            inputs = self.model.prepare_inputs_for_generation(ids, attention_mask=mask, use_cache=True)  # type: ignore[operator]
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
            layers = self.model(**{**inputs, "use_cache": True})[_cache_name()].layers
        except (AttributeError, KeyError, TypeError, ValueError):  # another kind of model
            return None
        if any(type(layer).__name__ != "DynamicLayer" for layer in layers):  # such as a sliding window
            return None
        return [(layer.keys, layer.values) for layer in layers]

    def _keep(self, example: int, past: Past) -> None:
        size = sum(t.numel() * t.element_size() for pair in past for t in pair)
        if self.bytes + size <= KEPT_BYTES:
            self.kept[example] = past
            self.bytes += size

    def _is_faithful(self, batch: Any, with_past: Any, size: int) -> bool:
        """Whether at most two examples get the same text with the keys and values as without."""
        rows = torch.tensor(sorted({0, size - 1}))
        texts: Any = getattr(self.loss, "texts")  # noqa: B009
        try:
            got, want = (texts(self.model, take_rows(b, rows, size, lambda t: t)) for b in (with_past, batch))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            return False
        return bool(got == want)


def _padded(past: list[Past], width: int) -> Past:
    """The keys and values of several examples, padded on the left with zeros to so many tokens."""
    out: Past = []
    for layer in range(len(past[0])):
        pair = []
        for which in (0, 1):
            rows = [one[layer][which] for one in past]
            table = rows[0].new_zeros(len(rows), rows[0].shape[0], width, rows[0].shape[2])
            for place, row in enumerate(rows):
                table[place, :, width - row.shape[1] :] = row
            pair.append(table)
        out.append((pair[0], pair[1]))
    return out


def past_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A fresh cache for `generate`, as an argument by name, if the batch has keys and values."""
    if _PAST not in batch:
        return {}
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(batch[_PAST]):
        cache.update(keys, values, layer)
    return {_cache_name(): cache}


@lru_cache
def _cache_name() -> str:
    """What transformers calls a cache: `past_key_values` up to some version 5, `cache` after it."""
    from transformers import GenerationMixin

    accepted = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return "cache" if "cache" in accepted else "past_key_values"


def shorter(batch: Any) -> Any:
    """The batch, or, if it has keys and values, only as many tokens of each example as a pass has room for.

    A pass then holds more examples, of which each runs only the last token of its prompt and the new ones.
    """
    if not isinstance(batch, Mapping) or _PAST not in batch:
        return batch
    ids = batch["input_ids"]
    each = sum(t.numel() * t.element_size() for pair in batch[_PAST] for t in pair) // len(ids)
    rows = max(1, min(PASS_ROWS, PASS_BYTES // max(1, each)))
    return {"input_ids": ids[:, -max(1, CPU_TOKENS // rows) :]}
