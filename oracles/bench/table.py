"""The table of a suite, as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from oracles.bench.shares import BUDGETS, Shares, reference
from oracles.bench.solvers import OURS
from oracles.bench.suites import SUITES
from oracles.bench.trials import Trial
from oracles.words import figure

__all__ = ["table"]

_SLOW = 24


def table(trials: Sequence[Trial], columns: Sequence[int] = BUDGETS) -> str:
    """Shares of all solvers in each dimension, what the best of the peers would reach, and where ours is slow."""
    parts = [_of(Shares(trials, d), columns) for d in sorted({trial.task.d for trial in trials})]
    failed = [trial for trial in trials if trial.error]
    if failed:
        parts.append("Raised:\n" + "\n".join(f"  {_name(t)}: {t.error:.150}" for t in failed[:_SLOW]))
    return "\n\n".join(parts)


def _of(shares: Shares, columns: Sequence[int]) -> str:
    budgets, noisy = shares.budgets(columns), SUITES[shares.suite].noisy
    peers = [name for name in shares.solvers if name != OURS]
    whole = max((len(shares.longest(name)) for name in shares.solvers), default=0)
    of = "targets that the recommended point is within" if noisy else "(function, target) pairs reached"
    rows = [[f"**{shares.suite}, d = {shares.d}**", *(f"{b:,} d" for b in budgets), "us / query", "problems"]]
    for name in shares.solvers:
        cells = [_cell(shares.share(name, b)) for b in budgets]
        rows.append([name, *cells, figure(float(f"{shares.micros(name):.2g}")), str(len(shares.longest(name)))])
    blank = ["", ""]
    if len(peers) > 1:
        rows.append(["best peer for each target", *(_cell(shares.virtual(peers, b)) for b in budgets), *blank])
    complete = len(shares.functions) == SUITES[shares.suite].functions
    best = [reference(shares.suite, shares.d, b) if complete else math.nan for b in budgets]
    if not all(map(math.isnan, best)):
        rows.append(["COCO's virtual best solver", *map(_cell, best), *blank])
    if OURS in shares.solvers and peers:
        behind = [shares.behind(OURS, peers, b) for b in budgets]
        rows.append(["ours less best peer", *(f"{_signed(gap)} {who}" for gap, _, who in behind), *blank])
        if not all(map(math.isnan, best)):
            closed = [gap / (vbs - peer) for (gap, peer, _), vbs in zip(behind, best, strict=True)]
            rows.append(["share of the gap closed", *map(_signed, closed), *blank])
    text = [f"Share of {of}.", "", _grid(rows)]
    names = [name for name in shares.solvers if len(shares.longest(name)) == whole]
    text += ["", _grid(_more(shares, names, budgets, "mean rank", lambda n, b: shares.rank(n, names, b)))]
    if noisy or shares.suite == "plain":
        what, unit = ("f - f_opt, geometric mean", 1.0) if noisy else ("f / f(x0), geometric mean", 0.01)
        text += ["", _grid(_more(shares, shares.solvers, budgets, what, lambda n, b: unit * shares.gap(n, b)))]
    if not noisy and OURS in shares.solvers and peers:
        text += ["", *_slow(shares, peers)]
    return "\n".join(text)


def _more(
    shares: Shares, names: Sequence[str], budgets: Sequence[int], title: str, value: Callable[[str, int], float]
) -> list[list[str]]:
    rows = [[name, *(_number(value(name, b)) for b in budgets)] for name in names]
    return [[f"{title}, d = {shares.d}", *(f"{b:,} d" for b in budgets)], *rows]


def _slow(shares: Shares, peers: Sequence[str]) -> Iterable[str]:
    found = shares.slow(OURS, peers)
    total = len(shares.longest(OURS))
    goal = "1e-4 f(x0)" if shares.suite == "plain" else "f_opt + 1e-2"
    yield f"Ours needs more than 3 times the best peer's queries to {goal} on {len(found)} of {total} problems."
    for row in sorted(found, key=lambda row: (-row["ours"] / row["theirs"], row["theirs"]))[:_SLOW]:
        ours = "not reached" if math.isinf(row["ours"]) else f"{row['ours']:,.0f}"
        yield f"  f{row['function']} i{row['instance']} d{shares.d}: {ours}; {row['peer']} {row['theirs']:,.0f}"
    if len(found) > _SLOW:
        yield f"  and {len(found) - _SLOW} more"


def _name(trial: Trial) -> str:
    task = trial.task
    return f"{task.solver} f{task.function} i{task.instance} d{task.d}"


def _grid(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    first, *others = ("| " + " | ".join(_padded(row, widths)) + " |" for row in rows)
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([first, rule, *others])


def _padded(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    yield row[0].ljust(widths[0])
    yield from (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))


def _cell(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.3f}".removeprefix("0")


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.3f}".replace("0.", ".", 1)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"
