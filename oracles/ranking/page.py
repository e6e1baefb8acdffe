"""The report of a study."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from blackbox_zo._describe import spell
from blackbox_zo._typing import Floats
from oracles.page import Chart, Facts, Layer, Media, Page, Section, Table
from oracles.ranking.raters._reliability import RaterModel
from oracles.ranking.study._answers import Closed, winner
from oracles.ranking.study._overview import liking_in
from oracles.ranking.study._record import PRACTICE, Round
from oracles.ranking.study._vote import votes_of
from oracles.ranking.study._weights import doubts, model_of
from oracles.ranking.study.reader import StoreReader
from oracles.sections import library, of_total
from oracles.words import span

__all__ = ["page_of"]

_SHOWN, _COLUMNS, _THUMB = 16, 4, 160
"""Winners that are shown, spread over the rounds; how many in a row; the width of each in pixels."""


def page_of(reader: StoreReader) -> Page:
    """What a report says of a study."""
    store = reader.store
    known, model = reader.study.over(), model_of(reader.study)
    with store.record() as record:
        status = Counter((a.rater, record.status(a)) for a in record.answers() if record.purpose(a) != PRACTICE)
        votes = votes_of(record)
    names = store.people.names()
    settings = reader.header["settings"]
    agreed = [closed.agreement for _, closed in known]
    tiles = [
        ("rounds", of_total(len(known), settings.get("rounds"))),
        ("answers that count", f"{sum(n for (_, s), n in status.items() if s == 'counts'):,}"),
        ("comparisons", f"{sum(int(closed.ranking.n_edges) for _, closed in known):,}"),
        ("raters", f"{len({rater for (rater, s) in status if s == 'counts'}):,}"),
    ]
    if np.isfinite(agreed).any():
        tiles.append(("of comparisons agreed", f"{100 * float(np.nanmean(agreed)):.0f} %"))
    if votes is not None:
        tiles.append(("votes for the winner : the start", f"{votes.winner} : {votes.start}"))
    sections = [
        *_winners(reader, known),
        *_liking(reader, known),
        *_curves(known, agreed),
        Section("Raters", [_raters(names, status, known, model)], " ".join(doubts(model, names))),
        Section("The study", [Facts(_facts(reader, settings))]),
    ]
    note = "" if known else "No round has been answered yet."
    return Page(reader.path.name, str(reader.header.get("title") or ""), tiles, sections, note)


def _winners(reader: StoreReader, known: Sequence[tuple[Round, Closed]]) -> list[Section]:
    """The newest winner, and small ones of rounds before."""
    which = np.unique(np.linspace(0, len(known) - 1, min(len(known), _SHOWN)).astype(int)) if known else []
    pictures = []
    for i in which:
        round_, closed = known[i]
        best = winner(closed.ranking)
        candidate = reader.store.gallery.at(round_, best)
        if candidate is not None and candidate.kind == "image" and candidate.mime != "image/svg+xml":
            media = reader.store.gallery.media(candidate.id)
            if media is not None:
                pictures.append((round_.step + 1, media.mime, media.data))
    if not pictures:
        return []
    step, mime, data = pictures[-1]
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    newest = Media(mime, data, width, height, f"Best of round {step}", [("round", str(step))])
    before = [Section("Best of the rounds", [_sheet(pictures)])] if len(pictures) > 1 else []
    return [Section("Best of the newest round", [newest]), *before]


def _sheet(pictures: Sequence[tuple[int, str, bytes]]) -> Media:
    """All winners in one picture, the first at the top left."""
    columns = min(len(pictures), _COLUMNS)
    size = columns * _THUMB, -(-len(pictures) // columns) * _THUMB
    sheet = Image.new("RGB", size, "white")
    for i, (_, _, data) in enumerate(pictures):
        with Image.open(io.BytesIO(data)) as image:
            small = ImageOps.contain(image.convert("RGB"), (_THUMB - 8, _THUMB - 8))
        left, top = (i % columns) * _THUMB, (i // columns) * _THUMB
        sheet.paste(small, (left + (_THUMB - small.width) // 2, top + (_THUMB - small.height) // 2))
    out = io.BytesIO()
    sheet.save(out, format="WEBP", quality=85)
    rounds = ", ".join(str(step) for step, _, _ in pictures)
    return Media("image/webp", out.getvalue(), *size, f"Best of rounds {rounds}", [("rounds, row by row", rounds)])


def _liking(reader: StoreReader, known: Sequence[tuple[Round, Closed]]) -> list[Section]:
    """How the utility of the winners grew, where the points were kept."""
    found = liking_in(reader.study, known)
    if found is None:
        return []
    x = np.array([known[i][0].step + 1.0 for i in found.rounds])
    label = "winner of the round (± standard deviation)"
    layer = Layer(x, found.mean, label, "line", "late", found.stderr)
    chart = Chart("round", "utility", [layer], maximize=True, linear=True, compared=label)
    note = "Utility is that of a model of all answers, less that of the first winner, in units of an answer's noise."
    return [Section("How liking grew", [chart], note)]


def _curves(known: Sequence[tuple[Round, Closed]], agreed: Sequence[float]) -> list[Section]:
    charts = []
    x: Floats = np.array([round_.step + 1.0 for round_, _ in known])
    seconds = np.array([np.mean(list(c.seconds.values())) if c.seconds else np.nan for _, c in known])
    if len(known) > 1 and np.isfinite(seconds).any():
        layer = Layer(x, seconds, "mean of the raters", "line", "late")
        charts.append(Chart("round", "seconds", [layer], title="Time for an answer", compared="mean of the raters"))
    if len(known) > 1 and np.isfinite(agreed).any():
        layer = Layer(x, 100 * np.array(agreed), "agreement", "line", "late")
        charts.append(Chart("round", "%", [layer], title="Comparisons in which raters agree", compared="agreement"))
    return [Section("Over the rounds", charts)] if charts else []


def _raters(
    names: dict[int, str], status: Counter[Any], known: Sequence[tuple[Round, Closed]], model: RaterModel
) -> Table:
    rows, weights = [], model.weights
    for rater, name in names.items():
        times = [c.seconds[rater] for _, c in known if rater in c.seconds]
        counts = [str(status[rater, s]) for s in ("counts", "skipped", "withdrawn", "void")]
        told = ("–", "–", "–")
        if (key := str(rater)) in weights:
            (passed, asked), retest = model.checks(key), model.retest(key)
            told = (
                f"{weights[key]:.2f}",
                f"{passed} of {asked}" if asked else "–",
                f"{retest.tau:.2f} ({retest.n})" if retest.n else "–",
            )
        rows.append((name, *counts, span(float(np.median(times))) if times else "–", *told))
    head = (
        "rater",
        "answers",
        "skipped",
        "withdrawn",
        "void",
        "median time",
        "weight",
        "checks passed",
        "retest τ (n)",
    )
    return Table(rows, head, text=(0,))


def _facts(reader: StoreReader, settings: dict[str, Any]) -> list[tuple[str, str]]:
    header = reader.header
    rows = {
        "question": header.get("question"),
        "state": reader.store.state,
        "render": settings.get("render"),
        "candidates per round": settings.get("candidates"),
        "ranked": settings.get("ranked"),
        "answers per round": settings.get("raters"),
        "numbers in x": header.get("dimension"),
        "estimator": spell(header["estimator"]) if header.get("estimator") else None,
        "seed": header.get("seed"),
    }
    return [*((name, str(value)) for name, value in rows.items() if value is not None and value != ""), library(header)]
