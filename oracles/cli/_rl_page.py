"""A report of a training as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

import base64
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oracles.cli._finetune_page import _drawn
from oracles.cli._page import command, document, facts, tiles
from oracles.cli._plots import EARLY, INK, LATE, PAPER, drawing
from oracles.cli._rl_history import Career
from oracles.cli._rl_plots import learning
from oracles.cli._rl_progress import figure

if TYPE_CHECKING:
    from oracles.rl._video import Video

__all__ = ["page_of_career", "picture_of_career", "shown_policy"]

_STYLE = f"""<style>
.key b {{ width: 8px; height: 8px; border-radius: 4px; background: {EARLY}; }}
.key em {{ width: 22px; height: 2px; background: {LATE}; }}
.key u {{ width: 22px; border-top: 2px dashed var(--muted); }}
.key {{ column-gap: 18px; }} .key div {{ display: flex; align-items: center; gap: 8px; }}
.video {{ display: grid; grid-template-columns: minmax(200px, 420px) minmax(0, 1fr); gap: 12px; }}
.video .card:first-child {{ padding: 0; overflow: hidden; line-height: 0; }}
.video img {{ width: 100%; height: auto; }} .commands p {{ margin: 0 0 4px; }}
@media (max-width: 640px) {{ .video {{ grid-template-columns: 1fr; }} }}
</style>"""


def shown_policy(career: Career, policy: Path | None) -> tuple[str, Video | None, str]:
    """The video of a saved policy: the file's name, the video, and why there is none; all empty without a file.

    Args:
        career: The run.
        policy: The file; none takes the one that the run was told to save, if it is there.

    Raises:
        BadInput: The file that was asked for is none of a policy.
    """
    from oracles.cli._errors import BadInput, told
    from oracles.cli._rl_setup import env_of, needed

    saved = career.settings.get("save")
    if policy is None and (not saved or not Path(saved).exists()):
        return "", None, ""
    path = policy or Path(str(saved))
    needed()
    from oracles.rl import EnvError, load
    from oracles.rl._video import video

    with told():
        act = load(path)
    try:
        return path.name, video(env_of(career.env), act, max_steps=career.header["problem"].get("max_steps")), ""
    except (EnvError, BadInput) as error:
        return path.name, None, str(error)


def page_of_career(career: Career, video: tuple[str, Video | None, str]) -> str:
    """The whole file as text.

    Args:
        career: The run.
        video: From `shown_policy`.
    """
    parts = [
        _STYLE,
        f"<h1>{escape(career.path.name)}</h1>",
        f'<pre class="command muted">{command(career.env)}</pre>',
        f'<p class="card note">{escape(career.note)}</p>' if career.note else "",
        tiles(career.tiles()),
        _learning(career),
        _video(*video),
        _failures(career),
        _commands(career),
        facts("The run", career.facts()),
    ]
    return document(career.path.name, parts)


def picture_of_career(career: Career, path: Path) -> None:
    """Draw the learning curve and its figures into a PNG."""
    from matplotlib.figure import Figure

    with drawing():
        drawn = Figure(figsize=(9.6, 4.6), layout="constrained")
        learning(drawn.subplots(), career, PAPER)
        figures = "     ".join(f"{label}: {value}" for label, value in career.tiles()[:4])
        drawn.suptitle(f"{career.env}\n{figures}", x=0.02, ha="left", fontsize=10, color=PAPER.ink)
        drawn.savefig(path, format="png", dpi=120, facecolor=PAPER.surface, metadata={"Software": None})


def _learning(career: Career) -> str:
    known = np.isfinite(career.mean)
    if not known.any() and not career.evaluations.done:
        return ""
    pictures = [
        f'<div class="{kind}">{_drawn(size, partial(learning, career=career, theme=INK), "learning curve")}</div>'
        for kind, size in (("wide", (9.6, 3.8)), ("narrow", (4.4, 3.4)))
    ]
    key = []
    if known.any():
        key.append("<div><b></b><span>mean of a step's candidates</span></div>")
        key.append("<div><u></u><span>best candidate so far</span></div>")
    if career.evaluations.done:
        key.append("<div><em></em><span>evaluated, and its standard error</span></div>")
        key.append("<div><span>○ best evaluated</span></div>")
    if career.barren.any():
        key.append("<div><span>× all failed</span></div>")
    if not known[~career.barren].all():
        key.append("<div><span>candidates that played the first steps of episodes are left out</span></div>")
    return f'<h2>Learning curve</h2><div class="key">{"".join(key)}</div><div class="card">{"".join(pictures)}</div>'


def _video(name: str, video: Video | None, why: str) -> str:
    if not name:
        return ""
    if video is None:
        return f'<h2>The policy at play</h2><p class="card note">{escape(name)} cannot be shown. {escape(why)}</p>'
    data = base64.b64encode(video.webp).decode()
    picture = (
        f'<img src="data:image/webp;base64,{data}" width="{video.width}" height="{video.height}" '
        'alt="the policy at play">'
    )
    words = [
        ("policy", name),
        ("return of this episode", figure(video.total)),
        ("its steps", f"{video.steps:,}"),
        ("shown", f"the first {video.seconds:.1f} s, in {video.frames} pictures"),
    ]
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in words)
    return (
        f'<h2>The policy at play</h2><div class="video"><div class="card">{picture}</div>'
        f'<div class="card"><dl>{rows}</dl></div></div>'
    )


def _failures(career: Career) -> str:
    reasons = career.reasons()
    if not reasons:
        return ""
    rows = "".join(
        f'<tr><td class="text">{escape(reason)}</td><td>{count:,}</td><td>{latest:,}</td></tr>'
        for reason, count, latest in reasons[:25]
    )
    more = f"<p class='muted'>And {len(reasons) - 25:,} more reasons.</p>" if len(reasons) > 25 else ""
    head = "<tr><th>reason</th><th>candidates</th><th>the latest</th></tr>"
    return f'<h2>Failures</h2><div class="card scroll"><table>{head}{rows}</table></div>{more}'


def _commands(career: Career) -> str:
    cards: list[Any] = [
        f'<div class="card"><p class="muted">{escape(what)}</p><pre>{command(text)}</pre></div>'
        for what, text in career.commands()
    ]
    return f'<h2>Commands</h2><div class="commands">{"".join(cards)}</div>' if cards else ""
