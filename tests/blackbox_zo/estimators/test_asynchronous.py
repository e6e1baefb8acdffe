"""`Asynchronous`: answers of any age and order, one query a step, alone and in a portfolio."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._auto import auto
from blackbox_zo.estimators import Asynchronous

D = 10


def ellipsoid(x: Any) -> float:
    return float((10.0 ** (6 * np.arange(len(x)) / (len(x) - 1))) @ (x * x))


def rosenbrock(x: Any) -> float:
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


class Workers:
    """So many workers with a heavy-tailed law of times, on a clock of their own."""

    def __init__(self, search: bz.Search, f: Any, n: int, seed: int = 0) -> None:
        self.search, self.f, self.n, self.rng = search, f, n, np.random.default_rng(seed)
        self.now, self.count = 0.0, 0
        self.open: list[tuple[float, int, bz.Proposal]] = []

    def ask(self) -> None:
        try:
            proposal = self.search.ask()
        except bz.BudgetExhausted:
            return
        self.count += 1
        heapq.heappush(self.open, (self.now + self.rng.lognormal(0.0, 1.5), self.count, proposal))

    def run(self, target: float = -np.inf) -> int:
        """Answer until the target is reached; return the number of queries."""
        for _ in range(self.n):
            self.ask()
        while self.open and not self.search.best.value <= target:
            self.now, _, proposal = heapq.heappop(self.open)
            self.search.tell(proposal, bz.Values([self.f(x) for x in proposal.points]))
            self.ask()
        return self.search.nfev


def median(estimator: bz.Estimator, f: Any, workers: int, target: float, d: int = D, seeds: int = 5) -> float:
    found = []
    for seed in range(seeds):
        start = np.random.default_rng(seed).uniform(-2.0, 2.0, d)
        search = bz.Search(start, estimator, seed=seed, budget=8000)
        found.append(Workers(search, f, workers, seed).run(target))
    return float(np.median(found))


@pytest.mark.parametrize(("f", "most"), [(ellipsoid, 1.5), (rosenbrock, 1.25)])
def test_eight_workers_need_hardly_more_queries_than_one(f: Any, most: float) -> None:
    method = Asynchronous(bz.EvolutionStrategy(0.5, model=True))
    assert median(method, f, 8, 1e-6) <= most * median(method, f, 1, 1e-6)


@pytest.mark.parametrize(("f", "most"), [(ellipsoid, 1.5), (rosenbrock, 2.5)])
def test_and_at_most_twice_those_of_generations_that_a_model_ranks(f: Any, most: float) -> None:
    strategy = bz.EvolutionStrategy(0.5, model=True)
    serial = median(strategy, f, 1, 1e-6)
    assert median(Asynchronous(strategy), f, 8, 1e-6) <= most * serial


def test_late_points_do_not_pull_x_back() -> None:
    """If displacements counted from the present x alone, sixteen workers would need twice as many."""
    strategy = bz.EvolutionStrategy(0.5)
    assert median(Asynchronous(strategy), ellipsoid, 16, 1e-6, seeds=3) <= 1.5 * median(
        strategy, ellipsoid, 1, 1e-6, seeds=3
    )


@pytest.mark.parametrize(
    "strategy",
    [
        bz.EvolutionStrategy(0.5, covariance="diagonal"),
        bz.EvolutionStrategy(0.5, covariance="low-rank"),
        bz.EvolutionStrategy(0.5, covariance="isotropic"),
        bz.EvolutionStrategy(0.5, covariance="isotropic", adapt_radius=False),
        bz.EvolutionStrategy(0.5, learning_rate="adapted"),
    ],
)
def test_every_covariance_makes_progress(strategy: bz.EvolutionStrategy) -> None:
    search = bz.Search(np.ones(20), Asynchronous(strategy), seed=1, budget=3000)
    Workers(search, lambda x: float(x @ x), 8).run(0.1)
    assert search.best.value <= 0.1 or (not strategy.adapt_radius and search.best.value < 10)


def test_bounds_hold_and_a_minimum_on_them_is_found() -> None:
    seen: list[float] = []

    def f(x: Any) -> float:
        seen.extend(x.tolist())
        return float((x + 1.0) @ (x + 1.0))

    start = bz.Vector(np.full(5, 0.5), (0.0, 1.0))
    search = bz.Search(start, Asynchronous(bz.EvolutionStrategy(0.3, model=True)), budget=400)
    Workers(search, f, 8).run()
    assert 0.0 <= min(seen) and max(seen) <= 1.0
    assert search.best.value == pytest.approx(5.0, abs=1e-6)


def test_no_two_queries_ask_the_same_point() -> None:
    """The same model would propose the same point to all workers."""
    asked: list[bytes] = []

    def f(x: Any) -> float:
        asked.append(x.tobytes())
        return ellipsoid(x)

    search = bz.Search(np.ones(4), Asynchronous(bz.EvolutionStrategy(0.3, model=True)), budget=200)
    Workers(search, f, 8).run(1e-4)
    assert len(set(asked)) == len(asked) > 30


def test_a_late_answer_counts_however_old_it_is() -> None:
    """The default of `max_staleness` would drop it."""
    search = bz.Search(np.ones(3), Asynchronous(bz.EvolutionStrategy(0.3)), seed=2)
    straggler = search.ask()
    for _ in range(40):
        p = search.ask()
        search.tell(p, bz.Values([float(x @ x) for x in p.points]))
    before = len(search.state.values)
    search.tell(straggler, bz.Values([0.0]))
    after = search.state.values
    assert len(after) == before + 1 and after[-1] == 0.0


def test_a_generation_that_ends_with_a_failure_still_moves_x() -> None:
    """The search makes no move in a step without an answer, so the state must not change in it either."""
    strategy = bz.EvolutionStrategy(0.3, 4)
    search = bz.Search(np.ones(2), Asynchronous(strategy), seed=0)
    for value in (1.0, 2.0, 3.0, np.nan):
        search.tell(search.ask(), bz.Values([value]))
    assert search.state.inner.generation == 0 and len(search.state.values) == 4
    search.tell(search.ask(), bz.Values([0.5]))
    assert search.state.inner.generation == 1 and not len(search.state.values)
    assert not np.array_equal(search.x, np.ones(2))


def test_the_default_of_many_dimensions_follows_a_path() -> None:
    wide = Asynchronous(bz.EvolutionStrategy(0.3))
    assert not wide.start(bz.Vector(np.ones(150))).inner.line.size
    assert bz.EvolutionStrategy(0.3).start(bz.Vector(np.ones(150))).line.size


def test_what_cannot_be_asynchronous_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be an `EvolutionStrategy`, got PGPE"):
        Asynchronous(bz.PGPE(0.1, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'Give step_size="path"'):
        Asynchronous(bz.EvolutionStrategy(0.3, step_size="line"))
    with pytest.raises(ValueError, match=r'Give weights="best"'):
        Asynchronous(bz.EvolutionStrategy(0.3, weights="all"))
    with pytest.raises(ValueError, match=r"must all be `Asynchronous`, or none; `QuasiNewton`"):
        bz.Portfolio((Asynchronous(bz.EvolutionStrategy(0.3)), bz.QuasiNewton(0.1)))
    search = bz.Search(np.ones(2), Asynchronous(bz.EvolutionStrategy(0.3)))
    with pytest.raises(bz.FeedbackError, match=r"Cannot use `Asynchronous` with this oracle: it needs the value"):
        search.tell(search.ask(), bz.Ranking([0], 1))


# ------------------------------------------------------------------------------------------------------- a portfolio


def portfolio(d: int = D) -> bz.Portfolio:
    found = auto(bz.Vector(np.zeros(d)), np.zeros(d), None, None, asynchronous=True)[1]
    assert isinstance(found, bz.Portfolio)
    return found


def test_only_two_workers_ask_x0() -> None:
    search = bz.Search(np.ones(D), portfolio())
    points = [search.ask().points[0] for _ in range(8)]
    assert sum(np.array_equal(x, np.ones(D)) for x in points) == 2
    assert len({x.tobytes() for x in points}) == 7


def test_an_x0_that_takes_forever_holds_nobody_up() -> None:
    search = bz.Search(np.ones(D), portfolio(), budget=400)
    search.ask()
    search.ask()
    assert Workers(search, lambda x: float(x @ x), 6).run(1e-6) < 200


def test_the_portfolio_finds_what_generations_find() -> None:
    serial = bz.Portfolio((bz.EvolutionStrategy(0.3, model=True),) * 2, growth=(2.0, 0.0))
    assert median(portfolio(), rosenbrock, 8, 1e-6) <= 2.5 * median(serial, rosenbrock, 1, 1e-6)


def test_answers_to_a_run_that_is_over_do_not_count_for_the_next() -> None:
    """A new run that had to beat what an old one left would end as soon as it may."""
    rng = np.random.default_rng(0)

    def rugged(x: Any) -> float:
        return float(10 * len(x) + np.sum(x * x - 10 * np.cos(2 * np.pi * x)))

    search = bz.Search(rng.uniform(-3, 3, 3), portfolio(3), budget=2500)
    workers = Workers(search, rugged, 8)
    for _ in range(8):
        workers.ask()
    runs, worst = 0, search.state.run_best
    while workers.open:
        workers.now, _, proposal = heapq.heappop(workers.open)
        late = proposal.queries.tag[:2] != (len(search.state.ledger), search.state.phase)
        before = search.state
        search.tell(proposal, bz.Values([rugged(x) for x in proposal.points]))
        if late:
            runs += 1
            assert search.state.run_best == before.run_best or np.isnan(before.run_best)
            assert search.state.best <= before.best
        workers.ask()
    assert runs >= 8 and len(search.state.ledger) >= 2, worst
    assert search.state.best == search.best.value


def test_a_start_where_all_fails_is_left() -> None:
    def f(x: Any) -> float:
        return float((x - 2) @ (x - 2)) if x.max() > 0 else np.nan

    start = bz.Vector(np.full(2, -15.0), (-20.0, 3.0))
    search = bz.Search(start, portfolio(2), seed=1, budget=300)
    Workers(search, f, 8).run(1e-4)
    assert search.best.value <= 1e-4
    assert isinstance(search.estimator, bz.Portfolio)
    first = search.estimator.trace(search.state)[0]
    assert first.ended == "no answer to 30 queries" and np.isnan(first.before)


def test_noise_is_noticed_and_x_is_asked_once_in_a_generation() -> None:
    rng = np.random.default_rng(3)
    search = bz.Search(np.ones(5), portfolio(5), budget=500)
    Workers(search, lambda x: float(x @ x + rng.normal()), 8).run()
    state = search.state
    assert state.noise > 0 and len(state.centre) == 10 and not len(state.ledger)
