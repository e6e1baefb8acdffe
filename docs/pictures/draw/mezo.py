"""Fine-tuning by forward passes: validation loss against MeZO's, three seeds each."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, new_figure, result

DATA = ("llm_convergence.json",)
PER_STEP = 2  # forward passes of 16 examples
SIDES = ("MeZO", "final norm", "all parameters", "top two layers")
TARGET, TOP = 3.2, 6.5


def curves() -> dict[str, list[list[tuple[int, float]]]]:
    """(forward passes, loss) of each seed, by side, at the learning rate that the benchmark chose, up to the target."""
    found = result(DATA[0])
    out = {}
    for side in SIDES:
        prefix = f"{side}, rate {found['summary'][side]['rate']:g}, seed "
        runs = [curve for key, curve in found["runs"].items() if key.startswith(prefix) and key.endswith("100 steps")]
        out[side] = [[(PER_STEP * step, loss) for step, loss in until(curve)] for curve in runs]
    return out


def until(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A curve to its first loss at the target: most runs were stopped there, and one went on."""
    there = (i for i, (_, loss) in enumerate(curve) if loss <= TARGET)
    return curve[: next(there, len(curve)) + 1]


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = new_figure(3.6)
    look = {
        "MeZO": (theme.orange, "s", "MeZO's loop", (61, 4.6)),
        "final norm": (theme.green, "^", "last norm only, Adam", (38, 2.62)),
        "all parameters": (theme.blue, "o", "all weights", (12, 2.36)),
        "top two layers": (theme.pink, "D", "last two layers", (11, 1.72)),
    }
    for side, runs in curves().items():
        colour, marker, name, at = look[side]
        for run in runs:
            passes, losses = zip(*run, strict=True)
            axes.plot(passes, losses, color=colour, marker=marker, markersize=4, linewidth=1.5)
        axes.text(*at, name, color=colour, weight="bold")
    axes.text(64, 6.35, "one of three\nseeds diverges", color=theme.orange, va="top", fontsize=10)
    axes.set_xlim(-2, 96)
    axes.axhline(TARGET, color=theme.muted, linewidth=1.0, linestyle="--")
    axes.set_ylim(1.3, TOP)
    axes.set_xlabel("forward passes of 16 examples")
    axes.set_ylabel("validation loss, nats")
    return made
