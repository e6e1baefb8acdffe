"""What a researcher should know of the raters, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from blackbox_zo._typing import Floats
from oracles.ranking.raters._belief import SURE, Standing
from oracles.ranking.raters._kendall import Agreement
from oracles.ranking.raters._rounds import Evidence
from oracles.ranking.raters._trends import Fatigue

__all__ = ["warnings_of"]

ENOUGH = 8
"""Rounds after which a rater about whom nothing can be told is worth a word."""

CLEAR = 3.5
"""Standard errors from which a tendency is said to be one."""


class Model(Protocol):
    """What is read of a model of raters; see `RaterModel`."""

    @property
    def evidence(self) -> Evidence: ...
    @property
    def raters(self) -> tuple[str, ...]: ...
    @property
    def standings(self) -> Mapping[str, Standing]: ...
    @property
    def weights(self) -> Mapping[str, float]: ...
    def checks(self, rater: str) -> tuple[int, int]: ...
    def retest(self, rater: str) -> Agreement: ...
    def foreseen(self, rater: str) -> Agreement: ...
    def shown(self, rater: str) -> Agreement: ...
    def agreement(self, rater: str) -> Floats: ...
    def fatigue(self, rater: str) -> Fatigue: ...


def warnings_of(model: Model) -> list[str]:
    """The sentences, rater by rater."""
    said = []
    for name in model.raters:
        said += [f"{name}: {text}" for text in (_care(model, name), _screen(model, name), _tired(model, name)) if text]
    return said


def _care(model: Model, name: str) -> str:
    told, standing = model.evidence, model.standings[name]
    count = " They count next to nothing." if len(told.raters) > 1 else ""
    compared, answered = told.answered[told.index(name)].tolist()
    if answered >= ENOUGH and compared == 0:
        return f"no answer of {answered:.0f} says that one candidate is better than another."
    if standing.contrary >= SURE:
        passed, asked = model.checks(name)
        whom = "the known ones" if asked and passed < asked else "those of the others"
        return (
            f"the answers run against {whom} ({_evidence(model, name)}). Best and worst may have been mistaken for "
            f"each other.{count}"
        )
    if standing.careful <= 1 - SURE:
        return f"the answers look random ({_evidence(model, name)}).{count}"
    if answered < ENOUGH or standing.careful >= SURE:
        return ""
    return (
        f"{answered:.0f} rounds cannot tell whether the answers are careful: {100 * standing.careful:.0f} % careful, "
        f"{100 * standing.random:.0f} % random, {100 * standing.contrary:.0f} % contrary. {_why(model, name)}"
    )


def _evidence(model: Model, name: str) -> str:
    """What there is to say of a rater."""
    parts = []
    passed, asked = model.checks(name)
    if asked:
        parts.append(f"{passed} of {asked} checks passed")
    for what, found in (
        ("repeated rounds", model.retest(name)),
        ("predictions from earlier answers", model.foreseen(name)),
    ):
        if found.n:
            parts.append(f"{what} {_tau(found)}")
    row = model.evidence.mutual[model.evidence.index(name)].sum(axis=0)
    if row.sum() > 0:
        parts.append(f"{100 * row[0] / row.sum():.0f} % agreement with the others")
    return ", ".join(parts) or "nothing to compare with"


def _why(model: Model, name: str) -> str:
    """Why it cannot be told."""
    told, why = model.evidence, []
    row = told.index(name)
    asked, again = model.checks(name)[1], model.retest(name)
    why.append(_count(asked, "check") + " asked" if asked else "no check was asked")
    why.append(f"{_count(again.n, 'round')} repeated, {_tau(again)}" if again.n else "no round was repeated")
    found = model.foreseen(name)
    if not found.n:
        why.append("no answer could be predicted from earlier ones")
    elif found.tau < 2 * found.stderr:
        why.append(f"the answers do not follow from earlier ones, {_tau(found)}")
    others = told.mutual[row].sum(axis=-1) > 0
    if not others.any():
        why.append("nobody else rated the same candidates")
    elif all(_unsure(model, other) for other, met in zip(told.raters, others, strict=True) if met and other != name):
        why.append("it is not known of the others who rated the same candidates either")
    if told.answered[row, 0] and _independent(model, name) <= 1.5:
        why.append("a round gives a single comparison")
    weight = f" The answers count {model.weights[name]:.2f} times the average." if len(told.raters) > 1 else ""
    return f"{why[0][0].upper()}{'; '.join(why)[1:]}.{weight} More checks or repeated rounds would tell."


def _unsure(model: Model, name: str) -> bool:
    return max(model.standings[name][1:]) < SURE


def _independent(model: Model, name: str) -> float:
    """Independent comparisons of a rater's average answer, as far as it was compared with anything."""
    told = model.evidence
    row = told.index(name)
    sums = told.sums[row].sum(axis=0)
    return float(sums[:2].sum() / sums[4]) if sums[4] else float("nan")


def _screen(model: Model, name: str) -> str:
    found = model.shown(name)
    n = float(model.evidence.of(name, "shown")[:2].sum())
    if not (found.n >= ENOUGH and abs(found.tau) * n**0.5 > CLEAR):  # by chance the standard error is n^(-1/2)
        return ""
    way = "first" if found.tau > 0 else "last"
    return f"what is shown {way} is put first (order on the screen {_tau(found)})."


def _tired(model: Model, name: str) -> str:
    slope, stderr = model.fatigue(name).agreement
    if model.agreement(name).size < 2 * ENOUGH or not slope < -CLEAR * stderr:
        return ""
    return f"agreement with the others falls by {-100 * slope:.1f} ± {100 * stderr:.1f} % a round."


def _tau(found: Agreement) -> str:
    return f"τ = {found.tau:.2f} ± {found.stderr:.2f}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
