"""blackbox_zo as a sampler of Optuna: `optuna.create_study(sampler=blackbox_zo.optuna.Sampler())`.

It needs Optuna 4.0 or later: `pip install 'blackbox-zo[optuna]'`.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from blackbox_zo._checks import check_seed
from blackbox_zo._describe import describe
from blackbox_zo._doors.one_by_one import check_method
from blackbox_zo._doors.packages import package
from blackbox_zo._doors.space import Dimension, Options, Space, Stepped
from blackbox_zo._doors.study import Lineage, SharedSearch, value_of
from blackbox_zo._typing import Floats, override
from blackbox_zo._version import __version__
from blackbox_zo.parameters import Float, Integer

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial
else:
    optuna = package("optuna", "optuna")

__all__ = ["Sampler"]

KEY = "blackbox_zo"
"""Under which a study and its trials say what of them is ours."""


class Sampler(optuna.samplers.BaseSampler):
    """Samples the parameters of a study together, by a method of `minimize`.

    A study is a search: its seed and its answers. Both are in the study's storage, so a study that is continued in
    another process goes on where it stopped, and several processes with one storage share one search. Trials that
    others chose, enqueued ones and those of other samplers too, are known points: the search starts from the best of
    them. A trial that failed, was pruned or violates a constraint is a failed query.

    The parameters are those that every finished trial had, with the same distributions, or `search_space`. Where that
    set changes, a new search begins, which knows the earlier trials. Other parameters are sampled by
    `independent_sampler`, and so are all until a trial has succeeded, but for the first, which is the start. The
    choices of a categorical parameter are in a row, so put those that behave alike next to each other.

    Args:
        method: As for `minimize`.
        search_space: The parameters, by name, for studies whose parameters are known before the first trial.
        x0: Where to start: values of some or all parameters. By default the best trial so far, or else the middle.
        seed: Determines all randomness; None for a random one.
        independent_sampler: By default a `RandomSampler`.
        warn_independent_sampling: Whether to warn, once for each parameter, that it was sampled independently.

    Raises:
        TypeError: `method` is none, or `seed` is not a whole number.
        ValueError: `seed` does not fit 64 bits.

    Example:
        >>> import optuna, blackbox_zo.optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=blackbox_zo.optuna.Sampler(seed=1))
        >>> study.optimize(lambda trial: (trial.suggest_float("x", -5, 5) - 1) ** 2, n_trials=40)
        >>> study.best_value < 1e-6
        True
    """

    def __init__(
        self,
        method: Any = "auto",
        *,
        search_space: Mapping[str, BaseDistribution] | None = None,
        x0: Mapping[str, Any] | None = None,
        seed: int | None = None,
        independent_sampler: optuna.samplers.BaseSampler | None = None,
        warn_independent_sampling: bool = True,
    ) -> None:
        self.method, self.x0 = check_method(method), dict(x0 or {})
        self.search_space = None if search_space is None else dict(search_space)
        self.seed = seed if seed is None else check_seed(seed)
        short = seed if seed is None else check_seed(seed) % 2**32
        self.independent_sampler = independent_sampler or optuna.samplers.RandomSampler(short)
        self.warn_independent_sampling = warn_independent_sampling
        self._warned: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._lock, self._shared = RLock(), dict[tuple[Any, ...], SharedSearch]()
        self._intersection: tuple[Any, Any] = None, None

    def __getstate__(self) -> dict[str, Any]:
        # What was learnt is in the study
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_shared", "_intersection")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @override
    def reseed_rng(self) -> None:
        # Workers share the search on purpose
        self.independent_sampler.reseed_rng()

    @override
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        _check_one_objective(study)
        space = self.search_space
        if space is None:
            with self._lock:
                if self._intersection[0] != _identity(study):
                    self._intersection = _identity(study), optuna.search_space.IntersectionSearchSpace()
                space = self._intersection[1].calculate(study)
        return {name: found for name, found in sorted(space.items()) if not found.single()}

    @override
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        _check_one_objective(study)
        if not search_space or search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}
        with self._lock:
            key = (*_identity(study), *search_space.items())
            shared = self._shared.get(key)
            if shared is None:
                shared = self._begin(study, search_space)
                self._shared = {key: shared}
            params, mark = shared.next(study.get_trials(deepcopy=False), trial.number, _sign(study))
            study._storage.set_trial_system_attr(trial._trial_id, KEY, mark)
            return params

    def _begin(self, study: Study, search_space: dict[str, BaseDistribution]) -> SharedSearch:
        """Join the search of a study, or start one."""
        dimensions = {name: _dimension(found) for name, found in search_space.items()}
        what = [[name, optuna.distributions.distribution_to_json(found)] for name, found in search_space.items()]
        about = json.dumps([what, describe(self.method), __version__.rsplit(".", 1)[0]])
        digest = hashlib.blake2b(about.encode(), digest_size=8).hexdigest()
        key, space = f"{KEY}:{digest}", Space(dimensions)
        found = study._storage.get_study_system_attrs(study._study_id).get(key)
        if found is None or self.seed not in (None, found["seed"]):
            seed = int(np.random.SeedSequence().generate_state(1)[0]) if self.seed is None else self.seed
            found = {"seed": seed, "x0": (space.encode(self.x0) if self.x0 else self._best(study, space)).tolist()}
            study._storage.set_study_system_attr(study._study_id, key, found)
        lineage = Lineage(f"{digest}:{found['seed']}", found["seed"], np.array(found["x0"]))
        return SharedSearch(self.method, space, lineage, KEY)

    def _best(self, study: Study, space: Space) -> Floats:
        """The point of the best trial so far, or the middle."""
        best, out = math.inf, space.encode({})
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and space.dimensions.keys() <= trial.params.keys():
                with suppress(ValueError):  # of another range
                    point, value = space.encode(trial.params), value_of(trial, _sign(study))
                    best, out = (value, point) if value < best else (best, out)
        return out

    @override
    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        _check_one_objective(study)
        if param_distribution.single():
            return self.independent_sampler.sample_independent(study, trial, param_name, param_distribution)
        if trial.number == 0:  # the start of the search to come
            space = Space({param_name: _dimension(param_distribution)})
            middle = space.decode(space.encode(self.x0))[param_name]
            return self.x0.get(param_name, middle)
        known = any(t.state == optuna.trial.TrialState.COMPLETE for t in study.get_trials(deepcopy=False))
        if known and self.warn_independent_sampling and param_name not in self._warned:
            self._warned.add(param_name)
            warnings.warn(
                f"Parameter {param_name!r} is sampled by `{type(self.independent_sampler).__name__}`: it is not in "
                "every finished trial, or its range changes. Give it one range in every trial, or set "
                "`warn_independent_sampling=False`.",
                stacklevel=2,
            )
        return self.independent_sampler.sample_independent(study, trial, param_name, param_distribution)


def _identity(study: Study) -> tuple[int, int]:
    return id(study._storage), study._study_id


def _sign(study: Study) -> float:
    return -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0


def _check_one_objective(study: Study) -> None:
    if (n := len(study.directions)) != 1:
        raise ValueError(
            f"`blackbox_zo.optuna.Sampler` optimises one value, and this study has {n} objectives; "
            "use `optuna.samplers.NSGAIISampler`, or return one number."
        )


def _dimension(distribution: BaseDistribution) -> Dimension:
    """A distribution of Optuna as one coordinate."""
    d: Any = distribution
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return Options(tuple(d.choices))
    if isinstance(distribution, optuna.distributions.FloatDistribution):
        return Float(d.low, d.high, d.log) if d.step is None else Stepped(d.low, d.high, d.step)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return Integer(d.low, d.high, d.log) if d.step == 1 else Stepped(d.low, d.high, d.step)
    raise TypeError(f"`blackbox_zo.optuna.Sampler` has no coordinate for a {type(d).__name__}.")
