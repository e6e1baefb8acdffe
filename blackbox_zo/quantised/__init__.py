"""Models that run from quantised weights, whose scales or integers are searched."""

from blackbox_zo.quantised._files import load_gguf, save_gguf
from blackbox_zo.quantised._layers import QuantisedEmbedding, QuantisedLinear
from blackbox_zo.quantised._tables import BlockTable, CodedTable, FrozenTable, ScaledTable, Table

__all__ = [
    "BlockTable",
    "CodedTable",
    "FrozenTable",
    "QuantisedEmbedding",
    "QuantisedLinear",
    "ScaledTable",
    "Table",
    "load_gguf",
    "save_gguf",
]
