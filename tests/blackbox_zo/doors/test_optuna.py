"""The sampler for Optuna: its own tests for samplers, and what is promised besides."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="needs optuna: pip install 'blackbox-zo[optuna]'")

import blackbox_zo as bz  # noqa: E402
from blackbox_zo.optuna import Sampler  # noqa: E402

pytest_samplers = pytest.importorskip("optuna.testing.pytest_samplers", reason="this optuna has no tests for samplers")
HUB = Path(__file__).parents[3] / "packages" / "optunahub" / "package"
SPACE = {f"x{i}": optuna.distributions.FloatDistribution(-5, 5) for i in range(3)}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.filterwarnings("ignore:Parameter .* is sampled by:UserWarning")
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
class TestOptunasOwn(
    pytest_samplers.BasicSamplerTestCase,  # type: ignore[misc, name-defined]
    pytest_samplers.RelativeSamplerTestCase,  # type: ignore[misc, name-defined]
    pytest_samplers.SingleOnlySamplerTestCase,  # type: ignore[misc, name-defined]
):
    @pytest.fixture(params=["auto", "cma"])
    def sampler(self, request: Any) -> Callable[[], Any]:
        return lambda: Sampler("auto" if request.param == "auto" else bz.EvolutionStrategy(0.3), seed=0)


def sphere(trial: Any) -> float:
    return float(sum((trial.suggest_float(f"x{i}", -5, 5) - i) ** 2 for i in range(3)))


def rosenbrock(trial: Any) -> float:
    x = [trial.suggest_float(f"x{i}", -5, 5) for i in range(4)]
    return float(sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))


def params(study: Any) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def test_a_study_is_a_search_of_minimize() -> None:
    study = optuna.create_study(sampler=Sampler(seed=3, search_space=SPACE))
    study.optimize(sphere, n_trials=100)
    points = []

    def f(u: Any) -> float:
        points.append([-5 * (1 - v) + 5 * v for v in u.tolist()])
        return float(sum((p - i) ** 2 for i, p in enumerate(points[-1])))

    bz.minimize(f, [0.5] * 3, budget=100, bounds=(0, 1), seed=3)
    assert [list(p.values()) for p in params(study)] == [pytest.approx(p, abs=1e-12) for p in points]
    assert study.best_value < 1e-8


def test_the_first_trial_is_the_start_and_costs_no_query() -> None:
    study = optuna.create_study(sampler=Sampler(seed=1, x0={"x1": 2.0}))
    study.optimize(sphere, n_trials=2)
    assert params(study) == [pytest.approx({"x0": 0.0, "x1": 2.0, "x2": 0.0})] * 2  # the second is the noise probe


def test_it_maximises() -> None:
    up = optuna.create_study(direction="maximize", sampler=Sampler(seed=1))
    up.optimize(lambda trial: -sphere(trial), n_trials=60)
    down = optuna.create_study(sampler=Sampler(seed=1))
    down.optimize(sphere, n_trials=60)
    assert params(up) == params(down) and up.best_value > -1e-6


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_study_goes_on_where_it_stopped(tmp_path: Path, storage: str) -> None:
    def load(name: str) -> Any:
        if storage == "journal":
            backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "j"))
            kept: Any = optuna.storages.JournalStorage(backend)
        else:
            kept = f"sqlite:///{tmp_path / 's.db'}"
        return optuna.create_study(storage=kept, study_name=name, load_if_exists=True, sampler=Sampler(seed=5))

    whole = load("whole")
    whole.optimize(rosenbrock, n_trials=15)
    for _ in range(3):
        parts = load("parts")
        parts.optimize(rosenbrock, n_trials=5)
    assert params(parts) == params(whole)


def test_without_a_seed_too() -> None:
    study = optuna.create_study(sampler=Sampler())
    study.optimize(rosenbrock, n_trials=30)
    before, study.sampler = study.sampler, Sampler()
    copied = optuna.create_study(sampler=before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trial in study.trials:
            copied.add_trial(trial)
        for key, value in study._storage.get_study_system_attrs(study._study_id).items():
            copied._storage.set_study_system_attr(copied._study_id, key, value)
    study.optimize(rosenbrock, n_trials=20)
    copied.optimize(rosenbrock, n_trials=20)
    assert params(study) == params(copied)


def test_a_killed_trial_is_asked_again_where_the_search_waits_for_it() -> None:
    study = optuna.create_study(sampler=Sampler(seed=1, search_space=SPACE))
    study.optimize(sphere, n_trials=1)
    dead = study.ask()  # its process dies here
    for name in SPACE:
        dead.suggest_float(name, -5, 5)
    study.sampler = Sampler(seed=1, search_space=SPACE)
    study.optimize(sphere, n_trials=1)
    assert params(study)[2] == params(study)[1]
    study.optimize(sphere, n_trials=60)
    assert study.best_value < 1e-8


def test_workers_share_one_search() -> None:
    """Two processes that take turns: together they ask what one would."""
    one = optuna.create_study(sampler=Sampler(seed=1, search_space=SPACE))
    one.optimize(sphere, n_trials=40)
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="s")
    workers = [optuna.load_study(study_name="s", storage=storage) for _ in range(2)]
    for worker in workers:
        worker.sampler = Sampler(search_space=SPACE, seed=1)
    for i in range(40):
        workers[i % 2].optimize(sphere, n_trials=1)
    assert params(workers[0]) == params(one)


@pytest.mark.parametrize("method", ["auto", bz.EvolutionStrategy(0.3)])
def test_eight_trials_at_once(method: Any) -> None:
    study = optuna.create_study(sampler=Sampler(method, seed=1, search_space=SPACE))
    running = [study.ask(SPACE) for _ in range(8)]
    assert len({tuple(t.params.values()) for t in running}) == 8  # no point is out twice
    for k in range(200):
        trial = running.pop(3 * k % 8)
        study.tell(trial, sum((v - i) ** 2 for i, v in enumerate(trial.params.values())))
        running.append(study.ask(SPACE))
    assert study.best_value < (1e-6 if method == "auto" else 1.0)


def test_trials_of_others_are_known_points() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    study.optimize(sphere, n_trials=20)
    study.sampler = Sampler(seed=1)
    study.optimize(sphere, n_trials=1)
    best = min(study.trials[:20], key=lambda t: t.value)
    assert params(study)[20] == pytest.approx(best.params)  # its value is known; this is the noise probe
    study.enqueue_trial({f"x{i}": float(i) for i in range(3)})
    study.optimize(sphere, n_trials=40)
    assert study.best_value == 0.0 and study.trials[21].value == 0.0


def test_a_partly_fixed_trial_gives_its_question_back() -> None:
    plain = optuna.create_study(sampler=Sampler(seed=1, search_space=SPACE))
    plain.optimize(sphere, n_trials=10)
    study = optuna.create_study(sampler=Sampler(seed=1, search_space=SPACE))
    study.optimize(sphere, n_trials=3)
    study.enqueue_trial({"x0": 4.5})
    study.optimize(sphere, n_trials=8)
    assert params(study)[3]["x0"] == 4.5
    assert params(study)[4:] == params(plain)[3:]


def test_failed_and_pruned_trials_are_failed_queries() -> None:
    def failing(trial: Any) -> float:
        value = sphere(trial)
        if trial.params["x0"] < -0.5:
            raise RuntimeError("no")
        if trial.params["x1"] > 3:
            trial.report(-100.0, 0)
            raise optuna.TrialPruned
        if trial.params["x2"] < 0:
            return math.nan
        trial.set_constraint("c", 1.0 if trial.params["x2"] > 4 else -1.0)
        return value

    study = optuna.create_study(sampler=Sampler(seed=1, search_space=SPACE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.optimize(failing, n_trials=150, catch=(RuntimeError,))
    assert study.best_value < 1e-4
    assert {t.state.name for t in study.trials} >= {"COMPLETE", "FAIL"}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_violated_constraint_is_a_failure_whatever_the_value() -> None:
    def violating(trial: Any) -> float:
        value = sphere(trial)
        trial.set_constraint("c", trial.params["x2"] - 1.0)
        return value

    def failing(trial: Any) -> float:
        value = sphere(trial)
        return math.nan if trial.params["x2"] > 1.0 else value

    studies = [optuna.create_study(sampler=Sampler(seed=1, search_space=SPACE)) for _ in range(2)]
    for study, objective in zip(studies, (violating, failing), strict=True):
        study.optimize(objective, n_trials=40)
    assert params(studies[0]) == params(studies[1])
    assert any(t.params["x2"] > 1 for t in studies[0].trials)


def test_a_method_that_uses_known_points_goes_on_exactly() -> None:
    """What the search will ask itself is no known point before."""
    pytest.importorskip("nevergrad", reason="needs nevergrad: pip install 'blackbox-zo[nevergrad]'")

    def sampler() -> Sampler:
        return Sampler(bz.Nevergrad("OnePlusOne"), seed=1, search_space=SPACE)

    whole = optuna.create_study(sampler=sampler())
    whole.optimize(sphere, n_trials=30)
    parts = optuna.create_study()
    for _ in range(3):
        parts.sampler = sampler()
        parts.optimize(sphere, n_trials=10)
    assert params(parts) == params(whole)


def test_all_trials_fail() -> None:
    study = optuna.create_study(sampler=Sampler(seed=1))

    def failing(trial: Any) -> float:
        sphere(trial)
        raise RuntimeError("no")

    study.optimize(failing, n_trials=30, catch=(RuntimeError,))
    study.sampler = Sampler(seed=1, search_space=SPACE)
    study.optimize(failing, n_trials=30, catch=(RuntimeError,))
    assert len({tuple(p.values()) for p in params(study)}) > 40  # it looks elsewhere


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=Sampler())
    with pytest.raises(ValueError, match=r"optimises one value, and this study has 2 objectives; use `optuna"):
        study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0.0), n_trials=1)


def test_parameters_that_come_and_go_are_said_once() -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", 0, 1)
        return float(x + (trial.suggest_float("extra", 0, 1) if trial.number % 2 else 0.0))

    study = optuna.create_study(sampler=Sampler(seed=1))
    with pytest.warns(
        UserWarning, match=r"Parameter 'extra' is sampled by `RandomSampler`: it is not in every"
    ) as said:
        study.optimize(objective, n_trials=20)
    assert len(said) == 1 and min(t.params["x"] for t in study.trials) < 0.5
    quiet = optuna.create_study(sampler=Sampler(seed=1, warn_independent_sampling=False))
    quiet.optimize(objective, n_trials=20)


def test_a_space_that_changes_starts_anew_from_the_best() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    study.optimize(sphere, n_trials=20)
    wide = {f"x{i}": optuna.distributions.FloatDistribution(-9, 9) for i in range(3)}
    study.sampler = Sampler(seed=1, search_space=wide)
    study.optimize(lambda t: sum((t.suggest_float(f"x{i}", -9, 9) - i) ** 2 for i in range(3)), n_trials=1)
    assert params(study)[-1] == pytest.approx(study.best_params)
    none = {"x0": optuna.distributions.FloatDistribution(5, 9)}
    study.sampler = Sampler(seed=1, search_space=none)
    study.optimize(lambda t: t.suggest_float("x0", 5, 9), n_trials=1)
    assert params(study)[-1] == {"x0": 7.0}


def test_choices_and_whole_numbers() -> None:
    def objective(trial: Any) -> float:
        kind = trial.suggest_categorical("kind", [None, True, 1, "1", 2.5, "z"])
        n = trial.suggest_int("n", 2, 20, step=3)
        s = trial.suggest_float("s", 0.0, 1.0, step=0.25)
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        return float((kind != "1") + (n - 11) ** 2 + (s - 0.75) ** 2 + math.log10(lr / 1e-3) ** 2)

    study = optuna.create_study(sampler=Sampler(seed=1))
    study.optimize(objective, n_trials=200)
    best = study.best_params
    assert (best["kind"], best["n"], best["s"]) == ("1", 11, 0.75) and best["lr"] == pytest.approx(1e-3, rel=0.05)


def test_where_there_are_finitely_many_none_is_asked_twice() -> None:
    study = optuna.create_study(sampler=Sampler(seed=1))
    study.optimize(lambda t: t.suggest_int("a", 0, 4) + t.suggest_categorical("b", ["x", "y"]).count("y"), n_trials=10)
    assert len({tuple(p.values()) for p in params(study)}) == 10 and study.best_value == 0


def test_a_copy_and_a_pickle_carry_on() -> None:
    study = optuna.create_study(sampler=Sampler(seed=1))
    study.optimize(rosenbrock, n_trials=25)
    whole = optuna.create_study(sampler=Sampler(seed=1))
    whole.optimize(rosenbrock, n_trials=35)
    study.sampler = pickle.loads(pickle.dumps(copy.deepcopy(study.sampler)))
    study.optimize(rosenbrock, n_trials=10)
    assert params(study) == params(whole)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"method": "cma"}, TypeError, '`method` must be "auto", an estimator'),
        ({"method": (bz.QuasiNewton(), None, None)}, TypeError, "`method` must be"),
        ({"seed": 0.5}, TypeError, "`seed` must be a whole number"),
    ],
)
def test_arguments_are_checked(arguments: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Sampler(**arguments)


def test_a_start_out_of_range_is_named() -> None:
    study = optuna.create_study(sampler=Sampler(x0={"x1": 7.0}, search_space=SPACE))
    with pytest.raises(ValueError, match=r"Parameter 'x1': 7.0 is not between -5.0 and 5.0"):
        study.ask(SPACE)


def test_the_package_for_optunahub(tmp_path: Path) -> None:
    optunahub = pytest.importorskip("optunahub", reason="needs optunahub: pip install optunahub")
    module = optunahub.load_local_module("samplers/blackbox_zo", registry_root=str(HUB))
    study = optuna.create_study(sampler=module.BlackboxZOSampler(seed=1, x0={"x0": 1.0}))
    plain = optuna.create_study(sampler=Sampler(seed=1, x0={"x0": 1.0}))
    for each in (study, plain):
        each.optimize(rosenbrock, n_trials=30)
    assert params(study) == params(plain)
    assert isinstance(study.sampler, optunahub.samplers.SimpleBaseSampler)


def test_what_optunahub_asks_of_a_package() -> None:
    folder = HUB / "samplers" / "blackbox_zo"
    assert {path.name for path in folder.iterdir()} >= {"README.md", "LICENSE", "__init__.py", "example.py"}
    front = (folder / "README.md").read_text("utf-8").split("---")[1]
    keys = [line.partition(":")[0] for line in front.strip().splitlines()]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert "[sampler," in front
