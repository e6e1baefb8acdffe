"""A report of a fine-tuning as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import numpy as np

from oracles.cli._finetune_history import Tuning
from oracles.cli._finetune_plots import FEWEST, training, validation
from oracles.cli._page import command, document, facts, tiles
from oracles.cli._plots import INK, LATE, drawing, svg

__all__ = ["page_of_tuning"]

_STYLE = f"""<style>
.curves {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }}
.curves .card {{ padding: 10px 12px 4px; }}
.key b {{ width: 8px; height: 8px; border-radius: 4px; background: {LATE}; }}
.key em {{ width: 22px; height: 2px; background: var(--ink); }}
.commands .card {{ margin-bottom: 12px; }} .commands p {{ margin: 0 0 4px; }}
</style>"""


def page_of_tuning(tuning: Tuning) -> str:
    """The whole file as text."""
    problem = tuning.problem
    what = " · ".join(str(problem[name]) for name in ("model", "template", "text") if problem.get(name))
    parts = [
        _STYLE,
        f"<h1>{escape(tuning.path.name)}</h1>",
        f'<pre class="command muted">{command(what)}</pre>' if what else "",
        f'<p class="card note">{escape(tuning.note)}</p>' if tuning.note else "",
        tiles(tuning.tiles()),
        _training(tuning),
        _validation(tuning),
        _commands(tuning),
        facts("The run", tuning.facts()),
    ]
    return document(tuning.path.name, parts)


def _training(tuning: Tuning) -> str:
    if not np.isfinite(tuning.losses).any():
        return ""
    pictures = [
        f'<div class="{kind}">{_drawn(size, partial(training, tuning=tuning, theme=INK), "loss of each step")}</div>'
        for kind, size in (("wide", (9.6, 3.4)), ("narrow", (4.4, 3.2)))
    ]
    key = ["<b></b><span>mean of a step's queries</span>"]
    if np.count_nonzero(np.isfinite(tuning.losses)) >= FEWEST:
        key.append("<em></em><span>running median</span>")
    if not np.isfinite(tuning.losses).all():
        key.append("<span>× no finite loss</span>")
    return f'<h2>Training {escape(tuning.loss_name)}</h2><div class="key">{" ".join(key)}</div>' + (
        f'<div class="card">{"".join(pictures)}</div>'
    )


def _validation(tuning: Tuning) -> str:
    measured, last = tuning.validations.measured, tuning.validations.last
    if len(measured) < 2:
        return ""
    cards = [
        f'<div class="card">{_drawn((4.7, 2.8), partial(validation, tuning=tuning, name=name, theme=INK), name)}</div>'
        for name in measured[last]
    ]
    return f'<h2>Validation</h2><div class="key"><span>○ best</span></div><div class="curves">{"".join(cards)}</div>'


def _commands(tuning: Tuning) -> str:
    cards = "".join(
        f'<div class="card"><p class="muted">{escape(what)}</p><pre>{command(text)}</pre></div>'
        for what, text in tuning.commands()
    )
    return f'<h2>Commands</h2><div class="commands">{cards}</div>'


def _drawn(size: tuple[float, float], draw: Callable[[Any], None], label: str) -> str:
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        return svg(figure, escape(label, quote=True))
