"""Observers that log a run to TensorBoard, MLflow, or Weights & Biases.

Each needs a package of its own, which is imported when the observer is made: `pip install 'blackbox-zo[tensorboard]'`,
`[mlflow]` or `[wandb]`.

These numbers and texts are logged, by name:

- after each step `search/value` (the mean of the step's values), `search/best`, `search/failed` and `search/nfev`, as
  in `Report`;
- each `Measure` when it is taken, under its own name, or `name/part` for one of its numbers;
- at the start the configuration: estimator, rule, seed, dimension, budget, and the class of the oracle;
- at the end how the run ended: the name of an `Ended` in lower case, and the sentence in `Run.message`.

The x axis is the number of moves made, for steps and measures alike: 0 before the first step. A resumed run continues
where it stopped. Numbers that are not finite are left out.

Values are logged as the search minimises them; with `maximize=True`, `search/value` and `search/best` are negated, for
an oracle that negates a return or an accuracy. Measures are logged as returned.

A tracker that fails later, for example because its server is gone, logs one warning and is dropped. The run
continues.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, final

from blackbox_zo._checks import check_at_least
from blackbox_zo._describe import describe, spell
from blackbox_zo._paths import expanded
from blackbox_zo._records import Ended, Report
from blackbox_zo._typing import override
from blackbox_zo._version import __version__
from blackbox_zo.journal import Measured
from blackbox_zo.run import Observer, Run

__all__ = ["MLflow", "TensorBoard", "Tracker", "WeightsAndBiases", "configuration"]

log = logging.getLogger(__name__)


class Tracker(Observer):
    """Base class of the trackers: decides which numbers are logged, when, and under which names.

    Args:
        every: Number of steps per logged step; measures are always logged.
        maximize: Whether to log the negated values.

    Raises:
        ValueError: `every` is not positive.
    """

    def __init__(self, *, every: int = 1, maximize: bool = False) -> None:
        check_at_least(type(self).__name__, 1, every=every)
        self.every, self.maximize = every, maximize
        self._given_up = False

    @abstractmethod
    def open(self, settings: Mapping[str, Any]) -> None:
        """Start logging, with the configuration of the run."""

    @abstractmethod
    def log(self, numbers: Mapping[str, float], moves: int) -> None:
        """Log finite numbers, by name, after this many moves."""

    @abstractmethod
    def finish(self, ended: Ended | None, message: str) -> None:
        """Log how the run ended, and close what `open` opened."""

    @override
    def begin(self, run: Run) -> None:
        """Log the configuration. Exceptions propagate, so that a wrong address is noticed at once."""
        self._given_up = False
        self.open(configuration(run))

    @override
    def stepped(self, run: Run, report: Report) -> None:
        """Log a step."""
        if (report.step + 1) % self.every == 0:
            sign = -1.0 if self.maximize else 1.0
            numbers = {"value": sign * report.value, "best": sign * report.best}
            numbers |= {"failed": report.failed, "nfev": report.nfev}
            self._send({f"search/{name}": number for name, number in numbers.items()}, run.search.moves)

    @override
    def measured(self, run: Run, measured: Measured) -> None:
        """Log a measure."""
        name, found = measured.name, measured.values
        self._send({name if part == name else f"{name}/{part}": found[part] for part in found}, measured.step)

    @override
    def end(self, run: Run) -> None:
        """Log how the run ended."""
        self._try(lambda: self.finish(run.ended, run.message))

    def _send(self, numbers: Mapping[str, float], moves: int) -> None:
        finite = {name: float(number) for name, number in numbers.items() if math.isfinite(number)}
        if finite:
            self._try(lambda: self.log(finite, moves))

    def _try(self, action: Callable[[], None]) -> None:
        if self._given_up:
            return
        try:
            action()
        except Exception as error:
            self._given_up = True
            log.warning("`%s` is dropped: %s: %s", type(self).__name__, type(error).__name__, error)


@final
class TensorBoard(Tracker):
    """Logs to a folder of TensorBoard event files with tensorboardX; torch is not needed.

    Args:
        folder: Folder for the event files. A resumed run may use the same folder.
        every: Number of steps per logged step; measures are always logged.
        maximize: Whether to log the negated values.

    Raises:
        ImportError: tensorboardX is not installed.

    Example:
        >>> import blackbox_zo as bz, tempfile
        >>> logs = TensorBoard(tempfile.mkdtemp())
        >>> result = bz.minimize(lambda x: x @ x, [1.0, 2.0], budget=20, progress=logs)
    """

    def __init__(self, folder: str | os.PathLike[str], *, every: int = 1, maximize: bool = False) -> None:
        super().__init__(every=every, maximize=maximize)
        self._package, self.folder = _package("tensorboardX", "tensorboard"), os.fspath(expanded(folder))
        self._writer: Any = None

    @override
    def open(self, settings: Mapping[str, Any]) -> None:
        """Open a new event file, with the configuration as text."""
        unique = f".{uuid.uuid4().hex[:8]}"  # else files of the same second would overwrite each other
        self._writer = self._package.SummaryWriter(self.folder, filename_suffix=unique)
        self._writer.add_text("configuration", f"```json\n{json.dumps(settings, indent=2)}\n```")
        self._writer.flush()

    @override
    def log(self, numbers: Mapping[str, float], moves: int) -> None:
        """Add the numbers as scalars."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, moves)

    @override
    def finish(self, ended: Ended | None, message: str) -> None:
        """Add how the run ended as text, and close the event file."""
        try:
            self._writer.add_text("ended", f"{_word(ended)}: {message}")
        finally:
            self._writer.close()


