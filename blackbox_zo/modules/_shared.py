"""What all displaced parameters of a step have in common."""

from __future__ import annotations

import numpy as np
import torch

from blackbox_zo.modules._devices import sent
from blackbox_zo.modules._signs import Small, signs_of
from blackbox_zo.modules._tensors import grains
from blackbox_zo.randomness import SignTable
from blackbox_zo.steps import Queries

__all__ = ["Shared"]


class Shared:
    """The queries of a step, and what is drawn for many small parameters at once.

    Args:
        queries: The queries.
        vectors: The small parameters without mask, by name.
    """

    def __init__(self, queries: Queries, vectors: dict[str, torch.Tensor]) -> None:
        self.queries, self.vectors = queries, vectors
        self._displaced: dict[tuple[torch.dtype, torch.device], dict[str, torch.Tensor]] = {}
        self._matrix: dict[torch.device, torch.Tensor] = {}
        self._small: dict[torch.device, Small] = {}
        self._along: dict[tuple[SignTable, torch.device, torch.dtype], torch.Tensor] = {}
        self._far: dict[tuple[float, torch.dtype, torch.device], torch.Tensor] = {}

    def matrix(self, device: torch.device) -> torch.Tensor:
        """C, shape (n, k), fp32."""
        if device not in self._matrix:
            self._matrix[device] = sent(self.queries.matrix.astype(np.float32), device)
        return self._matrix[device]

    def far(self, times: float, like: torch.Tensor) -> torch.Tensor:
        """How far each query goes, times a number, shape (n,), of the type and on the device of `like`."""
        place = times, like.dtype, like.device
        if place not in self._far:
            far = (self.queries.scale * times).astype(np.float32)
            self._far[place] = sent(far, like.device).to(like.dtype)
        return self._far[place]

    def along(self, table: SignTable, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """The signs of a table for each query, times how far it goes, shape (n, total)."""
        place = table, device, dtype
        if place not in self._along:
            signs = signs_of(table, device, dtype)
            chosen = (
                signs.expand(self.queries.n, -1)
                if len(signs) == 1
                else signs[torch.tensor(self.queries.index, device=device)]
            )
            self._along[place] = chosen * self.far(self.queries.directions.factor_scale, signs)[:, None]
        return self._along[place]

    def small(self, device: torch.device) -> Small:
        """`C U` in the small blocks that are drawn together."""
        if device not in self._small:
            self._small[device] = Small(self.queries.directions, self.matrix(device))
        return self._small[device]

    def vector(self, name: str, p: torch.Tensor) -> torch.Tensor | None:
        """`w + c_i u_i` of a small parameter without mask and unit, (n, *shape), if it is drawn with others."""
        place = p.dtype, p.device
        if place not in self._displaced:
            self._displaced[place] = self._all(*place)
        return self._displaced[place].get(name)

    def _all(self, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
        """All such parameters of a type and device, made in one go: each alone takes the host longer than the card."""
        small = self.small(device)
        chosen = {name: p for name, p in self.vectors.items()
                  if p.dtype is dtype and p.device == device and name in small.starts}  # fmt: skip
        if small.sums is None or not chosen:
            return {}
        spans, total = grains([p.numel() for p in chosen.values()])
        pieces = [small.sums[:, small.starts[name] :][:, : b - a] for name, (a, b) in zip(chosen, spans, strict=True)]
        w = torch.zeros(total, dtype=dtype, device=device)
        torch._foreach_copy_([w[a : a + p.numel()] for p, (a, _) in zip(chosen.values(), spans, strict=True)],
                             [p.reshape(-1) for p in chosen.values()])  # fmt: skip
        offsets = torch.cat(pieces, 1)
        all_ = torch.add(offsets, w, out=torch.empty(offsets.shape, dtype=dtype, device=device))
        return {name: all_[:, a : a + p.numel()].view(len(all_), *p.shape)
                for (name, p), (a, _) in zip(chosen.items(), spans, strict=True)}  # fmt: skip
