"""`SearchCV`: scikit-learn's checks, and what is promised besides."""

from __future__ import annotations

import math
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'blackbox-zo[sklearn]'")

from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import blackbox_zo as bz
from blackbox_zo.sklearn import SearchCV

X, Y = load_iris(return_X_y=True)
ROWS = np.zeros((6, 1))


LOG = stats.loguniform(1e-3, 1e2)


class Named(type(LOG)):  # type: ignore[misc]
    """A distribution without an address in its name, by which tests are told apart."""

    def __repr__(self) -> str:
        return "loguniform"


LOG.__class__ = Named


class Surface(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Its score is minus a function of its parameters."""

    def __init__(self, a: float = 0.0, b: float = 1.0, n: int = 1, kind: Any = "x", fails: bool = False) -> None:
        self.a, self.b, self.n, self.kind, self.fails = a, b, n, kind, fails

    def fit(self, x: Any, y: Any) -> Surface:
        if self.fails or self.a < -4:
            raise ValueError("it does not fit")
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x))

    def score(self, x: Any, y: Any) -> float:
        off = (self.a - 1) ** 2 + math.log10(self.b / 0.01) ** 2 + (self.n - 7) ** 2 + (self.kind != "x")
        return -float(off)


@pytest.mark.filterwarnings("default")  # the checks count warnings
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        SearchCV(LogisticRegression(), {"C": "1e-3:1e2:log"}, n_iter=3, cv=2),
        SearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1, 10]}, cv=2),
        SearchCV(LogisticRegression(), {"C": LOG}, n_iter=3, cv=2, error_score="raise"),
    ]
)
def test_scikit_learns_own(estimator: Any, check: Any) -> None:
    check(estimator)


def test_it_is_the_search_of_minimize() -> None:
    search = SearchCV(Surface(), {"a": "-3:5", "b": "1e-4:1:log"}, n_iter=60, random_state=0, cv=2)
    search.fit(ROWS, ROWS[:, 0])
    assert -search.best_score_ < 36 + 1e-6  # n is 1
    assert search.best_params_["a"] == pytest.approx(1, abs=1e-3)
    assert search.best_params_["b"] == pytest.approx(0.01, rel=1e-2)
    first = search.cv_results_["params"][0]
    assert first["a"] == 1.0 and first["b"] == pytest.approx(0.01)


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_mixed_parameters(n_jobs: int) -> None:
    space = {"a": stats.uniform(-3, 8), "b": stats.loguniform(1e-4, 1), "n": "1:20:int", "kind": [None, "x", 3, str]}
    search = SearchCV(Surface(), space, n_iter=60, random_state=1, cv=2, n_jobs=n_jobs).fit(ROWS, ROWS[:, 0])
    assert isinstance(search.best_params_["n"], int)
    assert -search.best_score_ < 1.5
    seen = {tuple(p.values()) for p in search.cv_results_["params"]}
    assert len(seen) == len(search.cv_results_["params"]) == 60  # none twice


def test_random_state_decides() -> None:
    def found(seed: Any) -> Any:
        search = SearchCV(Surface(), {"n": "1:20:int", "kind": ["y", "x", "z"]}, n_iter=20, random_state=seed, cv=2)
        return search.fit(ROWS, ROWS[:, 0]).cv_results_["params"]

    assert found(1) == found(1) == found(np.random.RandomState(1))
    assert found(1) != found(2)


def test_it_ends_where_all_is_known() -> None:
    search = SearchCV(Surface(), {"n": [5, 6, 7, 8], "kind": "x,y"}, n_iter=50, cv=2, random_state=0)
    search.fit(ROWS, ROWS[:, 0])
    assert len(search.cv_results_["params"]) == 8
    assert search.best_params_ == {"n": 7, "kind": "x"}
    one = SearchCV(Surface(), {"n": [5], "a": "2:2"}, n_iter=9, cv=2).fit(ROWS, ROWS[:, 0])
    assert one.cv_results_["params"] == [{"n": 5, "a": 2.0}]


@pytest.mark.parametrize("n_iter", [1, 2])
def test_a_budget_below_the_dimension(n_iter: int) -> None:
    space = {"a": "-3:5", "b": "1e-4:1:log", "n": "1:20:int"}
    search = SearchCV(Surface(), space, n_iter=n_iter, cv=2, x0={"a": 2.5}).fit(ROWS, ROWS[:, 0])
    assert len(search.cv_results_["params"]) == n_iter and search.cv_results_["params"][0]["a"] == 2.5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_fits_that_fail_are_failed_queries() -> None:
    search = SearchCV(Surface(), {"a": "-12:3"}, n_iter=40, random_state=0, cv=2).fit(ROWS, ROWS[:, 0])
    assert search.best_params_["a"] == pytest.approx(1, abs=0.05)  # the start, -4.5, fails
    assert min(p["a"] for p in search.cv_results_["params"]) >= -4 and len(search.cv_results_["params"]) < 40
    raising = SearchCV(Surface(), {"a": "-12:3"}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="it does not fit"):
        raising.fit(ROWS, ROWS[:, 0])
    with pytest.raises(ValueError, match="All the 2 fits failed"):
        SearchCV(Surface(fails=True), {"a": "0:1"}, n_iter=10, cv=2).fit(ROWS, ROWS[:, 0])


def test_scores_and_refit() -> None:
    scoring = {"loss": "neg_log_loss", "right": "accuracy"}
    model = LogisticRegression(max_iter=500)
    search = SearchCV(model, {"C": "1e-3:1e3:log"}, n_iter=15, scoring=scoring, refit="loss", cv=3).fit(X, Y)
    best = search.best_estimator_
    assert search.best_score_ == pytest.approx(cross_val_score(clone(best), X, Y, scoring="neg_log_loss", cv=3).mean())
    assert "mean_test_right" in search.cv_results_ and search.predict(X).shape == (150,)
    assert search.best_score_ > -0.07  # at best -0.055; -0.15 at the start
    with pytest.raises(ValueError, match=r"`refit` must name the score to maximise .*, got False; one of loss, right"):
        SearchCV(model, {"C": [1.0]}, scoring=scoring, refit=False).fit(X, Y)


def test_in_a_pipeline_cloned_and_pickled() -> None:
    search = SearchCV(Ridge(), {"alpha": "1e-3:1e3:log"}, n_iter=5, method=bz.EvolutionStrategy(0.3), random_state=3)
    both = make_pipeline(StandardScaler(), clone(search)).fit(X, Y)
    again = pickle.loads(pickle.dumps(make_pipeline(StandardScaler(), search))).fit(X, Y)
    assert both[-1].best_params_ == again[-1].best_params_


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([{"C": [1]}, {"C": [2]}], "must be one dict of names and their values"),
        ({}, "must be one dict"),
        ({"C": 3.0}, r"`param_distributions\['C'\]` must be a list of values, .* got 3.0"),
        ({"C": "1e-3"}, r"`param_distributions\['C'\]`: '1e-3' is neither a range"),
        ({"C": []}, "must be a list of values"),
    ],
)
def test_distributions_that_are_none(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SearchCV(LogisticRegression(), given).fit(X, Y)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match='`method` must be "auto", an estimator'):
        SearchCV(LogisticRegression(), {"C": [1.0]}, method="cma").fit(X, Y)
    with pytest.raises(ValueError, match=r"Parameter 'C': 9.0 is not between 0.1 and 1.0"):
        SearchCV(LogisticRegression(), {"C": "0.1:1"}, x0={"C": 9.0}).fit(X, Y)


def test_it_is_reached_as_an_attribute() -> None:
    assert bz.sklearn.SearchCV is SearchCV


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "blackbox_zo.sklearn")
    with pytest.raises(ImportError, match=r"`blackbox_zo.sklearn` needs the package `sklearn` .*zo\[sklearn\]"):
        bz.__getattr__("sklearn")
