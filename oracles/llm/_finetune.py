"""`finetune`: a run with validation, journal and progress; `replay`: its weights from the journal alone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from blackbox_zo._describe import describe, rebuild
from blackbox_zo._horizon import recorded_rule
from blackbox_zo._replay import find_public
from blackbox_zo._stop import Stop
from blackbox_zo.errors import JournalError
from blackbox_zo.estimators import Estimator, RandomVector
from blackbox_zo.journal import Journal, JournalReader, read_journal
from blackbox_zo.journal._header import same_start
from blackbox_zo.measure import Measure
from blackbox_zo.modules import Module
from blackbox_zo.observers import Callback, display
from blackbox_zo.ranks import Ranks, versions
from blackbox_zo.rules import Rule
from blackbox_zo.run import Ended, Observer, Report, Run
from blackbox_zo.search import Search
from blackbox_zo.tally import StepTally
from oracles.llm._adapters import adapted_as
from oracles.llm._evaluate import Evaluator, Measures
from oracles.llm._examples import Examples
from oracles.llm._off_task import OFF_TASK, OffTask
from oracles.llm._oracle import Batches, Loss, LossOracle
from oracles.llm._validations import VALIDATION, validations

__all__ = ["FineTune", "Tuning", "finetune", "replay"]


class Tuning:
    """A model with its oracle, search and measures; `run` takes the steps.

    Args:
        model: As in `finetune`, like the other arguments.
        train: Examples or batches.
        loss: Maps (model, batch) to one value per example.
        rule: The rule. If the journal's run goes by the same one, but its schedule ends at another step, the run goes
            on with the given one from where it is: the learning rate of step t is from then on what the new schedule
            has at t. The states of the rule, such as moments, go on.
        batch_size: Examples per step.
        module: The searched parameters.
        estimator: The estimator.
        validation: Examples, or batches, for the measures.
        measures: As in `evaluate`.
        evaluate_every: Steps between validations.
        seed: Seed of the directions and the order of the examples.
        journal: A path or a `Journal`.
        snapshot_every: Moves between two snapshots beside the journal; see `Journal`.
        sweep: See `LossOracle`.
        directions_per: See `LossOracle`.
        micro_batch: See `LossOracle`.
        reuse: See `LossOracle`.
        numbers: Maps the results of `evaluate` to the ones to record; None records all.
        off_task: Texts on which the drift from the start model is measured, as often as `validation`; see `OffTask`.
        ranks: The processes that share each step and validation. Rank 0 alone keeps the journal, and the others
            continue from a copy of it; give the same arguments on all.

    Attributes:
        search: The search. Close it at the end.
        oracle: The oracle.
        measures: The measures between steps.

    Raises:
        ValueError: An argument is out of its range, or nothing matches `module`.
        JournalError: The journal is of another run or other weights.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        train: Examples | Batches,
        loss: Loss,
        *,
        rule: Rule,
        batch_size: int = 16,
        module: Module | str = "all",
        estimator: Estimator | None = None,
        validation: Examples | Iterable[Any] | None = None,
        measures: Measures | None = None,
        evaluate_every: int = 0,
        seed: int = 0,
        journal: str | Path | Journal | None = None,
        snapshot_every: int | Literal["auto"] = "auto",
        sweep: Literal["auto", "batched", "scratch"] = "auto",
        directions_per: Literal["step", "example"] | None = None,
        micro_batch: int | None = None,
        reuse: bool | Literal["keep"] = True,
        numbers: Callable[[Mapping[str, float]], Mapping[str, float]] | None = None,
        off_task: Examples | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        if isinstance(train, Examples) and train.label and len(train) > 1 and len(set(train.label)) == 1:
            warnings.warn(
                f"All {len(train)} examples to learn from have one class, {train.label[0]}; there is nothing to tell "
                "apart. Add examples of the others.",
                stacklevel=2,
            )
        variable = module if isinstance(module, Module) else Module(model, module)
        estimator = estimator or RandomVector(1e-3, batch_size, "lowrank")
        batches = train.shuffled(batch_size, seed) if isinstance(train, Examples) else train
        if directions_per is None:
            size = min(batch_size, len(train)) if isinstance(train, Examples) else 0
            directions_per = "example" if getattr(estimator, "n_groups", 1) == size > 1 else "step"
        self.model = model
        self._stop: Stop | None = None
        asked = _Stoppable(self, loss) if callable(loss) else loss
        self.ranks = ranks
        self.oracle = LossOracle(
            model, batches, asked, sweep, directions_per, micro_batch=micro_batch, reuse=reuse, ranks=ranks
        )
        self.measures: list[Measure] = []
        if validation is not None:
            wanted = measures or {"loss": loss}
            found: Any = (
                _Stoppable(self, wanted)
                if callable(wanted)
                else {name: _Stoppable(self, measure) for name, measure in wanted.items()}
            )
            evaluator = Evaluator(model, validation, found, variable, ranks)
            self.measures = [
                Measure(VALIDATION, lambda _: evaluator() if numbers is None else numbers(evaluator()), evaluate_every)
            ]
        if off_task is not None:  # before a journal moves the weights
            self.measures.append(Measure(OFF_TASK, _Stoppable(self, OffTask(model, off_task)), evaluate_every))
        if isinstance(journal, Journal) and snapshot_every != "auto":
            raise ValueError("`snapshot_every` is said by the `Journal` that was given: `Journal(snapshot_every=...)`.")
        if ranks is not None:
            options = {"sweep": sweep, "directions_per": directions_per, "micro_batch": micro_batch, "reuse": reuse}
            ranks.agree({
                **versions(), **options, "estimator": describe(estimator), "rule": describe(rule), "seed": seed,
                "evaluate_every": evaluate_every, "weights": variable.fingerprint(), "moves": variable.version,
            })  # fmt: skip
            if not ranks.exchange("the start", isinstance(journal, Journal))[0]:
                journal = ranks.journal(None if isinstance(journal, Journal) else journal)
            if not ranks.first:
                snapshot_every = "auto" if isinstance(journal, Journal) else 0
        if isinstance(journal, str | Path):
            journal = Journal(journal, snapshot_every=snapshot_every)
        self._rule = rule
        goes_by = rule if journal is None else recorded_rule(journal.path, rule)
        self.search = Search(variable, estimator, goes_by, seed=seed, journal=journal)

    @property
    def rescheduled(self) -> bool:
        """Whether the learning rates from now on are others than those that the journal's run has gone by."""
        return bool(describe(self.search.rule) != describe(self._rule))

    def run(
        self,
        steps: int,
        *,
        patience: int = 10,
        time_limit: float | None = None,
        observers: Sequence[Observer] = (),
        stop: Stop | None = None,
    ) -> Run:
        """A `Run` that takes the steps.

        Args:
            steps: Total steps, including those in the journal.
            patience: End the run after this many steps in a row without a finite loss.
            time_limit: Seconds after which the run ends, at the end of the current step.
            observers: See `Run`.
            stop: See `Run`. The run can also stop before any forward pass, where the weights are consistent.
        """
        self._stop = stop
        left = max(0, steps - self.search.moves)
        limit: float | Callable[[], bool] | None = time_limit
        if self.ranks is not None and self.ranks.size > 1:
            self.ranks.agree({"steps": steps, "moves": self.search.moves, "patience": patience})
            limit = self.ranks.time_limit(time_limit)
        if left and self.rescheduled:
            self.search.reschedule(self._rule)
        return Run(
            self.search, self.oracle, steps=left, patience=patience, time_limit=limit, measures=self.measures,
            observers=observers, stop=stop,
        )  # fmt: skip


