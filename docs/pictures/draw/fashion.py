"""A simulated person gets to the clothes they want: share of runs that are there, after each round."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, new_figure, result

DATA = ("fashion.json",)
SIDES = ("PreferenceGP", "RankBased + SGD", "EvolutionStrategy", "ZO-RankSGD, published rounds")
CASES = {"(8, 8)": "all 8 put in order", "(8, 3)": "the best 3 put in order"}


def shares(case: str) -> dict[str, list[float]]:
    """Per cent of the runs, after 0 to 15 rounds, by method."""
    methods = result(DATA[0])["methods"]
    return {side: [100 * share for share in methods[side][case]["success"]] for side in SIDES}


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, both = new_figure(6.0, rows=2, sharex=True)
    look = {
        SIDES[0]: (theme.blue, "-", "o", "PreferenceGP"),
        SIDES[1]: (theme.green, "-", "^", "RankBased"),
        SIDES[2]: (theme.pink, "-", "D", "EvolutionStrategy"),
        SIDES[3]: (theme.orange, "--", "s", "ZO-RankSGD as published"),
    }
    for axes, (case, title) in zip(both, CASES.items(), strict=True):
        for side, share in shares(case).items():
            colour, line, marker, name = look[side]
            axes.plot(share, line, color=colour, marker=marker, markersize=4, linewidth=1.5, label=name)
        axes.set_title(title)
        axes.set_ylim(0, 100)
        axes.set_ylabel("share of runs, %")
    both[0].set_xlim(0, 15.2)
    both[0].legend(loc="lower right")
    both[1].set_xlabel("rounds of 8 pictures")
    return made
