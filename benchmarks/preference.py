"""Few answers in few dimensions: the gap to the best after 15 rounds of 8, and after 60 duels, by rankings alone.

Functions on the unit cube, from a random start; the figure is the median over `SEEDS` of f - min f at the search's
answer, and the start's. All methods get answers of the same simulated person, and as many of them:

- "exact": all 8 in order, without error; or duels without error;
- "top 3": the 3 best of 8;
- "erring": all 8, or duels, where each choice errs as with Bradley-Terry of temperature T = 5 % of what f varies by
  between two random points (the median difference).

Every method has one configuration for all functions, with a first radius of a quarter of the cube. BoTorch
(`PairwiseGP` with its default priors and its acquisition for duels, `qExpectedUtilityOfBestOption`) is run in duels, on
fewer seeds, for it takes about a second a duel; its answer is the shown point of highest posterior mean. Its first duel
is between the start and a random point, ours between the start and the middle of the cube.

BoTorch's runs do not depend on ours, so they are kept in the JSON file, one gap a seed, and only those that are missing
are made. Times are of the CPU, one thread each.
Run: OMP_NUM_THREADS=1 python benchmarks/preference.py; needs pip install botorch for the peer.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from blackbox_zo.proposal import Proposal
from oracles.ranking import BradleyTerry, Exact, SimulatedRater

SEEDS, PEER_SEEDS, ROUNDS, DUELS = 11, 5, 15, 60

_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x: np.ndarray) -> float:
    return 3.32237 - float(np.array([1, 1.2, 3, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(axis=1)))


def quadratic(x: np.ndarray) -> float:
    best = np.random.default_rng(x.size).uniform(0.2, 0.8, x.size)
    return float((np.linspace(1, 3, x.size) * (x - best) ** 2).sum())


def rosenbrock(x: np.ndarray) -> float:
    z = 4 * x - 1.5
    return float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())


def levy(x: np.ndarray) -> float:
    w = 1 + (20 * x - 11) / 4
    middle = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)).sum()
    return float(np.sin(np.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2))


PROBLEMS: dict[str, tuple[Callable[[np.ndarray], float], int]] = {
    "quadratic d=2": (quadratic, 2),
    "quadratic d=10": (quadratic, 10),
    "quadratic d=20": (quadratic, 20),
    "Hartmann d=6": (hartmann, 6),
    "Rosenbrock d=4": (rosenbrock, 4),
    "Lévy d=6": (levy, 6),
}


def temperature(f: Callable[[np.ndarray], float], d: int) -> float:
    values = [f(x) for x in np.random.default_rng(0).random((2000, d))]
    return 0.05 * float(np.median(np.abs(np.diff(values))))


def methods(m: int) -> dict[str, Callable[[], tuple[bz.Estimator, bz.Rule | None]]]:
    return {
        "PreferenceGP": lambda: (bz.PreferenceGP(0.25, m), None),
        "EvolutionStrategy": lambda: (bz.EvolutionStrategy(0.25, m), None),
        'EvolutionStrategy weights="all"': lambda: (bz.EvolutionStrategy(0.25, m, weights="all"), None),
        "RankSGD": lambda: (bz.RankSGD(0.25, m, max(m, 3)), None),
        "RankBased": lambda: (bz.RankBased(0.25, m), None),
    }


def start(d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(d)


def person(f: Callable[[np.ndarray], float], noise: Any, k: int | None, seed: int) -> SimulatedRater:
    return SimulatedRater(lambda x: f(np.asarray(x)), noise, n_ranked=k, seed=seed)


def searched(f: Any, d: int, make: Any, noise: Any, k: int | None, queries: int, seed: int) -> tuple[float, float]:
    """The gap at the end, and CPU seconds a round of our own."""
    estimator, rule = make()
    search = bz.Search(bz.Vector(start(d, seed), bounds=(0.0, 1.0)), estimator, rule, seed=seed, budget=queries)
    rater, own, rounds = person(f, noise, k, seed), 0.0, 0
    while search.nfev < queries:
        begun = time.process_time()
        proposal = search.ask()
        own -= begun - time.process_time()
        answer = rater.answer(proposal)
        begun = time.process_time()
        search.tell(proposal, answer)
        own, rounds = own + time.process_time() - begun, rounds + 1
    return f(np.asarray(search.x)), own / rounds


def botorch_duels(f: Any, d: int, noise: Any, duels: int, seed: int) -> tuple[float, float]:
    """Duels as in BoTorch's tutorial: fit, then the pair of highest expected utility of the better one."""
    import torch
    from botorch import fit_gpytorch_mll
    from botorch.acquisition.preference import qExpectedUtilityOfBestOption
    from botorch.models.pairwise_gp import PairwiseGP, PairwiseLaplaceMarginalLogLikelihood
    from botorch.models.transforms.input import Normalize
    from botorch.optim import optimize_acqf

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    cube = bz.Vector(np.zeros(d), bounds=(0.0, 1.0))
    box = torch.stack((torch.zeros(d), torch.ones(d))).double()
    points = torch.from_numpy(np.stack((start(d, seed), start(d, 1000 + seed))))
    rater, said, own, model = person(f, noise, None, seed), [], 0.0, None
    for step in range(duels):
        if step:
            begun = time.process_time()
            pair, _ = optimize_acqf(
                qExpectedUtilityOfBestOption(pref_model=model), bounds=box, q=2, num_restarts=4, raw_samples=64
            )
            points = torch.cat((points, pair))
            own += time.process_time() - begun
        i = len(points) - 2
        shown = bz.Queries(bz.Dense(cube.blocks, points[i:].numpy()), np.arange(2), np.ones(2), np.zeros(d))
        first = int(np.argmin(rater.answer(Proposal.numbered(step, i, shown, cube)).levels[0]))
        said.append([i + first, i + 1 - first])
        begun = time.process_time()
        model = PairwiseGP(points, torch.tensor(said), input_transform=Normalize(d=d, bounds=box))
        fit_gpytorch_mll(PairwiseLaplaceMarginalLogLikelihood(model.likelihood, model))
        own += time.process_time() - begun
    with torch.no_grad():
        best = int(model.posterior(points).mean.argmax())
    return f(points[best].numpy()), own / duels


