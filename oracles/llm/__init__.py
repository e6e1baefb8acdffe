"""Oracles about language models: losses of a model on a batch, data, and loading. They need torch and transformers."""

from oracles.llm._oracle import LossOracle as LossOracle
