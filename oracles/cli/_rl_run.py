"""One training of the command line: the search, what is shown of it, and how it ends."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, final

import numpy as np

from blackbox_zo._stop import Stop
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Oracle, Part, gather
from blackbox_zo.proposal import Proposal
from blackbox_zo.wrappers import RankOnly, Wrapper
from oracles.cli._errors import BadInput
from oracles.cli._rl_evaluations import Evaluation, Evaluations, beside
from oracles.cli._rl_journal import go_on
from oracles.cli._rl_policy import evaluated
from oracles.cli._rl_progress import Pace, figure, shown_of
from oracles.cli._rl_setup import open_journal, training_of

if TYPE_CHECKING:
    from oracles.rl import Trained, Training

__all__ = ["run"]

_PATIENCE = 10
"""Steps in a row without any answer after which a training ends."""


def run(given: Namespace) -> int:
    """Train, say how it went, and return the exit code."""
    with Stop() as stop:
        try:
            with contextlib.closing(training_of(given)) as training:
                return _Run(given, stop, training).go()
        except KeyboardInterrupt:
            print("blackbox-zo: interrupted.", file=sys.stderr)
            return 128 + stop.number


@final
class _Watched(Wrapper):
    """Each answer is shown, and is a place where the run may end; a step that is answered at once, before and after it.

    Args:
        oracle: What is asked.
        stop: Hears signals.
        see: Called with each query, its value and what is known beside it.
    """

    def __init__(self, oracle: Oracle, stop: Stop, see: Callable[[int, float, Any], None]) -> None:
        super().__init__(oracle)
        self.stop, self.see = stop, see

    def answer(self, proposal: Proposal) -> Values:
        """See `Oracle.answer`."""
        self.stop.check()
        return gather(proposal, self._seen(proposal))

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """See `Oracle.parts`."""
        self.stop.check()
        with contextlib.closing(self._seen(proposal)) as parts:
            for part in parts:
                yield part
                self.stop.check()

    def _seen(self, proposal: Proposal) -> Generator[Part, None, None]:
        assert isinstance(self.oracle, Oracle)
        inner = self.oracle.parts(proposal)
        try:
            for ids, part in inner:
                assert isinstance(part, Values)
                for i, value, info in zip(ids.tolist(), part.values.tolist(), part.info or (), strict=True):
                    self.see(i, value, info or {})
                yield ids, part
        finally:
            inner.close()  # type: ignore[attr-defined]


class _Run:
    """A run from its journal to its last word.

    Args:
        given: The arguments.
        stop: Hears signals.
        training: The training, whose journal is not open yet.
    """

    def __init__(self, given: Namespace, stop: Stop, training: Training) -> None:
        self.given, self.stop, self.training = given, stop, training
        self.evaluations = Evaluations(None)
        self.shown, self.pace = shown_of(given.quiet, given.steps, given.env_steps), Pace()
        self.best: tuple[int, Trained] | None = None
        self.returns: list[float] = []
        self.cut = 0
        self.answered = self.barren = 0
        self.first_failure = ""
        self.begun_at = 0

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self.training.search.variable.version

    def go(self) -> int:
        """Make the steps, and return the exit code."""
        from oracles.rl import EnvError

        if self.given.journal is not None:
            open_journal(self.given, self.training)
            self.evaluations = Evaluations.of(beside(self.given.journal))
        begun, failure, interrupted = time.monotonic(), "", False
        with self.shown:
            try:
                failure = self._search()
            except KeyboardInterrupt:
                interrupted = True
                if self.stop.abrupt:
                    raise
            except EnvError as error:
                failure = str(error)
        return self._end(failure, interrupted, time.monotonic() - begun)

    # ------------------------------------------------------------------------------------------------- meanwhile

    def _search(self) -> str:
        """Search to the end; why it ended early, if it did."""
        search, oracle = self.training.search, self.training.oracle
        watched = _Watched(oracle, self.stop, self._see)
        asked: Oracle = RankOnly(watched) if self.training.preset.rank else watched
        self.begun_at = self.step
        self.evaluations.begin(self.step)
        self._introduce()
        self.stop.check()
        if search.steps == self.step:  # a step that is half answered was begun after its evaluation
            self._evaluate()
        while not self._enough() and self.barren < _PATIENCE:
            for _ in search.run(asked, 1):
                self._stepped()
        if self.answered and self.pace.failed == self.answered:
            return f"all {self.answered} candidates failed. The first: {self.first_failure}"
        return f"nothing was learnt for {self.barren} steps, in which all failed." if self.barren >= _PATIENCE else ""

    def _enough(self) -> bool:
        steps, env_steps = self.given.steps, self.given.env_steps
        played = self.training.oracle.steps_played
        return (steps is not None and self.step >= steps) or (env_steps is not None and played >= env_steps)

    def _introduce(self) -> None:
        given, policy, oracle = self.given, self.training.policy, self.training.oracle
        self.pace.step = self.step
        self.pace.evaluated = self.evaluations.last.mean if self.evaluations.last is not None else math.nan
        self.pace.played(oracle.episodes_played, oracle.steps_played)
        kind = "linear" if given.policy == "linear" else f"mlp {'-'.join(map(str, given.hidden))}"
        self.shown.note(f"{given.env}: {kind} policy of {policy.size:,} parameters, preset {given.preset}")
        if self.step and self._enough():
            self.shown.note(f"{given.journal} holds all {self.step} steps; a larger --steps would go on.")
        elif self.step or self.training.search.nfev:
            self.shown.note(f"{given.journal} holds {self.step} steps of this run, which goes on.")

    def _see(self, query: int, value: float, info: Any) -> None:
        """Note an answer."""
        self.answered += 1
        if math.isnan(value):
            self.pace.failed += 1
            if not self.first_failure:
                self.first_failure = str(info.get("error", "the score is not finite"))
                self.shown.note(f"candidate {query} failed: {self.first_failure}")
        else:
            self.returns.append(float(info["return"]))
            self.cut = max(self.cut, int(info.get("cut", 0)))
        self.pace.played(self.training.oracle.episodes_played, self.training.oracle.steps_played)
        self.shown.answer(self.pace)

    def _stepped(self) -> None:
        """Note the end of a step."""
        self.barren = 0 if self.returns else self.barren + 1
        self.pace.step = self.step
        self.pace.score = float(np.mean(self.returns)) if self.returns else math.nan
        self.pace.cut = self.cut
        self.returns, self.cut = [], 0
        self._evaluate()
        self.shown.step(self.pace)
        self.stop.check()

    def _evaluate(self) -> None:
        """Evaluate the present policy if it is time, and no signal has come."""
        given, step = self.given, self.step
        due = given.evaluate and (step % given.every == 0 or self._enough())
        if not due or step in self.evaluations.done or self.stop.number:
            return
        now = self.training.trained
        found = evaluated(self.training.oracle.evaluate(now.x, now.seen, given.evaluate))
        oracle = self.training.oracle
        one = Evaluation(step, oracle.steps_played, oracle.episodes_played, found.mean, found.stderr)
        self.evaluations.add(one)
        if found.error:
            self.shown.note(f"step {step}: an episode of the evaluation failed: {found.error}")
            return
        self.pace.evaluated = found.mean
        self.shown.note(f"step {step}: evaluated {figure(found.mean)}")
        if self.evaluations.best == one:
            self.best = step, now

    # ------------------------------------------------------------------------------------------------- after

    def _end(self, failure: str, interrupted: bool, seconds: float) -> int:
        given, step = self.given, self.step
        if failure:
            print(f"blackbox-zo: {failure}", file=sys.stderr)
        if interrupted:
            kept = "; every answer is kept." if given.journal else "."
            print(f"Interrupted after step {step}{f' of {given.steps}' if given.steps else ''}{kept}")
        self._tell(seconds)
        if given.save is not None or given.onnx is not None:
            self._save()
        if given.journal is not None:
            if not self._enough() and not failure:
                print(f"to go on: {go_on(given.typed)}")
            print(f"to see it: blackbox-zo report {shlex.quote(str(given.journal))}")
        elif given.save is None and given.onnx is None:
            print("Nothing was kept: --save FILE.npz would keep the policy, --journal FILE the run.")
        return 128 + self.stop.number if interrupted else 1 if failure else 0

    def _tell(self, seconds: float) -> None:
        """The returns before and after, and what it took."""
        first, best, last = self.evaluations.done.get(0), self.evaluations.best, self.evaluations.last
        if best is not None and last is not None:
            told = [
                f"{figure(e.mean)} {when}" for e, when in ((first, "before"),) if e is not None and e.step < last.step
            ]
            told += [f"{figure(best.mean)} after step {best.step} (the best)"] * (best.step < last.step)
            print("evaluated: " + ", ".join([*told, f"{figure(last.mean)} after step {last.step}"]))
        pace, of = self.pace, f" of {self.given.steps}" if self.given.steps else ""
        now = f" ({self.step - self.begun_at} now)" if self.begun_at else ""
        failed = f", {pace.failed} failed" if pace.failed else ""
        print(
            f"{self.step}{of} steps{now}, {pace.episodes:,} episodes{failed}, {pace.steps:,} steps of the "
            f"environment, {seconds:.1f} s"
        )

    def _save(self) -> None:
        best, given = self.evaluations.best, self.given
        if best is None:
            step, policy = self.step, self.training.trained
        elif self.best is not None and self.best[0] == best.step:
            step, policy = self.best
        else:  # of an earlier run
            step, policy = best.step, self.training.after(best.step)
        what = f"policy after step {step}" + (f", evaluated {figure(best.mean)}" if best is not None else "")
        try:
            if given.save is not None:
                policy.save(given.save)
                print(f"{what}: {given.save}")
            if given.onnx is not None:
                policy.to_onnx(given.onnx)
                print(f"{what}: {given.onnx}")
        except ValueError as error:
            raise BadInput(str(error)) from None
