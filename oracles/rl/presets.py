"""Policy search methods, each with the settings of its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import blackbox_zo as bz
from oracles.rl._horizon import Horizon

__all__ = ["PRESETS", "Preset", "preset"]


@dataclass(frozen=True)
class Preset:
    """An estimator, a rule, and how to play episodes for them.

    Attributes:
        estimator: The estimator.
        rule: The rule; None takes the estimator's own.
        normalize: Whether to normalise observations.
        rank: Whether the search sees only the ranking of a step's scores, as if people had ranked the episodes.
        episodes: Episodes per candidate.
        horizon: Cuts episodes short; None plays whole ones. Ignored with a `score` or `Rollouts`.
    """

    estimator: bz.Estimator
    rule: bz.Rule | None = None
    normalize: bool = False
    rank: bool = False
    episodes: int = 1
    horizon: Horizon | None = None


def _ars(n: int, b: int | None, normalize: bool) -> Callable[[int], Preset]:
    """Defaults of the reference code of Mania, Guy & Recht 2018 (arXiv 1803.07055): N = 8, step 0.02, nu 0.03."""
    return lambda d: Preset(bz.AugmentedRandomSearch(0.03, n, b), bz.SGD(0.02), normalize)


def _openai_es(d: int) -> Preset:
    """Salimans et al. 2017 (arXiv 1703.03864): antithetic draws of 0.02, centred ranks, Adam 0.01, decay 0.005."""
    rule = bz.chain(bz.WeightDecay(0.005), bz.Adam(0.01))
    return Preset(bz.PGPE(0.02, 20, sigma_rate=0.0), rule, normalize=True)


def _pgpe(d: int) -> Preset:
    """Toklu, Liskowski & Srivastava 2020 (ClipUp, PPSN), scaled to sigma = 0.1: see `PGPE`."""
    longest = 0.1 * d**0.5 / 15
    return Preset(bz.PGPE(0.1, 20), bz.ClipUp(0.75 * longest, longest), normalize=True)


def _cma(d: int) -> Preset:
    """CMA-ES (Hansen 2016), diagonal above 100 parameters."""
    return Preset(bz.EvolutionStrategy(0.5))


def _consensus(d: int) -> Preset:
    """Consensus hopping (Riedl et al. 2023): alpha has units of 1 / return, so scale returns with `score=`."""
    return Preset(bz.ConsensusBased(0.1, 32, alpha=1.0, scheme="hopping"), normalize=True)


def _rank(d: int) -> Preset:
    """As `auto`, from rankings alone."""
    return replace(_auto(d), rank=True)


def _rank_sgd(d: int) -> Preset:
    """ZO-RankSGD with a line search (Tang et al. 2024, arXiv 2303.03751), from rankings alone."""
    return Preset(bz.RankSGD(0.1, 10), normalize=True, rank=True)


def _auto(d: int) -> Preset:
    """CMA-ES up to 32 parameters, else PGPE on the best quarter of 10 pairs; early episodes are cut short."""
    if d <= 32:
        return replace(_cma(d), horizon=Horizon(300, 3))
    return replace(_pgpe(d), estimator=bz.PGPE(0.1, 10, elite=0.25), horizon=Horizon())


PRESETS: dict[str, Callable[[int], Preset]] = {
    "auto": _auto,
    "ars": _ars(8, 4, True),
    "ars-v1": _ars(8, None, False),
    "ars-v1-t": _ars(8, 4, False),
    "ars-v2": _ars(8, None, True),
    "ars-v2-t": _ars(8, 4, True),
    "openai-es": _openai_es,
    "pgpe": _pgpe,
    "cma": _cma,
    "consensus": _consensus,
    "rank": _rank,
    "rank-sgd": _rank_sgd,
}
"""Functions that make a preset for d parameters, by name."""


def preset(name: str, d: int, **changes: Any) -> Preset:
    """The preset with a name.

    Args:
        name: One of `PRESETS`.
        d: Number of parameters.
        **changes: Fields to replace.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; the presets are {', '.join(PRESETS)}.")
    return replace(PRESETS[name](d), **changes)
