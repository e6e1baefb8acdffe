"""TensorBoard, MLflow, and Weights & Biases: what they wrote is read back from their own files."""

from __future__ import annotations

import importlib
import logging
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo import trackers
from blackbox_zo._typing import Floats
from blackbox_zo.trackers import MLflow, TensorBoard, Tracker, WeightsAndBiases

Points = dict[str, list[tuple[int, float]]]
"""The curves that were logged: (moves, number) by name."""


def bowl(x: Floats) -> float:
    return float(((x - 1.0) ** 2).sum())


def run_with(*observers: bz.Observer, steps: int = 4, search: bz.Search | None = None, fun: Any = bowl) -> bz.Run:
    """A short run with two measures, one of several numbers of which one is NaN."""
    search = search or bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), bz.SGD(0.05), seed=7)
    measures = [
        bz.Measure("centre", lambda s: bowl(s.x), every=2),
        bz.Measure("validation", lambda s: {"loss": 2.0 * bowl(s.x), "gap": float("nan")}, every=0),
    ]
    run = bz.Run(search, bz.FunctionOracle(fun), steps=steps, measures=measures, observers=observers)
    run.to_the_end()
    return run


class Kept(bz.Observer):
    """What trackers should have logged, kept by the plainest observer."""

    def __init__(self) -> None:
        self.points: Points = {}

    def stepped(self, run: bz.Run, report: bz.Report) -> None:
        for name in ("value", "best", "failed", "nfev"):
            self.points.setdefault(f"search/{name}", []).append((run.search.moves, float(getattr(report, name))))

    def measured(self, run: bz.Run, measured: bz.Measured) -> None:
        for part, value in measured.values.items():
            name = part if part == measured.name else f"{measured.name}/{part}"
            if np.isfinite(value):
                self.points.setdefault(name, []).append((measured.step, value))


def near(found: Points, expected: Points) -> None:
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [moves for moves, _ in found[name]] == [moves for moves, _ in points], name
        np.testing.assert_allclose([v for _, v in found[name]], [v for _, v in points], rtol=1e-6)


# --------------------------------------------------------------------------------------------- TensorBoard


def events(folder: Path) -> Iterator[Any]:
    """The events of all event files, in order: records of length, checksum, message, checksum."""
    Event = importlib.import_module("tensorboardX.proto.event_pb2").Event

    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def of_tensorboard(folder: Path) -> tuple[Points, dict[str, str]]:
    points: Points = {}
    texts: dict[str, str] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                points.setdefault(value.tag, []).append((event.step, value.simple_value))
            else:
                texts[value.tag.removesuffix("/text_summary")] = value.tensor.string_val[0].decode()
    return points, texts


def test_tensorboard_holds_each_step_each_measure_the_configuration_and_the_end(tmp_path: Path) -> None:
    kept = Kept()
    run_with(kept, TensorBoard(tmp_path))
    points, texts = of_tensorboard(tmp_path)
    near(points, kept.points)
    assert [moves for moves, _ in points["search/value"]] == [1, 2, 3, 4]
    assert [moves for moves, _ in points["centre"]] == [0, 2, 4]
    assert [moves for moves, _ in points["validation/loss"]] == [0, 4]
    assert '"name": "RandomVector"' in texts["configuration"]
    assert '"seed": 7' in texts["configuration"]
    assert texts["ended"] == "steps: All steps are done."


def test_a_resumed_run_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    kept, path = Kept(), tmp_path / "run.jsonl"
    for steps in (2, 3):
        with bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), seed=7, journal=path) as search:
            run_with(kept, TensorBoard(tmp_path / "logs"), steps=steps, search=search)
    points, _ = of_tensorboard(tmp_path / "logs")
    near(points, kept.points)
    assert [moves for moves, _ in points["search/best"]] == [1, 2, 3, 4, 5]


def test_values_can_have_the_users_sign_and_steps_can_be_left_out(tmp_path: Path) -> None:
    kept = Kept()
    run_with(kept, TensorBoard(tmp_path, every=3, maximize=True), steps=7)
    points, _ = of_tensorboard(tmp_path)
    for name in ("value", "best"):
        expected = [(moves, -value) for moves, value in kept.points[f"search/{name}"] if moves % 3 == 0]
        near({name: points[f"search/{name}"]}, {name: expected})
    assert points["search/nfev"] == [(3, 12.0), (6, 24.0)]
    near({"centre": points["centre"]}, {"centre": kept.points["centre"]})


