"""A fine-tuning run of the command line: its parts, its steps, and the report of its result."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.modules import Module
from blackbox_zo.run import Observer, Run
from oracles.kind import Kind, Session
from oracles.llm._adapters import adapted, has_adapter
from oracles.llm._finetune import Tuning
from oracles.llm._folders import check_kept, save, try_saving
from oracles.llm._off_task import OFF_TASK
from oracles.llm._opening import check_fits, check_moves, check_there, context_of, load, place_of, quantised
from oracles.llm._probe import PROBED, probe
from oracles.llm._ranks import check_alike, device_of
from oracles.llm._recorded import problem_of, recorded_settings
from oracles.llm._settings import Settings
from oracles.llm._streaming import Streaming
from oracles.llm._tally import Pace, TuningTally, memory
from oracles.llm._task import task_of
from oracles.llm._validations import best_step, deciding, in_words, validations
from oracles.options import BadInput

__all__ = ["TuningSession"]


class TuningSession(Session):
    """A model, its task and a `Tuning`.

    Args:
        kind: Kind of the run.
        chosen: The options.
        settings: Settings for the journal's header.

    Raises:
        BadInput: The model or the data cannot be used.
        JournalError: The journal is of another run.
    """

    tally: TuningTally

    def __init__(self, kind: Kind, chosen: Settings, settings: dict[str, Any]) -> None:
        given = chosen.given
        super().__init__(kind, given)
        self.chosen = chosen
        if given.save is None:
            self.unkept = "Nothing was saved: --save DIR saves the weights, --journal FILE the run."
        check_there(given)
        self.streamed: Streaming | None = None
        self.adapter: dict[str, Any] = {}
        if given.quantised:
            self.model, self.tokenizer = quantised(given.model, given.dtype, given.quantised)
            check_moves(self.model, chosen)
        elif given.stream is None:
            self.model, self.tokenizer = load(given.model, given.dtype, device_of(given))
        else:
            lora = chosen.lora if chosen.select == "lora" else None
            self.streamed, self.adapter = Streaming.begin(given, chosen.select, lora)
            self.model, self.tokenizer = self.streamed.variable.model, self.streamed.tokenizer
        try:
            self._prepare(settings)
        except BaseException:
            self._end()
            raise

    def _prepare(self, settings: dict[str, Any]) -> None:
        chosen, given = self.chosen, self.given
        self.task = task_of(chosen, self.tokenizer, context_of(self.model, self.tokenizer))
        size = min(given.batch_size, len(self.task.train))
        self.tally = TuningTally(given.steps)
        check_fits(self.model, chosen)
        try:
            if chosen.select == "lora" and not has_adapter(self.model):
                self.model, self.adapter = adapted(self.model, chosen.lora, given.seed)
            module = (
                self.streamed.variable
                if self.streamed is not None
                else Module(self.model, chosen.select, given.mask, no_decay=given.no_decay)
            )
        except ValueError as error:
            raise BadInput(f"--select {chosen.select!r}: {error}") from error
        except ModuleNotFoundError as error:  # peft
            raise BadInput(str(error)) from error
        if given.save is not None or given.journal is not None:
            check_kept(self.model, module.parameters, chosen.select)
        problem = problem_of(chosen, self.task, size) | self.adapter
        kept = recorded_settings(chosen, self.model)
        if given.ranks is not None:
            check_alike(given.ranks, self.kind.names, problem, kept)
        if given.save is not None:
            try_saving(self.model, self.tokenizer, given.save, "--save", given.model)
        self.tuning = Tuning(
            self.model,
            self.task.train,
            self.task.loss,
            batch_size=given.batch_size,
            module=module,
            estimator=chosen.estimator(size, module),
            rule=chosen.rule(size),
            validation=self.task.validation,
            measures=self.task.measures,
            evaluate_every=chosen.eval_every,
            seed=given.seed,
            journal=self.journal(problem, settings | kept),
            sweep=given.sweep,
            directions_per=chosen.directions_per(size),
            micro_batch=given.micro_batch,
            reuse=given.reuse,
            numbers=self.task.numbers,
            off_task=self.task.off_task,
            ranks=given.ranks,
        )
        self.search = self.tuning.search
        self.begun_at = self.search.moves

    def _end(self) -> None:
        if self.streamed is not None:
            self.streamed.variable.close()

    @override
    def close(self) -> None:
        """Close the journal, and remove what streamed weights have left."""
        super().close()
        self._end()

    @override
    def introduction(self) -> Iterator[str]:
        """The searched parameters and the rows."""
        searched = self.search.variable.size
        every = sum(p.numel() for p in self.model.parameters())
        rows = f"{len(self.task.train):,} rows to learn from, {len(self.task.validation):,} to validate on"
        yield f"{self.chosen.model_name}: {searched:,} of {every:,} parameters searched; {rows}{place_of(self.model)}"
        if given_ranks := self.given.ranks:
            yield f"{given_ranks.size} processes share each step and each validation."
        if self.streamed is not None:
            yield f"Streaming from the {self.given.stream}: {self.streamed.variable}."
        yield from self.task.notes
        yield from self._probed()
        if self.tuning.rescheduled and self.begun_at < self.given.steps:
            kind, end = self.given.lr_schedule, self.given.steps
            yield f"From step {self.begun_at} on, the learning rate is that of a {kind} schedule over {end} steps."

    def _probed(self) -> Iterator[str]:
        """How well a classifier on the frozen model does, if that costs less than a tenth of the run's forwards.

        Not where nobody reads it, nor where the time of the run is limited.
        """
        given, words = self.given, self.task.words
        train, validation = self.task.train, self.task.validation
        rows = min(len(train), PROBED) + len(validation)
        if given.quiet or given.time_limit is not None or given.no_probe or self.begun_at:
            return
        if words is None or 10 * rows > 2 * given.batch_size * given.steps:
            return
        yield f"Fitting a classifier to the frozen model, {rows:,} forwards; --no-probe leaves it out."
        features, searched = self.tuning.oracle.features, self.search.variable
        assert isinstance(searched, Module)
        below = {id(p): name for name, p in searched.parameters.items()}
        try:
            found = probe(
                self.model,
                words,
                train,
                validation,
                micro_batch=given.micro_batch,
                kept=lambda batch: features.of(below, batch) if features and features.keep else None,
            )
        except ValueError as error:
            yield f"The frozen model has no classifier: {error}"
            return
        yield (
            f"Frozen, with a logistic regression on its last hidden state: loss {found.loss:.4f}, accuracy "
            f"{found.accuracy:.4f} on the rows to validate on. If that is enough, nothing needs to be searched."
        )

    @override
    def run(self, observers: Sequence[Observer], stop: Stop) -> Run:
        pace = Pace(self.tally, lambda: self.tuning.oracle.forwards)
        limit: float | None = self.given.time_limit
        return self.tuning.run(self.given.steps, time_limit=limit, observers=[pace, *observers], stop=stop)

    @override
    def result(self, run: Run) -> Iterator[str]:
        """The measures before and after, the cost, and where the weights are."""
        step, steps = self.search.moves, self.given.steps
        yield from self._measures()
        now = f" ({step - self.begun_at} now)" if self.begun_at else ""
        barren = self.search.barren_steps
        failed = f", {barren} without a finite loss" if barren else ""
        used = f", {memory():,.0f} MB" if memory() else ""
        forwards = self.tuning.oracle.forwards
        yield f"{step} of {steps} steps{now}{failed}, {forwards:,} forwards, {run.seconds:.1f} s{used}"
        if self.given.save is not None:
            said = save(self.model, self.tokenizer, self.given.save, self.given.model)
            yield f"weights after step {step}: {self.given.save}{said}"
        if self.given.journal is not None:
            yield from self._exports(step)

    def _measures(self) -> Iterator[str]:
        found = validations(self.search.measured)
        if not found:
            return
        first, last = found[0], found[-1]
        if first.step or not last.step:
            yield f"validation after step {last.step}: {in_words(last.values)}"
            return
        yield f"{'validation':<12}{'zero-shot':>12}{f'after step {last.step}':>20}"
        for name, value in last.values.items():
            yield f"  {name:<10}{first.values.get(name, math.nan):>12.4f}{value:>20.4f}"
        checks = [m.values for m in self.search.measured if m.name == OFF_TASK and m.values]
        if len(checks) > 1:
            yield "off-task"
            for name, value in checks[-1].items():
                yield f"  {name:<10}{checks[0][name]:>12.4f}{value:>20.4f}"

    def _exports(self, step: int) -> Iterator[str]:
        """Commands that export weights that were not saved."""
        found = validations(self.search.measured)
        to = "FILE.gguf" if self.given.quantised else "DIR"
        export = f"blackbox-zo export {shlex.quote(str(self.given.journal))} -o {to}"
        if self.given.save is None:
            yield f"to get its weights: {export}"
        if 0 < (best := best_step(found, deciding(found))) < step:
            yield f"to get its best weights: {export} --step {best}"
