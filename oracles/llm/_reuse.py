"""Feature reuse: the layers below the lowest searched one give all queries the same features, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from blackbox_zo.modules._stacking import Place, take_rows
from oracles.llm._features import Features, Trunk, is_faithful, like
from oracles.llm._ownership import Owned
from oracles.llm._passes import Passes, batch_size

__all__ = ["FeatureCache"]

KEPT_BYTES = 2 << 30
"""Maximum memory for cached features."""


class FeatureCache:
    """Computes the features of batches on demand, and caches them if `keep` is true.

    Args:
        model: The model.
        loss: A function of (model, batch) that returns one value per example.
        keep: Whether to cache the features of each example, up to 2 GiB. Batches then need a tensor "example_id".
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Any], Any], keep: bool) -> None:
        self.model, self.loss, self.keep = model, loss, keep
        self.trunk: Trunk | None = Trunk(model)
        self.rows: dict[tuple[int, int, int], torch.Tensor] = {}
        self.structure: Any = None
        self.bytes = 0
        self._tried, self._ends = False, True
        self.shared: frozenset[Place] = frozenset()

    def of(
        self,
        searched: Mapping[int, str],
        batch: Any,
        moving: Mapping[int, str] | None = None,
        passes: Passes | None = None,
        owned: Owned | None = None,
    ) -> Features | None:
        """The features of a batch below all searched parameters; None if they cannot be reused.

        Args:
            searched: Names of the parameters that the queries of this step displace, by the id of the parameter.
            batch: The batch.
            moving: The same for the parameters that any step may move; None means `searched`.
            passes: Limits the examples in a pass; None means no limit.
            owned: What the examples of the batch own; None means everything of its size.

        Raises:
            ValueError: `keep` is true, but the batch has no "example_id".
        """
        if self.trunk is None or not self.trunk.layers:
            return None
        owned = owned or Owned(batch_size(batch))
        passes, size, trunk = passes or Passes(2**31), owned.size, self.trunk
        self.shared = owned.shared

        def cut_below(names: Mapping[int, str]) -> int:
            return passes.fit(batch, size, lambda _: trunk.cut(names, lambda: self._run(batch, size, slice(1))))

        cut = cut_below(searched)
        if not cut:
            return None
        keep = self.keep and (moving is None or cut_below(moving) >= cut)  # lower layers may move in other steps
        last = self._last(batch) if cut == len(trunk.layers) else None

        def make(part: Any, rows: int) -> Features | None:
            return passes.fit(part, rows, lambda most: self._make(trunk, cut, part, rows, most, passes, last))

        found = self._with_kept(make, trunk, cut, batch, size, last) if keep else make(batch, size)
        if found is None:
            self.trunk = None
        return found

    def _with_kept(
        self,
        make: Callable[[Any, int], Features | None],
        trunk: Trunk,
        cut: int,
        batch: Any,
        size: int,
        last: int | None,
    ) -> Features | None:
        """The features of a batch, computed only for examples that are not in the cache."""
        keys = self._keys(cut, batch, last)
        held = [self.rows.get(key) for key in keys]
        missing = [i for i, row in enumerate(held) if row is None]
        if missing:
            part = (
                batch
                if len(missing) == size
                else take_rows(batch, torch.tensor(missing), size, lambda t: t, self.shared)
            )
            made = make(part, len(missing))
            if made is None or made.last != last:  # `_make` found that the last tokens are not enough
                return made if len(missing) == size else make(batch, size)
            self.structure = made.output if isinstance(made.output, tuple) else None
            for i, row in zip(missing, made.hidden, strict=True):
                held[i] = row
                self._add(keys[i], row)
            if len(missing) == size:
                return made
        return Features(trunk, cut, like(self.structure, torch.stack([row for row in held if row is not None])), last)

    def _run(self, batch: Any, size: int, rows: slice) -> Any:
        """Run the loss on some rows."""
        if rows.start is None and rows.stop >= size:
            return self.loss(self.model, batch)
        return self.loss(self.model, take_rows(batch, torch.arange(size)[rows], size, lambda t: t, self.shared))

    def _last(self, batch: Any) -> int | None:
        """Number of last tokens that the loss needs, if it says so: above the stack, tokens no longer interact."""
        says = getattr(self.loss, "last_tokens", None)
        return None if says is None or not self._ends else says(self.model, batch)

    def _make(
        self, trunk: Trunk, cut: int, batch: Any, size: int, most: int, passes: Passes, last: int | None
    ) -> Features | None:
        parts: list[Features] = []
        last = last if self._ends else None
        for a in range(0, size, most):
            rows = slice(a or None, min(a + most, size))
            passes.used = rows.stop - a
            part = trunk.features(cut, partial(self._run, batch, size, rows))
            if part is not None and last is not None:
                part = part.ending(last)
            if part is None or (parts and part.hidden.shape[1:] != parts[0].hidden.shape[1:]):
                return None
            parts.append(part)
        found = parts[0]
        if len(parts) > 1:
            hidden = torch.cat([part.hidden for part in parts])
            found = Features(trunk, cut, like(found.output, hidden), last)
        if not self._tried:
            passes.used = min(most, 2)
            self._tried = is_faithful(found, self.model, self.loss, batch, passes.used, self.shared)
            if not self._tried and last is not None:
                self._ends = False
                return self._make(trunk, cut, batch, size, most, passes, None)
        return found if self._tried else None

    def _keys(self, cut: int, batch: Any, last: int | None) -> list[tuple[int, int, int]]:
        ids = batch.get("example_id") if isinstance(batch, Mapping) else None
        if ids is None:
            raise ValueError("`LossOracle(reuse='keep')` needs a tensor 'example_id' in each batch.")
        whole = next((v.shape[1] for v in batch.values() if isinstance(v, torch.Tensor) and v.dim() == 2), 0)
        return [(i, cut, last or whole) for i in ids.tolist()]

    def _add(self, key: tuple[int, int, int], row: torch.Tensor) -> None:
        size = row.numel() * row.element_size()
        if key not in self.rows and self.bytes + size <= KEPT_BYTES:
            self.rows[key] = row.clone()
            self.bytes += size
