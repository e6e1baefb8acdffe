"""The search algorithm for Ray Tune."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.tune", reason="needs Ray Tune, which is large: pip install 'blackbox-zo[ray]'")

from ray import tune

import blackbox_zo as bz
from blackbox_zo.ray import Searcher

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own

SPACE = {
    "x": tune.uniform(-3, 5),
    "net": {"lr": tune.loguniform(1e-4, 1.0), "depth": tune.randint(1, 9), "kind": tune.choice(["relu", None, "tanh"])},
    "q": tune.quniform(0, 2, 0.25),
    "constant": 7,
}


def ready(searcher: Searcher, space: Any = SPACE, mode: str = "min") -> Searcher:
    assert searcher.set_search_properties("loss", mode, space)
    return searcher


def loss(config: Any) -> float:
    net = config["net"]
    off = (config["x"] - 2) ** 2 + math.log10(net["lr"] / 0.1) ** 2 + (config["q"] - 0.75) ** 2
    return float(off + (net["depth"] - 6) ** 2 / 9 + (net["kind"] is not None))


def step(searcher: Searcher, name: str) -> Any:
    config = searcher.suggest(name)
    searcher.on_trial_complete(name, {"loss": loss(config)})
    return config


def test_it_converges() -> None:
    searcher = ready(Searcher(seed=1))
    first = step(searcher, "0")
    assert first["x"] == 1.0 and first["net"]["lr"] == pytest.approx(0.01) and first["net"]["kind"] is None
    configs = [step(searcher, str(i)) for i in range(1, 200)]
    assert {type(c["net"]["depth"]) for c in configs} == {int}
    assert min(map(loss, configs)) < 0.1


def test_it_maximises() -> None:
    one, other = ready(Searcher(seed=1)), ready(Searcher(seed=1), mode="max")
    for i in range(40):
        config = step(one, str(i))
        assert other.suggest(str(i)) == config
        other.on_trial_complete(str(i), {"loss": -loss(config)})


def test_eight_trials_at_once_and_errors() -> None:
    searcher = ready(Searcher(bz.EvolutionStrategy(0.3), seed=1))
    running = {str(i): searcher.suggest(str(i)) for i in range(8)}
    assert len({json.dumps(c) for c in running.values()}) == 8
    best = math.inf
    for i in range(8, 200):
        name = list(running)[3 * i % 8]
        value = loss(running.pop(name))
        if i % 5:
            searcher.on_trial_complete(name, {"loss": value})
            best = min(best, value)
        else:
            searcher.on_trial_complete(name, error=True)
        running[str(i)] = searcher.suggest(str(i))
    assert best < 1.0


def test_all_fail() -> None:
    searcher = ready(Searcher())
    for i in range(20):
        searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), {"another": 1.0} if i % 2 else None)
    assert math.isnan(searcher._search.best[1])  # type: ignore[union-attr]


def test_a_restored_search_goes_on(tmp_path: Path) -> None:
    whole, first = ready(Searcher(seed=2)), ready(Searcher(seed=2))
    for i in range(25):
        assert step(whole, str(i)) == step(first, str(i))
    waiting = whole.suggest("w"), first.suggest("w")
    first.save(str(tmp_path / "state"))
    again = Searcher(seed=9)
    again.restore(str(tmp_path / "state"))
    ready(again)
    assert waiting[0] == waiting[1]
    for searcher in (whole, again):
        searcher.on_trial_complete("w", {"loss": 1.5})
    assert [step(whole, str(i)) for i in range(30, 60)] == [step(again, str(i)) for i in range(30, 60)]
    with pytest.raises(RuntimeError, match="cannot be set to another state"):
        again.restore(str(tmp_path / "state"))


def test_known_points_and_a_start() -> None:
    searcher = ready(Searcher(x0={"x": 4.0, "net": {"depth": 3}}))
    searcher.add_evaluated_point({"x": 2.0, "net": {"lr": 0.1, "depth": 6, "kind": None}, "q": 0.75}, 0.0)
    assert searcher._search.best[1] == 0.0  # type: ignore[union-attr]
    first = searcher.suggest("0")
    assert first["x"] == 4.0 and first["net"]["depth"] == 3


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"a": tune.grid_search([1, 2])}, "'a'.* is a grid search; use `tune.choice`"),
        ({"a": {"b": tune.sample_from(lambda: 1)}}, r"`param_space\['a/b'\]` is .* has no coordinate; use uniform"),
        ({"a": tune.qloguniform(2, 100, 2)}, "has no coordinate"),
        ({"a": 1}, "`param_space` has nothing to search"),
    ],
)
def test_spaces_that_cannot_be_represented(space: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ready(Searcher(), space)


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match='`method` must be "auto", an estimator'):
        Searcher("cma")
    with pytest.raises(ValueError, match="mode"):
        Searcher(mode="least")
    with pytest.raises(RuntimeError, match="needs a space, a metric and a mode"):
        Searcher().suggest("0")
    with pytest.raises(ValueError, match=r"Parameter 'x': 9.0 is not between"):
        ready(Searcher(x0={"x": 9.0}))


def train(config: Any) -> dict[str, float]:
    return {"loss": (config["x"] - 2) ** 2 + config["constant"]}


def test_in_a_tuner(tmp_path: Path) -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        tuner = tune.Tuner(
            train,
            param_space={"x": tune.uniform(-3, 5), "constant": 7},
            tune_config=tune.TuneConfig(
                search_alg=Searcher(seed=1), metric="loss", mode="min", num_samples=8, max_concurrent_trials=2
            ),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        )
        best = tuner.fit().get_best_result()
    finally:
        ray.shutdown()
    assert best.metrics["loss"] == pytest.approx(7, abs=0.1)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    monkeypatch.delitem(sys.modules, "blackbox_zo.ray")
    with pytest.raises(ImportError, match=r"`blackbox_zo.ray` needs the package `ray.tune` .*zo\[ray\]"):
        bz.__getattr__("ray")
