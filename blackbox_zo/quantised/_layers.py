"""Layers whose weights are computed from a table as they run, some rows at a time."""

from __future__ import annotations

import torch

from blackbox_zo._typing import override
from blackbox_zo.quantised._operations import (
    coded_linear,
    scaled_embedding,
    scaled_linear,
    table_embedding,
    table_linear,
)
from blackbox_zo.quantised._tables import CodedTable, ScaledTable, Table

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
        table = self.table
        if isinstance(table, ScaledTable):
            out = scaled_linear(x, table.scale_shift, table)
        elif isinstance(table, CodedTable):
            out = coded_linear(x, table.code_shift, table)
        else:
            out = table_linear(x, table)
        if self.bias is not None:
            out += self.bias
        return out


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
        table = self.table
        if isinstance(table, ScaledTable):
            return scaled_embedding(ids, table.scale_shift, table).to(self.dtype)
        return table_embedding(ids, table).to(self.dtype)
