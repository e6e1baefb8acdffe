"""A step added to parameters, in fp32 whatever their type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from blackbox_zo.directions import Block
from blackbox_zo.modules._devices import full_precision, weights_of
from blackbox_zo.modules._masks import Mask
from blackbox_zo.modules._rounding import Noise, random_bits_at, round_into_, rounded, together
from blackbox_zo.modules._signs import Small, factors_of, rows_of
from blackbox_zo.modules._tensors import GRAIN, Buffers, add_direction_, grains, row_chunks
from blackbox_zo.steps import Step

__all__ = ["Moved", "Mover", "move"]


@dataclass(frozen=True)
class Moved:
    """A parameter that a step changes.

    Attributes:
        block: Its block.
        p: The parameter.
        keep: What it is multiplied by.
        along: Whether the directions may be nonzero in it.
        unit: Of the block.
        mask: Which elements move; none means all.
    """

    block: Block
    p: torch.Tensor
    keep: float
    along: bool
    unit: float
    mask: Mask | None

    @property
    def exact(self) -> bool:
        """Whether the step is added in place, with nothing to round and no mask."""
        return self.along and self.mask is None and self.p.dtype is torch.float32

    @cached_property
    def chunks(self) -> list[tuple[int, int]]:
        """Runs of rows, each with random bits of its own."""
        return row_chunks(self.block.shape)


def move(step: Step, items: Sequence[Moved], version: int | None) -> None:
    """Add a step to parameters.

    Args:
        step: The step.
        items: The parameters.
        version: How many moves were made before, which the random bits of stochastic rounding depend on; none rounds to
            nearest.
    """
    with full_precision():
        Mover(step, items, version).make(items)


class Mover:
    """Adds a step to parameters, to some of them at a time or to all at once.

    Args:
        step: The step.
        items: All parameters that it moves.
        version: As in `move`.
    """

    def __init__(self, step: Step, items: Sequence[Moved], version: int | None) -> None:
        self.step, self.buffers = step, Buffers()
        self.small: dict[tuple[torch.device, bool], Small] = {}
        self.weights: dict[tuple[float, int, torch.device], torch.Tensor] = {}
        self.noise: Noise | None = None
        if version is not None:
            rounded = [item for item in items if item.p.element_size() == 2]
            self.noise = Noise(version, {item.block.name: [a for a, _ in item.chunks] for item in rounded})

    def make(self, items: Sequence[Moved]) -> None:
        """Add to all parameters, to small 16-bit ones together."""
        groups: dict[tuple[torch.device, torch.dtype, float], list[Moved]] = {}
        for item in items:
            delta = self._sums(item)
            if item.exact and delta is not None:
                if item.keep != 1.0:
                    item.p.mul_(item.keep)
                item.p.add_(delta, alpha=item.unit)
            elif item.exact:
                self._add_exactly(item)
            elif delta is None or item.mask is not None or item.p.element_size() != 2 or len(item.chunks) > 1:
                self._add_rounded(item, delta)
            else:
                groups.setdefault((item.p.device, item.p.dtype, item.keep), []).append(item)
        for group in groups.values():
            self._add_together(group)

    def _sums(self, item: Moved) -> torch.Tensor | None:
        """What to add to a block, times 1 / unit where it is exact; None if it is not drawn with others."""
        if not item.along or (item.unit != 1.0 and not item.exact):
            return None
        return self._small(item).of(item.block)

    def _small(self, item: Moved) -> Small:
        place = item.p.device, not item.exact
        if place not in self.small:
            self.small[place] = Small(self.step.directions, weights_of(self.step.w, place[0]), in_order=place[1])
        return self.small[place]

    def _product(self, item: Moved) -> tuple[torch.Tensor, torch.Tensor] | None:
        """`sum_j w_j A_j' B_j` as one product, (m, k r) times (k r, n), where directions have factors."""
        found = factors_of(self.step.directions, item.block, item.p.device) if item.along else None
        if found is None:
            return None
        (a, b), rank = found, found[0].shape[1]
        place = item.unit, rank, item.p.device
        if place not in self.weights:
            w = self.step.w * item.unit * self.step.directions.factor_scale
            self.weights[place] = weights_of(np.repeat(w, rank), item.p.device)[:, None]
        return (a.reshape(-1, a.shape[2]) * self.weights[place]).t(), b.reshape(-1, b.shape[2])

    def _add_rounded(self, item: Moved, sums: torch.Tensor | None) -> None:
        """Add to a parameter that has a mask or is to be rounded; `sums` is what to add, if that is known."""
        block, p, w = item.block, item.p, self.step.w * item.unit
        product = self._product(item) if sums is None else None
        if sums is None and product is None and self._add_sparsely(item):
            return
        width = max(1, block.size // max(1, block.shape[0] if block.shape else 1))
        flat, done = p.view(-1), 0
        for chunks in together(item.chunks, p):
            a, b = chunks[0][0], chunks[-1][1]
            part = flat[a * width : b * width]
            delta = self.buffers.get("move", part.numel(), torch.float32, p.device)[: part.numel()]
            if product is not None:
                torch.mm(product[0][a:b], product[1], out=delta.view(b - a, -1))
            elif sums is not None:
                delta.copy_(sums.reshape(-1)[a * width : b * width])
            else:
                delta.zero_()
                other = self.buffers.get("direction", part.numel(), torch.float32, p.device)
                for j in np.flatnonzero(w).tolist() if item.along else ():
                    add_direction_(delta, self.step.directions, block, j, float(w[j]), a * width, other)
            if item.mask is not None:
                delta *= item.mask(part, a * width)
            delta.add_(part.float() if part.dtype is torch.float64 else part, alpha=item.keep)
            bits = None
            if self.noise is not None and p.element_size() == 2:
                bits = self.noise.of(block.name, done, done + len(chunks), p.device)
            done += len(chunks)
            round_into_(part, delta, bits, (chunks[0][1] - a) * width)

    def _add_sparsely(self, item: Moved) -> bool:
        """Add where directions are not zero, and look at nothing else; whether they are of that kind.

        To the same bits as elsewhere: an element to which nothing is added is not rounded.
        """
        block, p, w, directions = item.block, item.p, self.step.w * item.unit, self.step.directions
        rounds = p.element_size() == 2 and p.device.type == "cpu" and item.mask is None and item.keep == 1.0
        if not rounds or not item.along or directions.nonzeros(block, 0, 0, 0) is None:
            return False
        flat, width = p.view(-1), block.size // max(1, block.shape[0] if block.shape else 1)
        used = np.flatnonzero(w).tolist()
        for i, (a, b) in enumerate(item.chunks):
            found = [(j, directions.nonzeros(block, j, a * width, b * width)) for j in used]
            added = [(pair[0], (w[j] * pair[1]).astype(np.float32)) for j, pair in found if pair is not None]
            places, inverse = np.unique(np.concatenate([where for where, _ in added]), return_inverse=True)
            sums = np.zeros(len(places), np.float32)
            np.add.at(sums, inverse, np.concatenate([values for _, values in added]))  # in order, as elsewhere
            where, part = torch.from_numpy(places), flat[a * width : b * width]
            exact = torch.from_numpy(sums) + part[where]
            if self.noise is None:
                part[where] = exact.to(p.dtype)
                continue
            bits = random_bits_at(np.asarray(self.noise.of(block.name, i, i + 1, p.device)), places)
            part[where] = rounded(exact, p.dtype, torch.from_numpy(bits))
        return True

    def _add_together(self, group: list[Moved]) -> None:
        """Add to small 16-bit parameters, each from a multiple of `GRAIN` in memory that they share."""
        small, first = self._small(group[0]), group[0].p
        spans, total = grains([item.block.size for item in group])
        starts = [small.starts[item.block.name] for item in group]
        assert small.sums is not None
        delta = torch.cat([small.sums[s : s + b - a] for s, (a, b) in zip(starts, spans, strict=True)])
        shared = torch.zeros(total, dtype=first.dtype, device=first.device)
        parts = [shared[a : a + item.block.size] for item, (a, _) in zip(group, spans, strict=True)]
        flat = [item.p.view(-1) for item in group]
        torch._foreach_copy_(parts, flat)
        delta.add_(shared, alpha=group[0].keep)
        bits = None
        if self.noise is not None:
            bits = self.noise.grains([item.block.name for item in group], spans, first.device)
        round_into_(shared, delta, bits, GRAIN)
        torch._foreach_copy_(flat, parts)

    def _add_exactly(self, item: Moved) -> None:
        """Add to an fp32 parameter in place."""
        block, p, w, directions = item.block, item.p, self.step.w * item.unit, self.step.directions
        product = self._product(item)
        if product is not None:
            _add_product_(p.view(p.shape[0], -1), *product, item.keep)
            return
        if item.keep != 1.0:
            p.mul_(item.keep)
        if block.size < GRAIN * GRAIN:
            p += torch.tensordot(weights_of(w, p.device), rows_of(directions, block, p.device), 1)
            return
        flat, width = p.view(-1), block.size // block.shape[0]
        for a, b in row_chunks(block.shape, device=p.device):
            part = flat[a * width : b * width]
            for j in np.flatnonzero(w).tolist():
                other = self.buffers.get("direction", part.numel(), torch.float32, p.device)
                add_direction_(part, directions, block, j, float(w[j]), a * width, other)


def _add_product_(w: torch.Tensor, a: torch.Tensor, b: torch.Tensor, keep: float) -> None:
    """`w = keep w + a b`, in place; an outer product is faster by elements, at the speed of the memory."""
    if a.shape[1] > 1 or w.device.type != "cpu":
        w.addmm_(a, b, beta=keep)
        return
    if keep != 1.0:
        w.mul_(keep)
    w.addcmul_(a, b)
