"""One step's queries as displaced parameters: `w + c u`, made where it is needed."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from blackbox_zo._typing import Floats
from blackbox_zo.directions import Block
from blackbox_zo.modules._devices import sent
from blackbox_zo.modules._heap import Heap
from blackbox_zo.modules._masks import Mask
from blackbox_zo.modules._module import Module
from blackbox_zo.modules._shared import Shared
from blackbox_zo.modules._signs import factors_of, rows_of, signs_of
from blackbox_zo.modules._tensors import (
    CHUNK,
    GPU_CHUNK,
    GRAIN,
    Buffers,
    add_direction_,
    rectangles,
    row_chunks,
)
from blackbox_zo.randomness import SignTable
from blackbox_zo.steps import Queries

__all__ = ["Displaced", "Displacements", "Passing"]

LARGE = 1 << 16
"""Elements from which a parameter is displaced chunk by chunk rather than once for all queries."""

NEAR = 1 << 10
"""Elements between two rows of a table from which they are drawn apart."""

FEW = 1 << 14
"""Elements by which is told how sparse a direction is."""

MOST = 4 * CHUNK
"""Elements that are displaced at once."""


class Displaced:
    """One parameter under the n queries of a step.

    Args:
        block: Its block.
        p: The parameter; it is only read.
        shared: What all parameters have in common; it does not know them, so that a step's memory is freed at once.
        unit: Of the block.
        mask: Which elements are searched; None means all.

    Attributes:
        sparse: Whether each direction is zero almost everywhere, in a parameter whose operation makes use of that.
    """

    def __init__(self, block: Block, p: torch.Tensor, shared: Shared, unit: float, mask: Mask | None) -> None:
        self.block, self.p, self.shared, self.unit, self.mask = block, p.detach(), shared, unit, mask
        self.directions, self.index = shared.queries.directions, shared.queries.index
        self.sparse = mask is None and hasattr(p, "_zo_sparse") and self.directions.nonzeros(block, 0, 0, 0) is not None
        self.small = block.size < LARGE and len(block.shape) < 2  # all queries' values are kept at once

    @cached_property
    def few(self) -> bool:
        """Whether the products with what a query changes cost less than other weights for each query."""
        some = self.directions.nonzeros(self.block, 0, 0, min(FEW, self.block.size)) if self.sparse else None
        return some is not None and len(some[0]) <= max(1, min(FEW, self.block.size) // 256)

    @property
    def first(self) -> int:
        """Where the parameter begins in its memory, in elements."""
        return int(self.p.storage_offset())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the parameter."""
        return self.block.shape

    @cached_property
    def factored(self) -> bool:
        """Whether each direction has factors in this parameter."""
        return self._place is not None or self.factors is not None

    @cached_property
    def _place(self) -> tuple[SignTable, slice, slice, int] | None:
        return None if self.mask is not None else self.directions.factor_table(self.block)

    @cached_property
    def factors(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A (k, r, rows) and B (k, r, columns) where direction j is `A_j' B_j` times a scale; None where it is not."""
        return None if self.mask is not None else factors_of(self.directions, self.block, self.p.device)

    def factor(self, which: int, dtype: torch.dtype) -> torch.Tensor:
        """One of the factors, where there are any: 0 for A, 1 for B; shape (k, r, rows or columns)."""
        if self._place is not None:
            table, a, b, rank = self._place
            signs = signs_of(table, self.p.device, dtype)
            return signs[:, b if which else a].view(len(signs), rank, -1)
        assert self.factors is not None
        return self.factors[which].to(dtype)

    def factor_along(self, which: int, dtype: torch.dtype) -> torch.Tensor:
        """The same for each query, times how far it goes, shape (n, r, rows or columns)."""
        if self._place is not None and self.unit == 1.0:
            table, a, b, rank = self._place
            factors = self.shared.along(table, self.p.device, dtype)
            return factors[:, b if which else a].view(len(factors), rank, -1)
        factor = self.factor(which, dtype)
        index = torch.tensor(self.index, device=factor.device)  # numpy's is read-only, of which torch warns
        chosen = factor.expand(len(index), -1, -1) if len(factor) == 1 else factor[index]
        return chosen * self.far_on(chosen)[:, None, None]

    @cached_property
    def far(self) -> Floats:
        """How far each query goes along `A_j' B_j` (where there are factors) or u_j, shape (n,)."""
        return self.shared.queries.scale * self._times

    def far_on(self, like: torch.Tensor) -> torch.Tensor:
        """`far` as a tensor of the type and on the device of another."""
        return self.shared.far(self._times, like)

    @property
    def _times(self) -> float:
        return self.unit * self.directions.factor_scale if self.factored else self.unit

    @property
    def offsets(self) -> torch.Tensor:
        """`c_i u_i` of a small parameter, shape (n, *shape), fp32."""
        found = self.shared.small(self.p.device).of(self.block)
        if found is None:
            rows = rows_of(self.directions, self.block, self.p.device)
            found = torch.tensordot(self.shared.matrix(self.p.device), rows, 1)
        out = found if self.unit == 1.0 else found * self.unit
        if self.mask is not None:
            out = out * self.mask(self.p.reshape(-1), 0).view(self.p.shape)
        return out

    @cached_property
    def stacked(self) -> torch.Tensor:
        """`w + c_i u_i` of a small parameter, shape (n, *shape), in its own type."""
        found = self.shared.vector(self.block.name, self.p)
        if found is not None:
            return found
        offsets = self.offsets
        return torch.add(offsets, self.p, out=torch.empty(offsets.shape, dtype=self.p.dtype, device=self.p.device))

    def chunks(self, tokens: int = 0) -> list[tuple[int, int]]:
        """Runs of rows that are displaced at a time, for so many rows of an input."""
        return row_chunks(self.block.shape, tokens, self.p.device)

    def rows(self, i: int, a: int, b: int, scratch: Buffers) -> torch.Tensor:
        """Rows a … b of `w + c_i u_i`, shape (b - a, …), in scratch memory that the next call overwrites."""
        width = self.block.size // max(1, self.block.shape[0] if self.block.shape else 1)
        value = self.between(i, a * width, b * width, scratch)
        return value.view(b - a, *self.block.shape[1:]) if self.block.shape else value.view(())

    def between(self, i: int, start: int, stop: int, scratch: Buffers) -> torch.Tensor:
        """Elements `start` … `stop` of `w + c_i u_i`, flat, in scratch memory that the next call overwrites."""
        what = "value" if self.p.dtype is torch.float32 else "low"
        out = scratch.get(what, stop - start, self.p.dtype, self.p.device)[: stop - start]
        return self.fill_(out, i, start, scratch)

    def fill_(self, out: torch.Tensor, i: int, start: int, scratch: Buffers) -> torch.Tensor:
        """Write elements `start` … `start + out.numel()` of `w + c_i u_i` to `out`, flat and of the parameter's type.

        No other element is made, but for the beginning of a word of sign bits.
        """
        stop, exact = start + out.numel(), self.p.dtype is torch.float32
        if not out.numel():
            return out
        if self.small:
            return out.copy_(self.stacked[i].reshape(-1)[start:stop])
        if exact and (self.factors is not None or (start % GRAIN == 0 and out.numel() <= MOST)):
            self._write(out, i, start, scratch)
            return out
        step = MOST if self.p.device.type == "cpu" else max(MOST, GPU_CHUNK)
        for a in range(start - start % GRAIN, stop, step):
            b, lead = min(a + step, stop), max(start - a, 0)
            wide = scratch.get("wide", b - a, torch.float32, self.p.device)[: b - a]
            self._write(wide, i, a, scratch)
            out[a + lead - start : b - start] = wide[lead:]
        return out

    def _write(self, out: torch.Tensor, i: int, start: int, scratch: Buffers) -> None:
        """`fill_` in fp32; without factors, from a multiple of `GRAIN`."""
        part = self.p.view(-1)[start : start + out.numel()]
        if self.factors is None:
            other = scratch.get("direction", part.numel(), torch.float32, self.p.device)
            self._add(out, other, part, i, start)
            return
        left, right = (f[self.index[i]] for f in self.factors)
        far, width = float(self.far[i]), right.shape[1]
        for a, b, c, d in rectangles(start, start + out.numel(), width):
            first = a * width + c - start
            place = slice(first, first + (b - a) * (d - c))
            w, value = part[place].view(b - a, d - c), out[place].view(b - a, d - c)
            if w.dtype is not torch.float32:
                w = value.copy_(w)
            torch.addmm(w, left[:, a:b].t(), right[:, c:d], alpha=far, out=value)

    def _add(self, out: torch.Tensor, other: torch.Tensor, part: torch.Tensor, i: int, start: int) -> None:
        """`out = part + c_i u_i`."""
        value, j, scale = out, int(self.index[i]), float(self.far[i])
        if self.mask is None:
            add_direction_(value, self.directions, self.block, j, scale, start, other, part)
            return
        value.zero_()
        add_direction_(value, self.directions, self.block, j, scale, start, other)
        value *= self.mask(part, start)
        value += part

    def whole(self, i: int, scratch: Buffers) -> torch.Tensor:
        """`w + c_i u_i` in memory of its own, shape of the parameter."""
        if self.small:
            return self.stacked[i]
        out = torch.empty_like(self.p)
        self.fill_(out.view(-1), i, 0, scratch)
        return out

    def looked_up(self, i: int, ids: torch.Tensor) -> torch.Tensor:
        """Rows `ids` of `c_i u_i` of a matrix, shape (*ids.shape, columns), fp32; the rest is never made."""
        flat = ids.reshape(-1)
        if self.factors is not None:
            left, right = (f[self.index[i]] for f in self.factors)
            signs = torch.mm(left.t()[flat], right)  # whole numbers, which TF32 holds exactly
            return signs.mul_(float(self.far[i])).view(*ids.shape, -1)
        width = self.block.size // self.block.shape[0]
        unique, where = torch.unique(flat, return_inverse=True)
        rows = np.empty((len(unique), width), dtype=np.float32)
        numbers, j = unique.cpu().numpy(), int(self.index[i])
        for near in np.split(np.arange(len(numbers)), 1 + np.flatnonzero(np.diff(numbers) > max(1, NEAR // width))):
            if len(near):
                first, last = int(numbers[near[0]]), int(numbers[near[-1]]) + 1
                u = self.directions.part(self.block, j, first * width, last * width).reshape(-1, width)
                rows[near] = u[numbers[near] - first] * self.far[i]
        found = sent(rows, self.p.device)
        if self.mask is not None:
            table = self.p.view(-1)
            for place, row in enumerate(unique.tolist()):
                part = table[row * width : (row + 1) * width]
                found[place] *= self.mask(part, row * width)
        return found[where].view(*ids.shape, width)


class Passing(Displaced):
    """A parameter whose memory comes and goes: it is looked at where it is used."""

    @property  # type: ignore[explicit-override]
    def p(self) -> torch.Tensor:
        """What the parameter is now."""
        return self._parameter.detach()

    @p.setter
    def p(self, _: torch.Tensor) -> None:
        pass

    def __init__(self, block: Block, p: torch.Tensor, shared: Shared, unit: float, mask: Mask | None) -> None:
        self._parameter = p
        super().__init__(block, p, shared, unit, mask)


class Displacements:
    """All parameters that a step's queries displace.

    Args:
        module: The variable.
        queries: The queries; their origin must be where the module stands.
        touched: Where to note them; None means a set of its own.

    Attributes:
        touched: The ids of the parameters that an operation has used, of those in `of`.
    """

    def __init__(self, module: Module, queries: Queries, touched: set[int] | None = None) -> None:
        if queries.origin != module.version:
            raise RuntimeError(
                f"These queries start from the weights after {queries.origin} moves, but the module has made "
                f"{module.version}. Answer each proposal before the next move."
            )
        self.module, self.queries, self.n = module, queries, queries.n
        self.buffers, self.heap = Buffers(), Heap()
        self.of: dict[int, Displaced] = {}
        self.touched: set[int] = set() if touched is None else touched
        self._along: dict[torch.device, torch.Tensor] = {}
        shared = Shared(queries, {})
        for block in module.blocks:
            if queries.directions.touches(block):
                p, unit = module.parameters[block.name], module.units[block.name]
                kind = Passing if block.name in module.passing else Displaced
                hit = self.of[id(p)] = kind(block, p, shared, unit, module.masks.get(block.name))
                if hit.small and unit == 1.0 and hit.mask is None:
                    shared.vectors[block.name] = hit.p

    def along(self, device: torch.device) -> torch.Tensor:
        """The direction of each query, shape (n,)."""
        if device not in self._along:
            self._along[device] = torch.tensor(self.queries.index, device=device)
        return self._along[device]

    def take(self, which: slice) -> Displacements:
        """Some of the queries."""
        return Displacements(self.module, self.queries.take(which), self.touched)