def figures(runs: Sequence[Sequence[float]]) -> dict[str, Any]:
    gaps, seconds = np.array(runs).T
    return {"gap": float(f"{np.median(gaps):.3g}"), "ms a round": float(f"{1e3 * np.median(seconds):.3g}")}


def beside(f: Any, d: int, noise: Any, seeds: int, before: dict[str, Any], own: list[Any]) -> dict[str, Any]:
    """BoTorch's figures and its runs, (gap, seconds a duel) by seed, and ours on the same seeds."""
    runs = before.get("BoTorch", {}).get("runs", [])
    for seed in range(len(runs), seeds):
        runs.append([float(f"{v:.3g}") for v in botorch_duels(f, d, noise, DUELS, seed)])
    if not runs:
        return {}
    return {
        "BoTorch": {**figures(runs), "runs": runs},
        "PreferenceGP, on BoTorch's seeds": {**figures(own[: len(runs)]), "runs": own},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--peer-seeds", type=int, default=PEER_SEEDS, help="at least; 0 needs no BoTorch")
    parser.add_argument("--peer-only", action="store_true", help="keep all figures, and add BoTorch's missing runs")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # BoTorch's, of its fits
    path = Path(__file__).with_suffix(".json")
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result: dict[str, Any] = {"rounds": ROUNDS, "duels": DUELS, "seeds": given.seeds}
    if given.peer_only:
        result = before
    for name, (f, d) in PROBLEMS.items():
        erring = BradleyTerry(temperature(f, d))
        row: dict[str, Any] = {"start": figures([(f(start(d, s)), 0.0) for s in range(given.seeds)])["gap"]}
        for case, m, noise, k in (
            ("8, exact", 8, Exact(), None),
            ("8, top 3", 8, Exact(), 3),
            ("8, erring", 8, erring, None),
            ("duels, exact", 2, Exact(), None),
            ("duels, erring", 2, erring, None),
        ):
            old = before.get(name, {}).get(case, {})
            if given.peer_only:
                row[case], own = old, old.get("PreferenceGP, on BoTorch's seeds", {}).get("runs", [])
            else:
                queries = 2 * DUELS if m == 2 else m * ROUNDS
                runs = {
                    method: [searched(f, d, make, noise, k, queries, s) for s in range(given.seeds)]
                    for method, make in methods(m).items()
                }
                row[case] = {method: figures(its) for method, its in runs.items()}
                own = [[float(f"{v:.3g}") for v in run] for run in runs["PreferenceGP"]]
            if m == 2:
                row[case] |= beside(f, d, noise, given.peer_seeds, old, own)
                if given.peer_only:  # a run that is stopped loses one cell at most
                    path.write_text(json.dumps(result, indent=1) + "\n")
            print(name, case, {method: v["gap"] for method, v in row[case].items()}, flush=True)
        result[name] = row
    if not given.peer_only:
        save(__file__, result)


if __name__ == "__main__":
    main()
