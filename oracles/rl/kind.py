"""Runs of `blackbox-zo train-policy`: policy search on the returns of episodes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import blackbox_zo as bz
from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.journal import JournalReader
from oracles.kind import Kind, Session
from oracles.options import BadInput
from oracles.page import Page
from oracles.rl._career import lines_of
from oracles.rl._names import KIND, RETURN, best_of
from oracles.rl._page import page_of
from oracles.rl._setup import needed, training_of, written
from oracles.rl._tally import TrainingTally, short
from oracles.rl.options import DECIDED, EXAMPLE, OPTIONS, REPORT_OPTIONS

__all__ = ["TrainPolicyKind"]


class _Session(Session):
    """A training run of the command line."""

    tally: TrainingTally

    def __init__(self, kind: Kind, given: argparse.Namespace, settings: dict[str, Any]) -> None:
        super().__init__(kind, given)
        self.training = training_of(given)
        self.tally = TrainingTally(given.steps, given.env_steps, self.training.oracle.episodes)
        if given.save is None and given.onnx is None:
            self.unkept = "Nothing was saved: --save FILE.npz saves the policy, --journal FILE the run."
        kept = ("env", "preset", "steps", "env_steps", "workers", "timeout", "evaluate", "every")
        settings |= {name: getattr(given, name) for name in kept}
        settings["save"] = None if given.save is None else str(given.save.absolute())
        if given.journal is not None:
            try:
                more = {"see": self.tally.see, "names": kind.names, "snapshot_every": given.snapshot_every}
                self.training.record(given.journal, settings, **more)
            except BaseException:
                self.training.close()
                raise
        self.begun_at = self.training.search.moves

    @override
    def introduction(self) -> Iterator[str]:
        """Environment, policy and preset."""
        given, policy = self.given, self.training.policy
        kind = "linear" if given.policy == "linear" else f"mlp {'-'.join(map(str, given.hidden))}"
        yield f"{given.env}: {kind} policy of {policy.size:,} parameters, preset {given.preset}"

    @override
    def run(self, observers: Sequence[bz.Observer], stop: Stop) -> bz.Run:
        """The search, evaluated every `--every` steps and at the end."""
        given = self.given
        left = None if given.steps is None else max(0, given.steps - self.begun_at)
        return self.training.run(
            left,
            given.env_steps,
            last=True,
            observers=observers,
            stop=stop,
            time_limit=given.time_limit,
        )

    @override
    def result(self, run: bz.Run) -> Iterator[str]:
        """The mean returns, the cost, and the saved policy."""
        yield from _evaluations(self.training.search.measured)
        moves = self.training.search.moves
        of = f" of {self.given.steps}" if self.given.steps else ""
        now = f" ({moves - self.begun_at} now)" if self.begun_at else ""
        failed = f", {self.tally.failed} failed" if self.tally.failed else ""
        yield (
            f"{moves}{of} steps{now}, {self.tally.episodes:,} episodes{failed}, {self.tally.env_steps:,} steps of the "
            f"environment, {run.seconds:.1f} s"
        )
        if not self.unkept:
            found, step = self.training.best, self.training.best_step
            policy, value = (self.training.trained, None) if found is None else found
            yield from written(policy, self.given, moves if step is None else step, value)

    @override
    def failure(self, run: bz.Run) -> str:
        """How many candidates failed, and why the first one did."""
        if run.ended is bz.Ended.BARREN:
            return run.message
        reason = run.first_failure.reason if run.first_failure is not None else ""
        return f"all {self.tally.failed} candidates failed." + (f" The first: {reason}" if reason else "")

    @override
    def close(self) -> None:
        """End the workers, and close the journal."""
        self.training.close()


@final
class TrainPolicyKind(Kind):
    """Training runs of policies."""

    name = KIND
    help = "train a policy on the returns of whole episodes"
    example = EXAMPLE
    extra = "rl"
    options = OPTIONS
    report_options = REPORT_OPTIONS
    decided = DECIDED

    @override
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """A training run; its environment is made here."""
        return _Session(self, given, settings)

    @override
    def recognises(self, header: Mapping[str, Any]) -> bool:
        """Any journal that names its environment and policy, even of format 1."""
        problem = header.get("problem")
        if not isinstance(problem, dict) or problem.get("kind", KIND) != KIND:
            return False
        return {"env", "versions", "policy", "episodes"} <= problem.keys()

    @override
    def tally(self, header: Mapping[str, Any]) -> TrainingTally:
        """Returns, evaluations, episodes, and environment steps."""
        settings = header.get("settings") or {}
        return TrainingTally(settings.get("steps"), settings.get("env_steps"), int(header["problem"]["episodes"]))

    @override
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """The learning curve, the policy at play, failures and settings."""
        return page_of(reader, given)

    @override
    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """The policy with the best evaluation, the last, or that of `given.step`, as .npz or .onnx."""
        target: Path = given.output
        if target.suffix.lower() not in (".npz", ".onnx"):
            raise BadInput(f"-o {str(target)!r} must end in .npz or .onnx.")
        onnx = target.suffix.lower() == ".onnx"
        needed(onnx)
        from oracles.rl._rebuilt import rebuilt

        lines = list(lines_of(reader))
        best = best_of(line for line in lines if isinstance(line, bz.Measured))
        wanted = given.step if given.step is not None else None if best is None else best.step
        step, policy = rebuilt(reader.header, lines, wanted)
        value = best.values[RETURN] if best is not None and best.step == step else None
        where = argparse.Namespace(save=None if onnx else target, onnx=target if onnx else None)
        yield from written(policy, where, step, value)


def _evaluations(measured: Sequence[bz.Measured]) -> Iterator[str]:
    """One line: the first evaluation, the best and the last."""
    known = [m for m in measured if m.name == RETURN and math.isfinite(m.values.get(RETURN, math.nan))]
    best = best_of(known)
    if best is None:
        return
    first, last = known[0], known[-1]
    told_of = [f"{short(first.values[RETURN])} before"] * (first.step == 0 and last.step > 0)
    told_of += [f"{short(best.values[RETURN])} after step {best.step} (the best)"] * (best.step < last.step)
    yield "evaluated: " + ", ".join([*told_of, f"{short(last.values[RETURN])} after step {last.step}"])
