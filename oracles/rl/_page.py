"""The report of a training."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from pathlib import Path

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.journal import JournalReader
from oracles.options import BadInput, told
from oracles.page import Chart, Commands, Facts, Layer, Media, Page, Section
from oracles.rl._career import Career, lines_of
from oracles.rl._names import KIND, RETURN
from oracles.rl._tally import short
from oracles.sections import failures, library, measures, method, of_total, spelt

__all__ = ["page_of"]

_CHEAP = 20_000_000
"""Most numbers (candidates times parameters) to replay for a video that was not requested: some seconds."""


def page_of(reader: JournalReader, given: argparse.Namespace) -> Page:
    """The report of a training; see `Kind.page`."""
    career = Career(reader)
    sections = [
        *_learning(career),
        *measures(career.others),
        *_at_play(career, reader, given),
        *([Section("Failures", [failures(career.reasons(), "candidates")])] if len(career.failed) else []),
        *_commands(career, reader.path),
        Section("The run", [Facts(_facts(career))]),
    ]
    return Page(reader.path.name, career.env, _tiles(career), sections, _note(career))


def _note(career: Career) -> str:
    if not career.steps:
        return "No step has been recorded yet."
    return "Every candidate failed. See the reasons below." if career.barren.all() else ""


def _tiles(career: Career) -> list[tuple[str, str]]:
    out, best, last = list[tuple[str, str]](), career.best, career.last
    if best is not None and last is not None:
        out.append((f"best evaluation, after step {best.step:,}", short(best.values[RETURN])))
        if last.step > best.step:
            out.append((f"last evaluation, after step {last.step:,}", short(last.values[RETURN])))
    elif np.isfinite(career.mean_return).any():
        out.append(("best return of a candidate", short(float(np.nanmax(career.best_return)))))
    out.append(("steps", of_total(career.steps, career.settings.get("steps"))))
    out.append(("environment steps", f"{int(career.played[-1]) if career.steps else 0:,}"))
    out.append(("episodes", f"{career.n * career.problem['episodes']:,}"))
    out.append(("failed candidates", f"{len(career.failed):,}"))
    return out


# ---------------------------------------------------------------------------------------------------- curves


def _learning(career: Career) -> list[Section]:
    known = np.isfinite(career.mean_return)
    done = [m for m in career.evaluations if np.isfinite(m.values.get(RETURN, np.nan))]
    if not known.any() and not done:
        return []
    layers = []
    if known.any():
        layers.append(
            Layer(
                career.played[known], career.mean_return[known], "mean return of a step's candidates", "dots", "early"
            )
        )
        layers.append(Layer(career.played, career.best_so_far, "best candidate so far", "dashed", "muted"))
    if career.barren.any():
        layers.append(Layer(career.played[career.barren], np.empty(0), "all failed", "crosses", "bad"))
    if done:
        at, mean, stderr = (np.array([m.values.get(name, 0.0) for m in done]) for name in ("steps", RETURN, "stderr"))
        spread: Floats = np.where(np.isfinite(stderr), stderr, 0.0)
        layers.append(Layer(at, mean, "evaluation (mean return ± standard error)", "line", "late", spread))
        top = np.array([done.index(best) for best in [career.best] if best is not None])
        layers.append(Layer(at[top], mean[top], "best evaluation", "ring", "ink"))
    compared = "evaluation (mean return ± standard error)" if done else "mean return of a step's candidates"
    chart = Chart("environment steps", "return", layers, maximize=True, linear=True, compared=compared)
    cut = bool((~known & ~career.barren).any())
    note = "Candidates whose episodes the horizon cut short are left out." if cut else ""
    return [Section("Learning curve", [chart], note)]


# ---------------------------------------------------------------------------------------------------- the video


def _at_play(career: Career, reader: JournalReader, given: argparse.Namespace) -> list[Section]:
    """The requested policy, else the saved one, else the best one, rebuilt if that is cheap."""
    title, output = "The policy at play", given.output
    picture = output is not None and output.suffix.lower() == ".png"
    if given.no_video or picture or len(given.journals) > 1:
        return []
    saved = given.policy or career.settings.get("save")
    path = Path(saved) if saved and (given.policy or Path(saved).is_file()) else None
    if importlib.util.find_spec("gymnasium") is None or importlib.util.find_spec("cloudpickle") is None:
        if given.policy is not None:
            raise BadInput("--policy needs gymnasium and cloudpickle: pip install 'blackbox-zo[rl]'")
        return []
    from oracles.rl._environment import EnvError
    from oracles.rl._rebuilt import rebuilt, trusted_env
    from oracles.rl._video import video
    from oracles.rl.trained import Loaded, load

    if path is not None:
        with told():
            act, name = load(path), path.name
    elif career.steps and career.n * career.header.get("dimension", 0) <= _CHEAP:
        best = career.best
        try:
            step, found = rebuilt(career.header, lines_of(reader), None if best is None else best.step)
        except (BadInput, ValueError, KeyError, TypeError):  # its program alone can, and nobody asked for it
            return []
        act, name = Loaded(found.layers(), career.env), f"after step {step:,}"
    else:
        return []
    try:
        drawn = video(trusted_env(career.env, given.trust), act, max_steps=career.problem.get("max_steps"))
    except (EnvError, BadInput) as error:
        return [Section(title, [], f"The policy {name} cannot be shown. {error}")]
    facts = [
        ("policy", name),
        ("return", short(drawn.episode_return)),
        ("steps", f"{drawn.steps:,}"),
        ("shown", f"the first {drawn.seconds:.1f} s, in {drawn.frames} frames"),
    ]
    return [Section(title, [Media("image/webp", drawn.webp, drawn.width, drawn.height, "the policy at play", facts)])]


# ---------------------------------------------------------------------------------------------------- the rest


def _commands(career: Career, path: Path) -> list[Section]:
    """Commands for what to do next with the run."""
    name, rows = shlex.quote(str(path)), []
    words = career.settings.get("arguments")
    if isinstance(words, list):
        typed = list(map(str, words)) if words[:1] == [KIND] else [KIND, *map(str, words)]
        rows.append(("how it was started", shlex.join(["blackbox-zo", *typed])))
        if career.header.get("format") != 1:
            over = career.steps >= int(career.settings.get("steps") or career.steps + 1)
            rows.append(("to continue", f"blackbox-zo resume {name}" + f" --steps {2 * career.steps}" * over))
    if career.problem["policy"] in ("LinearPolicy", "MLPPolicy") and career.steps:
        rows.append(("to save the policy", f"blackbox-zo export {name} -o policy.npz"))
    return [Section("Commands", [Commands(rows)])] if rows else []


def _facts(career: Career) -> list[tuple[str, str]]:
    """The settings of the run."""
    settings, problem = career.settings, career.problem
    hidden = problem.get("hidden") or settings.get("hidden")
    policy = str(problem["policy"]) + (f", hidden layers of {', '.join(map(str, hidden))}" if hidden else "")
    first, growth = problem.get("horizon") or (0, 0)
    versions = ", ".join(f"{name} {version}" for name, version in problem["versions"].items())
    rows = {
        "environment": career.env,
        "policy": f"{policy}, {career.header.get('dimension') or 0:,} parameters",
        "observations": "normalised" if problem.get("normalize") else "as they are",
        "preset": settings.get("preset"),
        **dict(method(career.header)),
        "learns from": "ranks alone" if problem.get("rank") else "scores",
        "score": problem.get("score") or "return",
        "subtracted from each reward": problem.get("survival_bonus"),
        "episodes per candidate": problem["episodes"],
        "maximum steps per episode": problem.get("max_steps") or "the environment's",
        "environments stepped together": problem.get("num_envs", 1) if problem.get("num_envs", 1) > 1 else None,
        "horizon of an episode": f"{first} steps, {growth} more in each step of the search" if first else None,
        "time limit of an episode, s": settings.get("timeout"),
        "workers": None if settings.get("workers") is None else str(settings["workers"]),
        "evaluations": f"{settings['evaluate']} episodes every {settings['every']} steps"
        if settings.get("evaluate")
        else None,
        "versions": versions,
    }
    return [*((name, spelt(value)) for name, value in rows.items() if value), library(career.header)]
