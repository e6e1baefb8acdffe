"""Whom to believe: simulated studies with careful and careless raters, and what `RaterModel` makes of them.

Raters rank what `PreferenceGP` proposes in 8 dimensions, or judge duels; each sees the candidates in an order of their
own. The search gets their answers merged by weight. `plan` mixes in checks (one candidate is broken, and must come
last) and repeated rounds. Utility varies by 1 between two random points (the median difference of f).

- "careful": orders by f with Gumbel noise (Plackett & Luce) of temperature 0.05;
- "erring": likewise, of temperature 0.2;
- "random": any order; "lazy": the order on the screen;
- "reversed": careful, but puts the worst first;
- "drifting": careful, but the taste moves from the study's begin to its end by as much as f varies.

For each mix, the number of studies in which every careful rater outweighs every careless one ("right"; always, where
there is one rater, or nobody careless); of the others, those in which a warning says that it cannot be told ("warned"),
or nothing does ("silent"); careless raters that a warning names ("named"), of all ("careless"); others that a warning
calls random or contrary ("slandered"); studies with a warning that something cannot be told ("unsure"); and the mean
weight of each rater, where 1 is average. Run: OMP_NUM_THREADS=1 python benchmarks/raters.py.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles.ranking.raters._plan import plan
from oracles.ranking.raters._reliability import RaterModel

D, STUDIES = 8, 20
BROKEN = 100.0
CARELESS = ("random", "lazy", "reversed")

MIXES = {
    "1: careful": ("careful",),
    "1: random": ("random",),
    "1: lazy": ("lazy",),
    "2: careful, random": ("careful", "random"),
    "2: careful, reversed": ("careful", "reversed"),
    "3: careful": ("careful",) * 3,
    "3: careful, 2 random": ("careful", "random", "random"),
    "3: careful, random, lazy": ("careful", "random", "lazy"),
    "3: erring, 2 random": ("erring", "random", "random"),
    "3: 2 careful, reversed": ("careful", "careful", "reversed"),
    "3: careful, erring, drifting": ("careful", "erring", "drifting"),
    "5: careful, 4 random": ("careful", *("random",) * 4),
    "5: 2 careful, random, lazy, reversed": ("careful", "careful", "random", "lazy", "reversed"),
}

FORMS = {  # candidates, how many are ranked, rounds
    "rounds of 8, all ranked": (8, 8, 15),
    "rounds of 8, best 3": (8, 3, 15),
    "duels, 15": (2, 1, 15),
    "duels, 60": (2, 1, 60),
}

MIXTURES_OF_EVIDENCE = {  # checks, repeats, predictions
    "all": (True, True, True),
    "no predictions": (True, True, False),
    "no checks": (False, True, True),
    "agreement alone": (False, False, False),
}


class Taste:
    """A quadratic utility, in units of its median difference between two random points; lower is better."""

    def __init__(self, seed: int) -> None:
        r = np.random.default_rng(seed)
        self.best, self.scale, self.drift = r.uniform(0.2, 0.8, D), np.linspace(1, 3, D), r.standard_normal(D)
        self.unit = 1.0
        values = self(r.random((2000, D)), 0.0)
        self.unit = float(np.median(np.abs(np.diff(values))))

    def __call__(self, x: np.ndarray, moved: float) -> np.ndarray:
        """Of points x, shape (n, d), when the taste has moved by a share of its whole way."""
        straight = moved * (x @ self.drift) / np.sqrt(self.drift @ self.drift / 12)
        return (self.scale * (x - self.best) ** 2).sum(axis=1) / self.unit + straight


def answer(kind: str, f: np.ndarray, order: np.ndarray, k: int, r: np.random.Generator) -> bz.Ranking:
    """What a rater of some kind says; f may be of the order of `BROKEN`, which everybody sees."""
    if kind == "lazy":
        return bz.Ranking(order[:k].tolist(), len(f))
    if kind == "random":
        return bz.Ranking(r.permutation(len(f))[:k].tolist(), len(f))
    heard = (-f if kind == "reversed" else f) - {"erring": 0.2}.get(kind, 0.05) * r.gumbel(size=len(f))
    return bz.Ranking(np.argsort(heard)[:k].tolist(), len(f))


def study(kinds: tuple[str, ...], form: str, evidence: str, seed: int) -> RaterModel:
    m, k, rounds = FORMS[form]
    checks, repeats, predictions = MIXTURES_OF_EVIDENCE[evidence]
    taste, r = Taste(seed), np.random.default_rng(1000 + seed)
    names = [f"{kind} {i}" for i, kind in enumerate(kinds)]
    search = bz.Search(bz.Vector(r.random(D), bounds=(0.0, 1.0)), bz.PreferenceGP(0.25, m), seed=seed)
    model, past = RaterModel(), {}
    for t in range(rounds):
        planned = plan(t, seed, checks=checks, repeats=repeats)
        proposal = None
        if planned.step is not None:
            points = past[planned.step][0]
        elif planned.kind == "check":
            points = r.random((m, D))
        else:
            proposal = search.ask()
            points = np.array(proposal.points)
        shown = {name: r.permutation(len(points)) for name in names}
        said = {}
        for name, kind in zip(names, kinds, strict=True):
            f = taste(points, t / rounds if kind == "drifting" else 0.0)
            f[-1] += BROKEN * (planned.kind == "check")
            said[name] = answer(kind, f, shown[name], k, r)
        x = points if predictions else None
        if planned.kind == "check":
            model = model.update(said, check=bz.Ranking([tuple(range(m - 1))], m), shown=shown)
        elif planned.step is not None:
            model = model.update(said, repeats=past[planned.step][1], points=x, shown=shown)
        else:
            model = model.update(said, points=x, shown=shown)
            past[t] = points, said
            assert proposal is not None
            search.tell(proposal, model.merge(said))
    return model


def judged(models: list[RaterModel]) -> dict[str, Any]:
    out: dict[str, Any] = {"right": 0, "warned": 0, "silent": 0, "named": 0, "careless": 0, "slandered": 0, "heeded": 0}
    weights = []
    for model in models:
        w, said = model.weights, model.warnings()
        good = [name for name in w if not name.startswith(CARELESS)]
        bad = [name for name in w if name not in good]
        right = all(w[a] > w[b] for a in good for b in bad) if len(w) > 1 else True
        unsure = any("cannot tell" in text for text in said)
        out["right"] += right
        out["warned"] += not right and unsure
        out["silent"] += not right and not unsure
        out["careless"] += len(bad)
        out["named"] += sum(any(text.startswith(f"{name}:") for text in said) for name in bad)
        out["slandered"] += sum(
            any(text.startswith((f"{name}: the answers look random", f"{name}: the answers run")) for text in said)
            for name in good
        )
        out["heeded"] += unsure
        weights.append([w[name] for name in w])
    out["unsure"] = out.pop("heeded")
    out["weights"] = np.mean(weights, axis=0).round(2).tolist()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--show", action="store_true", help="print the warnings of the first study of each mix")
    given = parser.parse_args()
    result: dict[str, Any] = {"studies": given.studies}
    for evidence in MIXTURES_OF_EVIDENCE:
        forms = FORMS if evidence == "all" else ["rounds of 8, all ranked"]
        for form in forms:
            row = result.setdefault(f"{form}; {evidence}", {})
            for mix, kinds in MIXES.items():
                if evidence != "all" and not mix.startswith(("1", "3")):
                    continue
                models = [study(kinds, form, evidence, s) for s in range(given.studies)]
                row[mix] = judged(models)
                print(f"{form}; {evidence}; {mix}:", row[mix], flush=True)
                if given.show:
                    print(*models[0].warnings(), sep="\n")
    save(__file__, result)


if __name__ == "__main__":
    main()