def test_a_step_without_a_value_leaves_no_point(tmp_path: Path) -> None:
    ranks = bz.RankOnly(bz.FunctionOracle(bowl))
    search = bz.Search(np.zeros(3), bz.RankBased(0.1, 4))
    run = bz.Run(search, ranks, steps=2, observers=[TensorBoard(tmp_path)])
    run.to_the_end()
    points, _ = of_tensorboard(tmp_path)
    assert points.keys() == {"search/failed", "search/nfev"}


# -------------------------------------------------------------------------------------------------- MLflow


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return pytest.importorskip(
        "mlflow", reason="mlflow-skinny (20 packages, 90 MB) is no part of the test extra; install blackbox-zo[mlflow]"
    )


def of_mlflow(client: Any, run_id: str, names: Any) -> Points:
    return {
        name: [(m.step, m.value) for m in sorted(client.get_metric_history(run_id, name), key=lambda m: m.step)]
        for name in names
    }


def test_mlflow_holds_each_step_each_measure_the_configuration_and_the_end(mlflow: Any, tmp_path: Path) -> None:
    kept, uri = Kept(), (tmp_path / "runs").as_uri()
    tracker = MLflow("test", name="first", uri=uri)
    run_with(kept, tracker)
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_run(tracker.run_id)
    assert found.data.metrics.keys() == kept.points.keys()
    near(of_mlflow(client, tracker.run_id or "", kept.points), kept.points)
    assert found.info.run_name == "first"
    assert found.info.status == "FINISHED"
    assert found.data.tags["ended"] == "steps"
    assert found.data.tags["message"] == "All steps are done."
    assert found.data.params["rule"].startswith("SGD(learning_rate=0.05")
    assert found.data.params["rule.learning_rate"] == "0.05"
    assert found.data.params["seed"] == "7"


def test_mlflow_goes_on_with_a_run_and_knows_one_that_failed(mlflow: Any, tmp_path: Path) -> None:
    kept, uri, path = Kept(), (tmp_path / "runs").as_uri(), tmp_path / "run.jsonl"

    def fails_later(x: Floats) -> float:
        if search.steps > 5:
            raise RuntimeError("the simulator is gone")
        return bowl(x)

    with bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), seed=7, journal=path) as search:
        first = MLflow("test", uri=uri)
        run_with(kept, first, steps=2, search=search)
    with bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), seed=7, journal=path) as search:
        second = MLflow("test", uri=uri, run_id=first.run_id)
        with pytest.raises(RuntimeError, match="the simulator is gone"):
            run_with(kept, second, steps=9, search=search, fun=fails_later)
    client = mlflow.MlflowClient(tracking_uri=uri)
    near(of_mlflow(client, first.run_id or "", kept.points), kept.points)
    found = client.get_run(first.run_id)
    assert len(client.search_runs([found.info.experiment_id])) == 1
    assert (found.info.status, found.data.tags["ended"]) == ("FAILED", "raised")


def test_names_that_mlflow_does_not_take_are_written_with_underscores(mlflow: Any, tmp_path: Path) -> None:
    tracker = MLflow(uri=(tmp_path / "runs").as_uri())
    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2))
    measure = bz.Measure("f(x) at α", lambda s: bowl(s.x))
    bz.Run(search, bz.FunctionOracle(bowl), steps=1, measures=[measure], observers=[tracker]).to_the_end()
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    assert "f_x_ at α" in client.get_run(tracker.run_id).data.metrics


