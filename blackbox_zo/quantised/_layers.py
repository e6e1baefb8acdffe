"""Layers whose weights are computed from a table as they run, some rows at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from blackbox_zo._typing import override
from blackbox_zo.quantised import _tables
from blackbox_zo.quantised._tables import Table

__all__ = ["QuantisedEmbedding", "QuantisedLinear"]


class QuantisedLinear(torch.nn.Module):
    """`torch.nn.Linear` with the weights of a table.

    Args:
        table: The weights.
        bias: The bias; may be none.
    """

    def __init__(self, table: Table, bias: torch.nn.Parameter | None = None) -> None:
        super().__init__()
        self.table, self.bias = table, bias
        self.in_features, self.out_features = table.width, table.height

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, step, flat = self.table.reader(), max(1, _tables.CHUNK // self.in_features), x.reshape(-1, x.shape[-1])
        out = x.new_empty(len(flat), self.out_features)
        for a in range(0, self.out_features, step):
            which = slice(a, min(a + step, self.out_features))
            out[:, which] = F.linear(flat, rows(which).to(x.dtype))
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], self.out_features)


class QuantisedEmbedding(torch.nn.Module):
    """`torch.nn.Embedding` with the vectors of a table.

    Args:
        table: The vectors.
        dtype: Of what it returns.
    """

    def __init__(self, table: Table, dtype: torch.dtype) -> None:
        super().__init__()
        self.table, self.dtype = table, dtype
        self.num_embeddings, self.embedding_dim = table.height, table.width

    @override
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table.reader()(ids.reshape(-1)).to(self.dtype).view(*ids.shape, -1)
