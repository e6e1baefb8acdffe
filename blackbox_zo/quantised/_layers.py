"""Layers whose weights are computed from a table as they run, some rows at a time."""

from __future__ import annotations

import torch

from blackbox_zo._typing import override
from blackbox_zo.quantised._operations import product, scaled_embedding, scaled_linear
from blackbox_zo.quantised._tables import ScaledTable, Table

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
        out = scaled_linear(x, table.scale_shift, table) if isinstance(table, ScaledTable) else product(x, table)
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
        return table.reader()(ids.reshape(-1)).to(self.dtype).view(*ids.shape, -1)