# ---------------------------------------------------------------------------------------- Weights & Biases


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What makes wandb write to a folder and nowhere else."""
    pytest.importorskip(
        "wandb", reason="wandb (17 packages, 70 MB) is no part of the test extra; install blackbox-zo[wandb]"
    )
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return {"mode": "offline", "project": "test", "dir": str(tmp_path)}


def of_wandb(folder: Path) -> tuple[Points, dict[str, str], dict[str, str], int]:
    """What a run's file holds, once it ends with an exit code: wandb's own process may write a little longer."""
    until = time.monotonic() + 30
    while True:
        found = read_wandb(folder)
        if found[-1] >= 0 or time.monotonic() > until:
            return found
        time.sleep(0.05)


def read_wandb(folder: Path) -> tuple[Points, dict[str, str], dict[str, str], int]:
    """Curves over their x axis, configuration, summary and exit code: a log of records in blocks of 32 KiB."""
    Record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, where, whole = path.read_bytes(), 7, b""
    points: Points = {}
    config: dict[str, str] = {}
    summary: dict[str, str] = {}
    code, axis = -1, ""
    while where + 7 <= len(data):
        room = 32768 - where % 32768
        if room < 7:
            where += room
            continue
        size, kind = struct.unpack("<HB", data[where + 4 : where + 7])
        whole += data[where + 7 : where + 7 + size]
        where += 7 + size
        if where > len(data):  # still being written
            break
        if kind in (1, 4):  # a whole record, or the last part of one
            record, whole = Record.FromString(whole), b""
            config |= {item.key: item.value_json for item in record.run.config.update}
            summary |= {item.key or item.nested_key[0]: item.value_json for item in record.summary.update}
            code = record.exit.exit_code if record.WhichOneof("record_type") == "exit" else code
            axis = record.metric.step_metric if record.metric.glob_name == "*" else axis
            row = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            for name in row.keys() - {axis}:
                if not name.startswith("_"):
                    points.setdefault(name, []).append((int(row[axis]), float(row[name])))
    return points, config, summary, code


def test_wandb_holds_each_step_each_measure_the_configuration_and_the_end(
    offline: dict[str, Any], tmp_path: Path
) -> None:
    kept = Kept()
    run_with(kept, WeightsAndBiases(**offline, config={"data": "2024-05"}))
    points, config, summary, code = of_wandb(tmp_path)
    near(points, kept.points)
    assert '"radius":0.1' in config["estimator"].replace(" ", "")
    assert (config["seed"], config["data"]) == ("7", '"2024-05"')
    assert (summary["ended"], summary["message"]) == ('"steps"', '"All steps are done."')
    assert code == 0


def test_wandb_knows_a_run_that_failed(offline: dict[str, Any], tmp_path: Path) -> None:
    run_with(WeightsAndBiases(**offline), fun=lambda x: float("nan"))
    _, _, summary, code = of_wandb(tmp_path)
    assert (summary["ended"], code) == ('"failed"', 1)


# ----------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (lambda: TensorBoard("logs"), "tensorboardX", "tensorboard"),
        (MLflow, "mlflow", "mlflow"),
        (WeightsAndBiases, "wandb", "wandb"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    make: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs the package `{package}` .*pip install 'blackbox-zo\[{extra}\]'"):
        make()


class Flaky(Tracker):
    """A tracker whose server answers so often and then no more."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers, self.asked = answers, 0

    def open(self, settings: Any) -> None:
        self._ask()

    def log(self, numbers: Any, moves: int) -> None:
        self._ask()

    def finish(self, ended: Any, message: str) -> None:
        self._ask()

    def _ask(self) -> None:
        self.asked += 1
        if self.asked > self.answers:
            raise ConnectionError("no answer")


def test_a_tracker_that_fails_is_given_up_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky(answers=3)
    with caplog.at_level(logging.WARNING):
        run = run_with(flaky, steps=5)
    assert run.ended is bz.Ended.STEPS
    assert flaky.asked == 4
    assert [r.message for r in caplog.records] == ["`Flaky` is dropped: ConnectionError: no answer"]


def test_a_tracker_that_cannot_begin_ends_the_run() -> None:
    with pytest.raises(ConnectionError, match="no answer"):
        run_with(Flaky(answers=0))


def test_every_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"`TensorBoard\(every=\.\.\.\)` must be .* got 0"):
        TensorBoard("logs", every=0)


def test_the_configuration_is_json_for_what_is_the_users_own() -> None:
    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), bz.SGD(lambda moves: 0.1), budget=8)
    run = bz.Run(search, bz.Repeat(bz.FunctionOracle(bowl), 2))
    found = trackers.configuration(run)
    assert found["rule"]["learning_rate"]["python"].endswith("<lambda>")
    assert (found["oracle"], found["budget"], found["dimension"]) == ("Repeat", 8, 3)
