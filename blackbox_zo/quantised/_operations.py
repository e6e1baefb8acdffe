"""Products with a table that moves, as single operations: `Batched` runs them for all queries of a step at once.

Along a low-rank direction, query i adds c a' to the shifts S (rows, blocks) of the scales, and so to the weights
`size c_r a_k Q_rkj`, of which Q (rows, blocks, 32) are the integers. So its outputs are `x W' + c (size Q (a x))`: both
W and Q are decoded once for all queries. Along a sparse direction, a query changes few integers by one, and its outputs
are `x W'` and the products with these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import handle_torch_function, has_torch_function

from blackbox_zo.modules._layout import by_rows
from blackbox_zo.modules._rules import RULES, Stacked
from blackbox_zo.modules._scratch import WITHIN
from blackbox_zo.modules._stacking import Family, mark
from blackbox_zo.quantised import _tables
from blackbox_zo.quantised._tables import BLOCK, CodedTable, ScaledTable, Table

__all__ = ["coded_linear", "scaled_embedding", "scaled_linear", "table_embedding", "table_linear"]


def table_linear(x: torch.Tensor, table: Table) -> torch.Tensor:
    """`x W'`, some rows of W at a time."""
    if has_torch_function((x,)):
        return handle_torch_function(table_linear, (x,), x, table)
    return _by_rows(x, table, table.reader())


def table_embedding(ids: torch.Tensor, table: Table) -> torch.Tensor:
    """Rows of W in fp32."""
    if has_torch_function((ids,)):
        return handle_torch_function(table_embedding, (ids,), ids, table)
    return table.reader()(ids.reshape(-1)).view(*ids.shape, table.width)


def _by_rows(x: torch.Tensor, table: Table, rows: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    flat = x.reshape(-1, table.width)
    out = x.new_empty(len(flat), table.height)
    for which in _spans(table):
        out[:, which] = F.linear(flat, rows(which).to(x.dtype))
    return out.view(*x.shape[:-1], table.height)


def scaled_linear(x: torch.Tensor, shift: torch.Tensor, table: ScaledTable) -> torch.Tensor:
    """`x W'`, where so much has been added to the scales of W."""
    if has_torch_function((x, shift)):
        return handle_torch_function(scaled_linear, (x, shift), x, shift, table)
    return _by_rows(x, table, lambda which: table.rows(which, shift))


def coded_linear(x: torch.Tensor, shift: torch.Tensor, table: CodedTable) -> torch.Tensor:
    """`x W'`, where so much has been added to the integers of W."""
    if has_torch_function((x, shift)):
        return handle_torch_function(coded_linear, (x, shift), x, shift, table)
    return _by_rows(x, table, lambda which: table.rows(which, shift[which]))


def scaled_embedding(ids: torch.Tensor, shift: torch.Tensor, table: ScaledTable) -> torch.Tensor:
    """Rows of W, where so much has been added to its scales, in fp32."""
    if has_torch_function((ids, shift)):
        return handle_torch_function(scaled_embedding, (ids, shift), ids, shift, table)
    return table.rows(ids.reshape(-1), shift).view(*ids.shape, table.width)


def _spans(table: Table, each: int = 1) -> list[slice]:
    """Rows that are decoded at once, where each takes so many times its numbers."""
    step = max(1, _tables.CHUNK // (table.width * each))
    return [slice(a, min(a + step, table.height)) for a in range(0, table.height, step)]


def _linear(mode: Stacked, x: Any, shift: Any, table: ScaledTable) -> Any:
    factors = _factors(mode, x, shift)
    if factors is None or torch.is_autocast_enabled(x.device.type):
        return NotImplemented
    along, far = factors
    n, flat = mode.n, x.reshape(-1, table.width)
    blocks = flat.view(n, -1, table.width // BLOCK, BLOCK)
    scaled = [(blocks * a[:, None, :, None].to(x.dtype)).view(flat.shape) for a in along.unbind(1)]
    out = x.new_empty(len(flat), table.height)
    for which in _spans(table, 2):
        rows, steps = table.rows_and_steps(which, shift)
        part = F.linear(flat, rows.to(x.dtype))
        view, steps = part.view(n, -1, part.shape[1]), steps.view(rows.shape).to(x.dtype)
        for a, c in zip(scaled, far.unbind(1), strict=True):
            view.addcmul_(F.linear(a, steps).view(view.shape), c[:, None, which].to(x.dtype))
        out[:, which] = part
    return mark(out.view(*x.shape[:-1], table.height))


def _embedding(mode: Stacked, ids: Any, shift: Any, table: ScaledTable) -> Any:
    factors = _factors(mode, ids, shift)
    if factors is None:
        return NotImplemented
    along, far = factors
    rows, steps = table.rows_and_steps(ids.reshape(-1), shift)
    places = ids.reshape(mode.n, 1, -1).expand(-1, far.shape[1], -1)
    shifts = far.gather(2, places).transpose(1, 2) @ along  # (n, ids, blocks)
    rows.view(steps.shape).addcmul_(steps, shifts.reshape(len(rows), -1, 1))
    return mark(rows.view(*ids.shape, table.width))


def _factors(mode: Stacked, x: Any, shift: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """For each query a (n, r, blocks) and c (n, r, rows), if it adds c' a to the shifts of a stacked value's table."""
    w = mode.displacements.of.get(id(shift))
    if w is None or not w.factored or type(x) is Family or not mode.is_stacked(x):
        return None
    along, far = w.factor(1, torch.float32), w.factor_along(0, torch.float32)
    index = mode.displacements.along(far.device)
    return (along.expand(mode.n, -1, -1) if len(along) == 1 else along[index]), far


def _coded(mode: Stacked, x: Any, shift: Any, table: CodedTable) -> Any:
    w = mode.displacements.of.get(id(shift))
    if w is None or not w.sparse or type(x) is Family or not mode.is_stacked(x):
        return NotImplemented
    if torch.is_autocast_enabled(x.device.type):
        return NotImplemented
    flat = x.reshape(-1, table.width)
    columns = flat.view(mode.n, -1, table.width).transpose(1, 2).float().contiguous()
    out = x.new_empty(len(flat), table.height)
    for which in _spans(table, 2):
        raw, added = table.bytes_of(which), shift.detach()[which]
        codes, moved = table.codes(raw).view(-1), table.moved(raw, added)
        scales, now = table.halves(raw, 0), moved.view(-1).clone()
        part = F.linear(flat, table.numbers(raw, moved, scales).to(x.dtype))
        view, first = part.view(mode.n, -1, part.shape[1]), which.start * table.width
        for j in set(w.index.tolist()):
            found = w.directions.nonzeros(w.block, j, first, which.stop * table.width)
            assert found is not None
            bags = torch.from_numpy(np.searchsorted(found[0], np.arange(part.shape[1]) * table.width))
            places, values = torch.from_numpy(found[0]), torch.from_numpy(found[1]).float()
            at, size = places % table.width, scales.view(-1)[places // BLOCK]
            before, sums, was = codes[places], added.reshape(-1)[places].float(), now[places]
            for i in np.flatnonzero(w.index == j).tolist():
                new = (before + (sums + float(w.far[i]) * values).half()).round_().clamp_(*table.most)
                change = new.sub_(was).mul_(size)
                bagged = F.embedding_bag(at, columns[i], bags, mode="sum", per_sample_weights=change)
                view[i] += bagged.t().to(x.dtype)
        out[:, which] = part
    return mark(out.view(*x.shape[:-1], table.height))


RULES[scaled_linear] = _linear
RULES[coded_linear] = _coded
WITHIN[coded_linear] = lambda x, shift, table: _by_rows(x, table, table.reader())
RULES[scaled_embedding] = _embedding
for operation in (table_linear, table_embedding, scaled_linear, scaled_embedding, coded_linear):
    by_rows(operation)
