"""`finetune`: a whole run, with validation, journal and progress; and its weights from the journal alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from blackbox_zo import _replay
from blackbox_zo._describe import rebuild
from blackbox_zo.errors import JournalError, OracleError
from blackbox_zo.estimators import Estimator, RandomVector
from blackbox_zo.journal import Journal, read
from blackbox_zo.modules import Module
from blackbox_zo.rules import Rule
from blackbox_zo.search import Search
from oracles.llm._evaluate import Evaluator, Measures
from oracles.llm._examples import Examples
from oracles.llm._oracle import Batches, Loss, LossOracle

__all__ = ["FineTune", "Point", "finetune", "replay"]


class Point(NamedTuple):
    """What `finetune` shows after a step.

    Attributes:
        step: Steps made so far.
        loss: Mean loss of the step's queries; NaN if all failed.
        validation: The measures on the validation examples by name, where they were taken after this step.
        seconds: Since the run began or went on.
        forwards: Examples run through the model since then.
    """

    step: int
    loss: float
    validation: Mapping[str, float] | None
    seconds: float
    forwards: int


@dataclass
class FineTune:
    """What `finetune` did.

    Attributes:
        model: The model, its weights those after the last step.
        points: One for each step of this run, resumed steps not counted, and one before the first.
        search: The search, its journal closed.
        oracle: The oracle.
        stopped: Why the run ended before its steps were made, if it did.
    """

    model: torch.nn.Module
    points: list[Point] = field(default_factory=list)
    search: Search | None = None
    oracle: LossOracle | None = None
    stopped: str = ""

    @property
    def validation(self) -> list[tuple[int, Mapping[str, float]]]:
        """(steps made, measures) of each validation."""
        return [(p.step, p.validation) for p in self.points if p.validation is not None]


def finetune(
    model: torch.nn.Module,
    train: Examples | Batches,
    loss: Loss,
    *,
    steps: int,
    batch_size: int = 16,
    module: Module | str = "all",
    estimator: Estimator | None = None,
    rule: Rule,
    validation: Examples | None = None,
    measures: Measures | None = None,
    evaluate_every: int = 0,
    seed: int = 0,
    journal: str | Path | Journal | None = None,
    sweep: Literal["auto", "batched", "scratch"] = "auto",
    directions_per: Literal["step", "example"] | None = None,
    micro_batch: int | None = None,
    reuse: bool | Literal["keep"] = True,
    measured: Mapping[int, Mapping[str, float]] | None = None,
    progress: Callable[[Point], Any] | None = None,
) -> FineTune:
    """Fine-tune a model by forward passes alone.

    Args:
        model: In evaluation mode; its weights are changed in place.
        train: Examples, of which each step sees a shuffled batch, or batches as `LossOracle` takes them.
        loss: From (model, batch) to one value per example.
        steps: How many steps the whole run has, those in the journal included.
        batch_size: Examples in a step, where `train` is `Examples`.
        module: What is searched: a `Module` of the model, or what its `select` takes.
        estimator: How to ask; by default one low-rank direction for each example, radius 1e-3.
        rule: How an estimate becomes a move, such as `SGD(1e-4)`.
        validation: Examples for the measures.
        measures: What `evaluate` takes; by default the loss alone.
        evaluate_every: Steps between validations, beside the first and the last; 0 has only these.
        seed: Of the directions and the order of the examples.
        journal: A path. If it holds this run, the run goes on from its last step, bit for bit.
        sweep: See `LossOracle`.
        directions_per: See `LossOracle`; by default "example" where there is a direction for each of the step's
            examples, else "step".
        micro_batch: See `LossOracle`.
        reuse: See `LossOracle`.
        measured: Validations that an earlier part of the run has made, by step. They are not made again, and where
            there are any, the run does not go on with one that it would not have made unbroken.
        progress: Called with each `Point`.

    Returns:
        The run. It is there too when ten steps in a row had no finite loss: `stopped` then says so.

    Raises:
        ValueError: An argument is out of its range, or nothing matches `module`.
        JournalError: The journal is of another run or other weights.
    """
    variable = module if isinstance(module, Module) else Module(model, module)
    estimator = estimator or RandomVector(1e-3, batch_size, "lowrank")
    batches = train.shuffled(batch_size, seed) if isinstance(train, Examples) else train
    if directions_per is None:
        size = min(batch_size, len(train)) if isinstance(train, Examples) else 0
        directions_per = "example" if getattr(estimator, "n_directions", 1) == size > 1 else "step"
    oracle = LossOracle(model, batches, loss, sweep, directions_per, micro_batch=micro_batch, reuse=reuse)
    evaluator = None
    if validation is not None:
        evaluator = Evaluator(model, validation.batches(16), measures or {"loss": loss}, variable)
    run = FineTune(model, oracle=oracle)
    with Search(variable, estimator, rule, seed=seed, journal=journal) as search:
        run.search = search
        _go(run, search, oracle, evaluator, steps, evaluate_every, measured or {}, progress or (lambda _: None))
    return run


def _go(
    run: FineTune,
    search: Search,
    oracle: LossOracle,
    evaluator: Evaluator | None,
    steps: int,
    every: int,
    measured: Mapping[int, Mapping[str, float]],
    progress: Callable[[Point], Any],
) -> None:
    begun = time.perf_counter()

    def due(step: int) -> bool:
        return step in (0, steps) or (every > 0 and step % every == 0)

    def note(loss: float, now: bool) -> None:
        found = evaluator() if evaluator is not None and now else None
        point = Point(search.steps, loss, found, time.perf_counter() - begun, oracle.forwards)
        run.points.append(point)
        progress(point)

    note(math.nan, not measured or (due(search.steps) and search.steps not in measured))
    if search.steps >= steps:
        return
    try:
        for report in search.run(oracle, steps=steps - search.steps):
            note(report.value, due(search.steps))
    except OracleError as error:
        run.stopped = str(error)


def replay(journal: str | Path, model: torch.nn.Module, steps: int | None = None) -> Module:
    """Give a base model the weights of a run after some step, from the journal alone.

    Args:
        journal: The run's journal; it is only read.
        model: The model as it was when the run began. Its weights are changed in place.
        steps: After how many moves; none goes to the last.

    Returns:
        The variable over the model.

    Raises:
        JournalError: The model's weights are not those that the run began with, or the run has fewer moves.
        ValueError: The run's selection, estimator or rule is a function of its user's, which a file cannot hold.
    """
    header, records = read(journal)
    described = header.get("variable") or {}
    if described.get("name") != "Module":
        raise JournalError(f"'{journal}' is not a run over the parameters of a model.")
    arguments = {name: rebuild(value, _none) for name, value in described.items() if name != "name"}
    if isinstance(arguments["select"], tuple):
        arguments["select"] = list(arguments["select"])
    module = Module(model, **arguments)
    if module.fingerprint() != header["start"]:
        raise JournalError(
            f"Journal '{journal}' began from other weights than this model's. Give the base model that it began with."
        )
    estimator, rule = (rebuild(header[name], _replay.find_public) for name in ("estimator", "rule"))
    search = Search(module, estimator, rule, seed=header["seed"], max_staleness=header["max_staleness"])
    _replay.replay(search, records, moves=steps)
    if steps is not None and module.version < steps:
        raise JournalError(f"'{journal}' has {module.version} moves, fewer than the {steps} asked for.")
    return module


def _none(name: str) -> Any:
    raise ValueError(f"`{name}` cannot be rebuilt from a file.")
