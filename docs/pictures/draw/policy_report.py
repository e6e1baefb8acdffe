"""The report of a swimmer that was trained in some fifteen seconds: its learning curve, and the policy at play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draw._pages import run, shot
from draw._style import Theme

HEIGHT = 1278  # to the end of the video
TRAIN = "--env Swimmer-v5 --steps 40 --every 5 --workers 2 --journal run.jsonl --save policy.npz --quiet"


def page(folder: Path) -> Path:
    """Train, once, and draw the report."""
    out = folder / "policy_report.html"
    if not out.exists():
        place = folder / "policy"
        place.mkdir()
        run(place, "train-policy", *TRAIN.split())
        run(place, "report", "run.jsonl", "-o", str(out))
    return out


def photograph(browser: Any, theme: Theme, folder: Path) -> bytes:
    """The beginning of the page, two seconds into the video."""
    return shot(browser, theme, page(folder), HEIGHT, wait=2.0)
