"""blackbox_zo as a search algorithm of Ray Tune: `tune.TuneConfig(search_alg=blackbox_zo.ray.Searcher())`.

It needs Ray Tune: `pip install 'blackbox-zo[ray]'`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blackbox_zo._checks import check_choice, check_seed
from blackbox_zo._doors.distributions import Quantile
from blackbox_zo._doors.one_by_one import Asked, OneByOne, check_method
from blackbox_zo._doors.packages import package
from blackbox_zo._doors.space import Dimension, Options, Space, Stepped
from blackbox_zo._typing import override
from blackbox_zo.parameters import Float, Integer

__all__ = ["Searcher"]

package("ray.tune", "ray")

from ray.tune.search import Searcher as _Searcher  # noqa: E402
from ray.tune.search import sample as domains  # noqa: E402
from ray.tune.search.variant_generator import parse_spec_vars  # noqa: E402


class Searcher(_Searcher):  # type: ignore[misc]
    """Suggests configurations by a method of `minimize`, any number of trials at a time.

    The space is the tuner's `param_space`: `tune.uniform`, `loguniform`, `quniform`, `randn`, `randint`, `lograndint`,
    `qrandint` and `choice`, also nested, beside constants. The choices are in a row, so put those that behave alike
    next to each other. A trial that ends in an error, or without the metric, is a failed query. What is saved is the
    seed and what was asked and answered, as JSON; a restored search goes on as the other would have.

    Args:
        method: As for `minimize`.
        metric: The result to optimise; by default the tuner's.
        mode: "min" or "max"; by default the tuner's.
        x0: Where to start: values of some or all parameters, nested as in the space. By default the middle.
        seed: Determines all randomness.

    Raises:
        TypeError: `method` is none.
        ValueError: `mode` is none; when the space is known, a parameter cannot be represented, or `x0` is outside.

    Example:
        >>> from blackbox_zo.ray import Searcher  # doctest: +SKIP
        >>> tuner = tune.Tuner(  # doctest: +SKIP
        ...     train, param_space={"lr": tune.loguniform(1e-4, 1)},
        ...     tune_config=tune.TuneConfig(search_alg=Searcher(), metric="loss", mode="min", num_samples=50),
        ... )
    """

    def __init__(
        self,
        method: Any = "auto",
        *,
        metric: str | None = None,
        mode: str | None = None,
        x0: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if mode is not None:
            check_choice("Searcher", ("min", "max"), mode=mode)
        super().__init__(metric=metric, mode=mode)
        self._metric: Any = self._metric
        self._mode: Any = self._mode
        self.method, self.seed, self.x0 = check_method(method), check_seed(seed), _flat(x0 or {})
        self._space: Space | None = None
        self._search: OneByOne | None = None
        self._events: list[tuple[str, float | None]] = []  # a trial was asked for, or has ended with a value
        self._running: dict[str, Asked] = {}

    @override
    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        if self._space is not None:
            return False
        self._space = _space(config)
        self._metric, self._mode = metric or self._metric, mode or self._mode
        self._search = OneByOne(self.method, self._space.encode(self.x0), self._space.bounds, None, self.seed)
        events, self._events = self._events, []
        for trial, value in events:  # of a search that was restored
            self._ask(trial) if value is None else self._tell(trial, value)
        return True

    @override
    def suggest(self, trial_id: str) -> dict[str, Any]:
        if self._space is None or not self._metric or not self._mode:
            raise RuntimeError(
                "`blackbox_zo.ray.Searcher` needs a space, a metric and a mode; give `param_space` to the tuner, and "
                "`metric` and `mode` to its `TuneConfig`."
            )
        return _nested(self._space.decode(self._ask(trial_id).point))

    def _ask(self, trial: str) -> Asked:
        assert self._search is not None
        asked = self._running[trial] = self._search.ask() or self._search.ask_aside()
        self._events.append((trial, None))
        return asked

    @override
    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        value = math.nan if error or not result else float(result.get(self._metric, math.nan))
        if trial_id in self._running:
            self._tell(trial_id, -value if self._mode == "max" else value)

    def _tell(self, trial: str, value: float) -> None:
        assert self._search is not None
        self._search.tell(self._running.pop(trial), value)
        self._events.append((trial, value))

    @override
    def add_evaluated_point(
        self, parameters: Mapping[str, Any], value: float, error: bool = False, pruned: bool = False, **others: Any
    ) -> None:
        # A known point, if it did not fail
        if self._space is None or self._search is None:
            raise RuntimeError("`Searcher` has no space yet; add points when its tuner has begun, or give `x0`.")
        if not (error or pruned):
            self._search.know(self._space.encode(_flat(parameters)), -value if self._mode == "max" else value)

    @override
    def get_state(self) -> dict[str, Any]:
        return {"seed": self.seed, "x0": self.x0, "events": [list(event) for event in self._events]}

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        if self._events:
            raise RuntimeError(
                "A `Searcher` that has suggested something cannot be set to another state; make a new one."
            )
        self.seed, self.x0 = int(state["seed"]), dict(state["x0"])
        self._events = [(trial, value) for trial, value in state["events"]]
        self._space = self._search = None

    @override
    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_text(json.dumps(self.get_state()), encoding="utf-8")

    @override
    def restore(self, checkpoint_path: str) -> None:
        self.set_state(json.loads(Path(checkpoint_path).read_text("utf-8")))


def _space(config: Mapping[str, Any]) -> Space:
    _, found, grids = parse_spec_vars(dict(config))
    if grids:
        raise ValueError(f"`param_space[{'/'.join(grids[0][0])!r}]` is a grid search; use `tune.choice`.")
    if not found:
        raise ValueError("`param_space` has nothing to search; give it a parameter such as `tune.uniform(0, 1)`.")
    return Space({"/".join(path): _dimension("/".join(path), domain) for path, domain in found})


def _dimension(name: str, domain: Any) -> Dimension:
    sampler, step = domain.get_sampler(), None
    if isinstance(sampler, domains.Quantized):
        sampler, step = sampler.sampler, sampler.q
    log, uniform = isinstance(sampler, domains.LogUniform), isinstance(sampler, domains.Uniform)
    if isinstance(domain, domains.Categorical) and uniform:
        return Options(tuple(domain.categories))
    if isinstance(domain, domains.Float) and isinstance(sampler, domains.Normal) and step is None:
        from scipy.stats import norm

        return Quantile(norm(sampler.mean, sampler.sd))
    if isinstance(domain, domains.Float) and (log or uniform) and not (log and step):
        low, high = float(domain.lower), float(domain.upper)
        return Stepped(low, high, step) if step else Float(low, high, log)
    if isinstance(domain, domains.Integer) and (log or uniform) and not (log and step not in (None, 1)):
        if step not in (None, 1):
            return Stepped(domain.lower, domain.upper, step)
        return Integer(domain.lower, domain.upper - (step is None), log)
    raise ValueError(
        f"`param_space[{name!r}]` is {domain!r:.60} sampled by `{type(sampler).__name__}`, which has no coordinate; "
        "use uniform, loguniform, quniform, randn, randint, lograndint, qrandint or choice."
    )


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested names as one: "a/b"."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{above}{key}"
        out |= _flat(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return out


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of `_flat`."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        *above, last = name.split("/")
        inside = out
        for key in above:
            inside = inside.setdefault(key, {})
        inside[last] = value
    return out
