"""The one list of the kinds of runs."""

from oracles.command.kind import CommandKind
from oracles.function.kind import FunctionKind
from oracles.kind import Kind
from oracles.llm.kind import FineTuneKind
from oracles.ranking.kind import RankKind
from oracles.rl.kind import TrainPolicy

__all__ = ["KINDS"]

KINDS: tuple[Kind, ...] = (CommandKind(), FineTuneKind(), TrainPolicy(), RankKind(), FunctionKind())
"""A journal is shown by the first that recognises it."""
