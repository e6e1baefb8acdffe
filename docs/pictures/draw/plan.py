"""A plan's pipeline: Llama-3-70B on a 4090, its weights on an NVMe disk; who works on what, and who waits."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, blank, result

DATA = ("plan.json",)


def figure(theme: Theme) -> Any:
    """The drawing."""
    told = result("plan.json")["picture"]
    made, axes = blank(3.4)
    begin, end = told["begin"], told["end"]
    scale, height = 100 / (end - begin), 68 / len(told["lanes"])
    for i, name in enumerate(told["lanes"]):
        axes.text(0, height * i + 3, name, color=theme.muted, fontsize=10, va="center")
    for lane, first, last, label, kind in told["bars"]:
        a, b = max(first, begin), min(last, end)
        if b <= a:
            continue
        left, wide, top = scale * (a - begin), scale * (b - a), height * lane + 5.6
        wait = kind == "wait"
        colour = {"early": theme.orange, "late": theme.blue, "wait": "none"}[kind]
        axes.bar(
            left, height - 6.2, wide, top, align="edge", color=colour, hatch="////" if wait else "",
            edgecolor=theme.line if wait else theme.card, linewidth=0.6 if wait else 1.2,
        )  # fmt: skip
        if not wait and label.isdigit() and wide > 3.5:
            middle = left + wide / 2, top + (height - 6.2) / 2
            axes.text(*middle, label, ha="center", va="center", fontsize=10, color=theme.card, weight="bold")
    return made
