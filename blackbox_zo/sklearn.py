"""Hyper-parameters of a scikit-learn model: `SearchCV`, beside `GridSearchCV` and `RandomizedSearchCV`.

It needs scikit-learn 1.4 or later: `pip install 'blackbox-zo[sklearn]'`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from blackbox_zo._doors.distributions import space_of
from blackbox_zo._doors.one_by_one import Asked, OneByOne, check_method
from blackbox_zo._doors.packages import package
from blackbox_zo._typing import Floats, override

__all__ = ["SearchCV"]

package("sklearn", "sklearn")

from joblib import effective_n_jobs  # noqa: E402
from sklearn.model_selection import RandomizedSearchCV  # noqa: E402
from sklearn.model_selection._search import BaseSearchCV  # noqa: E402
from sklearn.utils import check_random_state  # noqa: E402

IN_VAIN = 200
"""Points in a row whose parameters are known, after which there may be no others."""


class SearchCV(BaseSearchCV):  # type: ignore[misc]
    """Searches hyper-parameters by a method of `minimize`, with the cross-validated score as the function.

    Used as `RandomizedSearchCV`, whose arguments it has, with its attributes `best_params_`, `best_score_`,
    `best_estimator_`, `cv_results_`. The search starts in the middle, or at `x0`. No parameters are evaluated twice.
    With `n_jobs` above the number of folds, several candidates are evaluated at a time. Scores that are NaN are failed
    queries; candidates that could not be fitted at all are left out of `cv_results_`.

    Args:
        estimator: The model.
        param_distributions: One dict: for each parameter a list of values, a frozen distribution of `scipy.stats`, or
            text as on the command line: "1e-4:1:log", "2:12:int", "gini,entropy". The values of a list are in a row,
            so put those that behave alike next to each other. For a distribution, shares of it are searched.
        n_iter: Number of candidates; fewer where there are fewer.
        scoring: As for `RandomizedSearchCV`; with several scores, `refit` names the one to maximise.
        n_jobs: See there.
        refit: See there.
        cv: See there.
        verbose: See there.
        pre_dispatch: See there.
        random_state: Determines the randomness of the search.
        error_score: See there.
        return_train_score: See there.
        method: As for `minimize`.
        x0: Where to start: values of some or all parameters.

    Raises:
        ValueError: At `fit`: a distribution is none, `x0` is outside, or `refit` names none of several scores.
        TypeError: At `fit`: `method` is none.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from blackbox_zo.sklearn import SearchCV
        >>> model = LogisticRegression(max_iter=1000)
        >>> search = SearchCV(model, {"C": "1e-3:1e3:log"}, n_iter=8, scoring="neg_log_loss", random_state=0)
        >>> search = search.fit(*load_iris(return_X_y=True))
        >>> bool(search.best_score_ > -0.15), len(search.cv_results_["params"])
        (True, 8)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **RandomizedSearchCV._parameter_constraints,
        "method": "no_validation",
        "x0": [dict, None],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        method: Any = "auto",
        x0: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
            pre_dispatch=pre_dispatch, error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.param_distributions, self.n_iter, self.random_state = param_distributions, n_iter, random_state
        self.method, self.x0 = method, x0

    @override
    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        space, score = space_of(self.param_distributions), self._score_name()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        search = OneByOne(check_method(self.method), space.encode(self.x0 or {}), space.bounds, None, seed)
        at_once = max(1, -(-effective_n_jobs(self.n_jobs) // self.n_splits_))
        known: dict[bytes, float] = {}
        some, failure = False, None
        while len(known) < self.n_iter:
            found = self._new(search, space, known, min(at_once, self.n_iter - len(known)))
            if not found:
                break
            values: Floats = np.full(len(found), np.nan)
            try:
                results = evaluate_candidates([space.decode(asked.point) for asked in found.values()])
                values, some = -np.asarray(results[f"mean_test_{score}"], dtype=np.float64)[-len(found) :], True
            except ValueError as error:  # where every fit of a call has failed
                if self.error_score == "raise" or "fits failed" not in str(error):
                    raise
                failure = error
            for (place, asked), value in zip(found.items(), values.tolist(), strict=True):
                known[place] = value
                search.tell(asked, value)
        if not some and failure is not None:
            raise failure

    def _new(self, search: OneByOne, space: Any, known: dict[bytes, float], n: int) -> dict[bytes, Asked]:
        """Up to n points with parameters that were not evaluated; those that were are answered."""
        found: dict[bytes, Asked] = {}
        for _ in range(IN_VAIN):
            asked = search.ask() or search.ask_aside()
            place = np.round(space.encode(space.decode(asked.point)), 12).tobytes()
            if place in known or place in found:
                search.tell(asked, known.get(place, math.nan))
                continue
            found[place] = asked
            if len(found) == n:
                break
        return found

    def _score_name(self) -> str:
        """Which score of `cv_results_` is maximised."""
        several = isinstance(self.scoring, list | tuple | set | dict)
        if several and not isinstance(self.refit, str):
            raise ValueError(
                f"`refit` must name the score to maximise where `scoring` has several, got {self.refit!r}; "
                f"one of {', '.join(map(str, self.scoring))}."
            )
        return self.refit if isinstance(self.refit, str) else "score"