@final
class MLflow(Tracker):
    """Logs to a run of MLflow: numbers as metrics, the configuration as parameters, how it ended as tags.

    The status of the MLflow run is FINISHED, KILLED after an interruption, or FAILED after an exception or if the
    queries failed.

    Args:
        experiment: Name of the experiment, created if missing.
        name: Name of the MLflow run; None to let MLflow choose it.
        uri: The tracking server or store; None for MLflow's own setting, such as `MLFLOW_TRACKING_URI`.
        run_id: Id of an MLflow run to continue, for a resumed journal; None for a new one.
        every: Number of steps per logged step; measures are always logged.
        maximize: Whether to log the negated values.

    Attributes:
        run_id: Id of the MLflow run, once the run has started.

    Raises:
        ImportError: MLflow is not installed.
    """

    def __init__(
        self,
        experiment: str = "blackbox_zo",
        *,
        name: str | None = None,
        uri: str | None = None,
        run_id: str | None = None,
        every: int = 1,
        maximize: bool = False,
    ) -> None:
        super().__init__(every=every, maximize=maximize)
        self._package = _package("mlflow", "mlflow")
        self.experiment, self.name, self.uri, self.run_id = experiment, name, uri, run_id
        self._client: Any = None

    @override
    def open(self, settings: Mapping[str, Any]) -> None:
        """Start or continue a run of MLflow, and log the configuration as parameters."""
        self._client = client = self._package.MlflowClient(tracking_uri=self.uri)
        if self.run_id is None:
            known = client.get_experiment_by_name(self.experiment)
            experiment = client.create_experiment(self.experiment) if known is None else known.experiment_id
            self.run_id = str(client.create_run(experiment, run_name=self.name).info.run_id)
            params = [self._package.entities.Param(key, value[:500]) for key, value in _flat(settings).items()]
            client.log_batch(self.run_id, params=params)
        else:
            client.update_run(self.run_id, status="RUNNING")

    @override
    def log(self, numbers: Mapping[str, float], moves: int) -> None:
        """Log the numbers as metrics, in one request."""
        now, kind = int(time.time() * 1000), self._package.entities.Metric
        metrics = [kind(re.sub(r"[^\w\-. /]", "_", name), number, now, moves) for name, number in numbers.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    @override
    def finish(self, ended: Ended | None, message: str) -> None:
        """Tag the MLflow run with how the run ended, and end it."""
        self._client.set_tag(self.run_id, "ended", _word(ended))
        self._client.set_tag(self.run_id, "message", message)
        status = "KILLED" if ended is Ended.INTERRUPTED else "FAILED" if ended in _BAD else "FINISHED"
        self._client.set_terminated(self.run_id, status)


@final
class WeightsAndBiases(Tracker):
    """Logs to a run of Weights & Biases: numbers as history, the configuration as config, how it ended as summary.

    The run is marked as failed after an exception or if the queries failed.

    Args:
        every: Number of steps per logged step; measures are always logged.
        maximize: Whether to log the negated values.
        **options: Arguments of `wandb.init`, such as `project`, `name` and `mode="offline"`; for a resumed journal the
            `id` of its run and `resume="allow"`.

    Attributes:
        wandb_run: The run of `wandb`, once the run has started.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, *, every: int = 1, maximize: bool = False, **options: Any) -> None:
        super().__init__(every=every, maximize=maximize)
        self._package = _package("wandb", "wandb")
        self.options = options
        self.wandb_run: Any = None

    @override
    def open(self, settings: Mapping[str, Any]) -> None:
        """Start a run of Weights & Biases, next to any open one, with the number of moves as its x axis."""
        config = {**settings, **self.options.get("config", {})}
        self.wandb_run = run = self._package.init(**{"reinit": "create_new", **self.options, "config": config})
        run.define_metric("moves", hidden=True)
        run.define_metric("*", step_metric="moves")

    @override
    def log(self, numbers: Mapping[str, float], moves: int) -> None:
        """Log the numbers as one entry of the history."""
        self.wandb_run.log({"moves": moves, **numbers})

    @override
    def finish(self, ended: Ended | None, message: str) -> None:
        """Put how the run ended into the summary, and finish the run of `wandb`."""
        try:
            self.wandb_run.summary.update({"ended": _word(ended), "message": message})
        finally:
            self.wandb_run.finish(exit_code=int(ended in _BAD))


_BAD = (Ended.RAISED, Ended.FAILED, Ended.BARREN)


def configuration(run: Run) -> dict[str, Any]:
    """The configuration of a run, as JSON: estimator, rule, seed, dimension, budget, oracle and library version."""
    search = run.search
    return {
        "estimator": describe(search.estimator),
        "rule": describe(search.rule),
        "seed": search.seed,
        "dimension": search.variable.size,
        "budget": search.budget,
        "oracle": type(run.oracle).__name__,
        "blackbox_zo": __version__,
    }


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """One string per entry: an estimator or a rule as code, and each of its arguments."""
    out: dict[str, str] = {}
    for name, value in settings.items():
        out[name] = value if isinstance(value, str) else spell(value)
        if isinstance(value, Mapping):
            out |= {f"{name}.{key}": spell(part) for key, part in value.items() if key != "name"}
    return out


def _word(ended: Ended | None) -> str:
    return "unknown" if ended is None else ended.name.lower()


def _package(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This observer needs the package `{name}` ({error}). Install it with `pip install 'blackbox-zo[{extra}]'`."
        ) from error
