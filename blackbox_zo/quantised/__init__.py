"""Models that run from quantised weights, whose scales or integers are searched."""

from blackbox_zo.quantised._files import load_gguf, save_gguf
from blackbox_zo.quantised._layers import QuantisedEmbedding, QuantisedLinear
from blackbox_zo.quantised._memory import GroupedTable, adopt, quantise, restore
from blackbox_zo.quantised._tables import BlockTable, CodedTable, FrozenTable, ScaledTable, Table

__all__ = [
    "BlockTable",
    "CodedTable",
    "FrozenTable",
    "GroupedTable",
    "QuantisedEmbedding",
    "QuantisedLinear",
    "ScaledTable",
    "Table",
    "adopt",
    "load_gguf",
    "quantise",
    "restore",
    "save_gguf",
]
