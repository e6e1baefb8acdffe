"""Oracles: what can be asked."""

from blackbox_zo.function import FunctionOracle as FunctionOracle