class _Stoppable:
    """A function, of a model and a batch for instance, that lets the run of a `Tuning` stop before each call.

    All other attributes, such as `last_tokens`, are those of the function.
    """

    def __init__(self, tuning: Tuning, function: Callable[..., Any]) -> None:
        self._tuning, self._function = tuning, function

    def __call__(self, *given: Any) -> Any:
        if self._tuning._stop is not None:
            self._tuning._stop.check()
        return self._function(*given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # during copying there is no function yet
            raise AttributeError(name)
        return getattr(self._function, name)


@dataclass
class FineTune:
    """The result of `finetune`.

    Attributes:
        model: The model, with the weights after the last step.
        reports: One for each new step; steps from the journal have none.
        search: The search, with its journal closed.
        oracle: The oracle.
        stopped: Why the run ended early; empty if it did not.
    """

    model: torch.nn.Module
    reports: list[Report]
    search: Search
    oracle: LossOracle
    stopped: str

    @property
    def validation(self) -> list[tuple[int, Mapping[str, float]]]:
        """(step, measures) of each validation of the whole run, before and after resumes."""
        return [(m.step, m.values) for m in validations(self.search.measured)]

    @property
    def off_task(self) -> list[tuple[int, Mapping[str, float]]]:
        """(step, `kl` and `perplexity`) of each off-task check; empty without `off_task`."""
        return [(m.step, m.values) for m in self.search.measured if m.name == OFF_TASK and m.values]


def finetune(
    model: torch.nn.Module,
    train: Examples | Batches,
    loss: Loss,
    *,
    steps: int,
    rule: Rule,
    progress: Any = None,
    **arguments: Any,
) -> FineTune:
    """Fine-tune a model by forward passes alone.

    Args:
        model: The model, in evaluation mode; its weights are changed in place.
        train: `Examples`, from which each step takes a shuffled batch, or batches as in `LossOracle`.
        loss: Maps (model, batch) to one value per example.
        steps: Total steps, including those in the journal.
        rule: The rule, such as `SGD(1e-4)`.
        progress: True shows a bar or lines; also a function called with the `Report` of each step, or observers.
        **arguments: Arguments of `Tuning`:

            - `batch_size=16`: examples per step, if `train` is `Examples`;
            - `module="all"`: the searched parameters: a `Module` of the model, or its argument `select`;
            - `estimator`: by default one low-rank direction per example, radius 1e-3;
            - `validation`: examples, or batches, for the measures;
            - `measures`: as in `evaluate`; by default the loss alone;
            - `off_task`: texts on which the drift from the start model is measured, as often; see `OffTask`;
            - `evaluate_every=0`: steps between validations; 0 validates only before the first step and after the last;
            - `seed=0`: seed of the directions and the order of the examples;
            - `journal`: a path; if it already holds this run, the run continues from its last step, bit for bit;
            - `snapshot_every="auto"`: moves between two snapshots beside the journal, from which a resume and `replay`
              start; see `Journal`;
            - `sweep`, `micro_batch`, `reuse`: see `LossOracle`;
            - `ranks`: the processes of `torchrun` that share the work; see `Tuning`;
            - `directions_per`: see `LossOracle`; by default "example" if there is one direction, or one group, per
              example, else "step".

    Returns:
        The run, even if it ended early because ten steps in a row had no finite loss; `stopped` then says so.

    Raises:
        ValueError: An argument is out of its range, or nothing matches `module`.
        JournalError: The journal is of another run or other weights.
    """
    tuning = Tuning(model, train, loss, rule=rule, **arguments)
    reports: list[Report] = []
    with tuning.search as search:
        others = tuning.ranks is not None and not tuning.ranks.first
        watched = [
            Callback(reports.append),
            *display(False if others and progress is True else progress, StepTally(steps)),
        ]
        run = tuning.run(steps, observers=watched)
        for _ in run:
            pass
    stopped = run.message if run.ended in (Ended.BARREN, Ended.FAILED) else ""
    return FineTune(model, reports, search, tuning.oracle, stopped)


def replay(journal: str | Path | JournalReader, model: torch.nn.Module | Module, steps: int | None = None) -> Module:
    """Give a base model the weights of a run after some step, from the journal and the snapshots beside it.

    The newest snapshot that is early enough is loaded, and only the moves after it are made again.

    Args:
        journal: The journal of the run, or a reader of it. It is only read.
        model: The model with the weights that the run began with. They are changed in place. If the run made an
            adapter (`--select lora`), the adapter is made again. Or a `StreamedModule` with the run's selection.
        steps: Number of moves to replay; None replays all.

    Returns:
        The `Module`, whose `model` has the weights.

    Raises:
        JournalError: The model's weights are not those that the run began with, or the run has fewer moves.
        ValueError: The run's selection, estimator or rule is a user's function, which a file cannot hold.
    """
    reader = journal if isinstance(journal, JournalReader) else read_journal(journal)
    header, journal = reader.header, reader.path
    described = header.get("variable") or {}
    if described.get("name") != "Module":
        raise JournalError(f"'{journal}' does not hold a run over the parameters of a model.")
    arguments = {name: rebuild(value, _none) for name, value in described.items() if name != "name"}
    if isinstance(arguments["select"], tuple):
        arguments["select"] = list(arguments["select"])
    if isinstance(model, Module):
        module = model
        if json.loads(json.dumps(module.describe())) != described or module.version:
            raise JournalError(f"'{journal}' searched {described}, not {module.describe()}; make the module as it was.")
    elif held := described.get("transfer_dtype"):
        raise JournalError(
            f"The weights of '{journal}' were held as {held}, so only a `StreamedModule` with transfer_dtype={held!r} "
            "gives them again (on the command line: --stream)."
        )
    else:
        module = Module(adapted_as(model, header), **arguments)
    if not same_start(header["start"], module.fingerprint()):
        raise JournalError(f"Journal '{journal}' started from weights other than this model's. Give its base model.")
    estimator, rule = (rebuild(header[name], find_public) for name in ("estimator", "rule"))
    search = Search(module, estimator, rule, seed=header["seed"], max_staleness=header["max_staleness"])
    search.replay(reader, moves=steps)
    if steps is not None and module.version < steps:
        raise JournalError(f"'{journal}' has {module.version} moves, fewer than the {steps} requested.")
    return module


def _none(name: str) -> Any:
    raise ValueError(f"`{name}` cannot be rebuilt from a file.")
