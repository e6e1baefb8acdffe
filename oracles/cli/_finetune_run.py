"""One fine-tuning of the command line: what is loaded, what is shown of it, and how it ends."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackbox_zo._stop import Stop
from blackbox_zo.journal import Journal, read
from oracles.cli._errors import BadInput
from oracles.cli._finetune_journal import check_same, go_on, problem_of, settings_for
from oracles.cli._finetune_progress import Pace, in_words, memory, shown_of
from oracles.cli._finetune_settings import Settings
from oracles.cli._finetune_validation import Validations, beside
from oracles.cli._folders import save
from oracles.cli._models import context_of, load
from oracles.cli.report import write as write_report

if TYPE_CHECKING:
    from oracles.llm import Point

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Fine-tune, say how it went, and return the exit code."""
    with Stop() as stop:
        try:
            model, tokenizer = load(settings.given.model, settings.given.dtype)
            return _Run(settings, stop, model, tokenizer).go()
        except KeyboardInterrupt:
            print("blackbox-zo: interrupted.", file=sys.stderr)
            return 128 + stop.number


class _Run:
    """A run from its data to its last word.

    Args:
        settings: What was asked for.
        stop: Hears signals.
        model: The model.
        tokenizer: Its tokenizer.
    """

    def __init__(self, settings: Settings, stop: Stop, model: Any, tokenizer: Any) -> None:
        from blackbox_zo.modules import Module
        from oracles.cli._finetune_data import task_of

        self.settings, self.given, self.stop = settings, settings.given, stop
        self.model, self.tokenizer = model, tokenizer
        self.task = task_of(settings, tokenizer, context_of(model, tokenizer))
        self.size = min(self.given.batch_size, len(self.task.train))
        self.estimator, self.rule = settings.estimator(self.size), settings.rule(self.size)
        self.directions_per = settings.directions_per(self.size)
        try:
            self.module = Module(model, settings.select, self.given.mask, no_decay=self.given.no_decay)
        except ValueError as error:
            raise BadInput(str(error).replace("`Module(select=...)`", "--select")) from error
        self.validations = Validations(None)
        self.shown, self.pace = shown_of(self.given.quiet, self.given.steps), Pace()
        self.begun_at, self.forwards = -1, 0
        self.seconds = self.seconds_before = 0.0

    def go(self) -> int:
        """Make the steps, and return the exit code."""
        from oracles.llm import finetune

        given, checked = self.given, self.stop.checked
        journal = self._journal()
        self._introduce()
        failure, interrupted = "", False
        with self.shown:
            try:
                done = finetune(
                    self.model,
                    self.task.train,
                    checked(self.task.loss),
                    steps=given.steps,
                    batch_size=given.batch_size,
                    module=self.module,
                    estimator=self.estimator,
                    rule=self.rule,
                    validation=self.task.validation,
                    measures=checked(self.task.measures),
                    evaluate_every=self.settings.eval_every,
                    seed=given.seed,
                    journal=journal,
                    sweep=given.sweep,
                    directions_per=self.directions_per,
                    micro_batch=given.micro_batch,
                    reuse=given.reuse,
                    measured=self.validations.measured,
                    progress=self._see,
                )
                failure = done.stopped
            except KeyboardInterrupt:
                interrupted = True
                if self.stop.abrupt:
                    raise
        return self._end(failure, interrupted)

    # ------------------------------------------------------------------------------------------------- before

    def _journal(self) -> Journal | None:
        """The journal, after checking that it is of this run; and the validations beside it."""
        path: Path | None = self.given.journal
        if path is None:
            return None
        problem = problem_of(self.settings, self.task, self.size)
        if path.exists() and path.stat().st_size:
            header, _ = read(path)
            check_same(path, header, problem, self.given.seed, self.module, self.given.model)
            self.validations = Validations.of(beside(path))
        else:
            self.validations = Validations(beside(path))
            if self.given.resume:
                self._note(f"{path} holds no run yet; this one begins.")
        return Journal(path, problem=problem, settings=settings_for(self.settings))

    def _introduce(self) -> None:
        numbers, every = (sum(p.numel() for p in found) for found in (self.module.parameters.values(), self._all()))
        rows = f"{len(self.task.train):,} rows to learn from, {len(self.task.validation):,} to validate on"
        self._note(f"{self.settings.model_name}: {numbers:,} of {every:,} parameters searched; {rows}")

    def _all(self) -> Any:
        return self.model.parameters()

    def _note(self, text: str) -> None:
        if not self.given.quiet:
            print(text, file=sys.stderr, flush=True)

    # ------------------------------------------------------------------------------------------------- meanwhile

    def _see(self, point: Point) -> None:
        """Note a step, and end here if a signal has come."""
        if self.begun_at < 0:
            self.begun_at = point.step
            self.validations.begin(point.step)
            self.seconds_before = self.validations.seconds.get(self.validations.last, 0.0)
            if point.step >= self.given.steps:
                self.shown.note(f"{self.given.journal} holds all {point.step} steps; a larger --steps would go on.")
            elif point.step:
                self.shown.note(f"{self.given.journal} holds {point.step} steps of this run, which goes on.")
        else:
            self.pace.see(point.loss, point.seconds, point.forwards, point.validation is not None)
        if point.validation is not None:
            numbers = self.task.numbers(point.validation)
            self.validations.add(point.step, numbers, self.seconds_before + point.seconds)
            self.shown.note(f"step {point.step}/{self.given.steps}: validation {in_words(numbers)}")
        self.shown.step(point.step, self.pace)
        self.seconds, self.forwards = point.seconds, point.forwards
        if point.step < self.given.steps:
            self.stop.check()

    # ------------------------------------------------------------------------------------------------- after

    def _end(self, failure: str, interrupted: bool) -> int:
        step, steps, journal = self.module.version, self.given.steps, self.given.journal
        if failure:
            print(f"blackbox-zo: {failure}", file=sys.stderr)
        if interrupted:
            print(f"Interrupted after step {step} of {steps}" + ("; every answer is kept." if journal else "."))
        self._tell(step)
        if self.given.save is not None:
            save(self.model, self.tokenizer, self.given.save)
            print(f"weights after step {step}: {self.given.save}")
        if self.given.report is not None:
            print(f"report: {write_report(journal, self.given.report)}")
        if journal is not None:
            self._say_how_to_go_on(step < steps and not failure)
        elif self.given.save is None:
            print("Nothing was kept: --save DIR would keep the weights, --journal FILE the run.")
        return 128 + self.stop.number if interrupted else 1 if failure else 0

    def _tell(self, step: int) -> None:
        """The measures before and after, and what it took."""
        measured, last = self.validations.measured, self.validations.last
        if 0 in measured and last > 0:
            heads = ("zero-shot", f"after step {last}")
            print(f"{'validation':<12}{heads[0]:>12}{heads[1]:>20}")
            for name, value in measured[last].items():
                print(f"  {name:<10}{measured[0].get(name, math.nan):>12.4f}{value:>20.4f}")
        elif last >= 0:
            print(f"validation after step {last}: {in_words(measured[last])}")
        now = f" ({step - self.begun_at} now)" if self.begun_at > 0 else ""
        failed = f", {self.pace.failed} without a finite loss" if self.pace.failed else ""
        used = f", {memory():,.0f} MB" if memory() else ""
        print(
            f"{step} of {self.given.steps} steps{now}{failed}, {self.forwards:,} forwards, {self.seconds:.1f} s{used}"
        )

    def _say_how_to_go_on(self, more: bool) -> None:
        name = shlex.quote(str(self.given.journal))
        if more:
            print(f"to go on: {go_on(self.given.typed)}")
        if self.given.report is None:
            print(f"to see it: blackbox-zo report {name}")
        best = self.validations.best(list(self.validations.measured[0])[-1]) if 0 in self.validations.measured else 0
        export = f"blackbox-zo export {name} --model {shlex.quote(self.given.model)} -o DIR"
        if self.given.save is None:
            print(f"to get its weights: {export}")
        if 0 < best < self.module.version:
            print(f"to get its best weights: {export} --step {best}")
