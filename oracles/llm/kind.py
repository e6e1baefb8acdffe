"""Runs of `blackbox-zo finetune`: fine-tuning of a language model by forward passes alone."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from blackbox_zo._horizon import recorded_horizon
from blackbox_zo._typing import override
from blackbox_zo.journal import JournalReader
from blackbox_zo.tally import Tally
from oracles.kind import Kind, Session
from oracles.llm._adapters import adapted_as
from oracles.llm._folders import check_kept, check_output, save, try_saving
from oracles.llm._page import page_of
from oracles.llm._settings import settings_of
from oracles.llm._tally import TuningTally
from oracles.llm.options import EXAMPLE, OPTIONS, device
from oracles.options import BadInput, Table, option, told, whole
from oracles.page import Page

__all__ = ["FineTuneKind"]

_BEFORE = "blackbox-zo finetune"
"""Name of this kind in journals of format 1."""


@final
class FineTuneKind(Kind):
    """Runs over the parameters of a model."""

    name = "finetune"
    help = "fine-tune a language model by forward passes alone"
    example = EXAMPLE
    extra = "llm"
    shared = True
    options = OPTIONS
    export_options: ClassVar[Table] = {
        "": (
            option("--model", "finetune runs: the base model; default: the one named in the journal", metavar="BASE"),
            option(
                "--dtype",
                "finetune runs: dtype of the weights; default: the one named in the journal",
                choices=("float32", "bfloat16", "float16"),
            ),
            option(
                "--device",
                "finetune runs: where the moves are replayed; default: on an accelerator if the run was on one and "
                "there is one here, else cpu",
                device,
                metavar="DEVICE",
            ),
            option(
                "--stream",
                "finetune runs: read the weights block by block, as in a run with --stream",
                choices=("disk", "host"),
            ),
            option("--budget", "finetune runs: memory for weights with --stream", metavar="SIZE"),
            option(
                "--as-lora",
                "finetune runs over linear layers: instead of whole weights, a LoRA adapter of this rank that is "
                "nearest to what was added to them, as a folder for peft, or for a .gguf model as a FILE.gguf for "
                "llama.cpp; the command says what that loses",
                whole,
                metavar="RANK",
            ),
        )
    }
    decided: ClassVar[Mapping[str, str]] = {
        "train": "set of training rows (--data, --validation)",
        "validation": "set of validation rows (--data, --validation)",
        "estimator": "estimator (--directions, --distribution, --difference, --group, --radius, --rank, --blocks)",
        "rule": "rule (--optimizer, --lr, --lr-schedule, --weight-decay, --clip)",
        "dimension": "number of searched parameters (--model, --select)",
        "start": "digest of the initial weights (--model)",
        "quantised": "quantised weights (--quantised)",
        "lora_rank": "adapter (--select lora, --lora-rank)",
        "lora_alpha": "adapter (--select lora, --lora-alpha)",
        "lora_targets": "adapter (--select lora, --lora-targets)",
    }

    @override
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """A model, its task, and a search over its parameters."""
        given.steps = _horizon(given) or given.steps
        chosen = settings_of(given)
        from oracles.llm._session import TuningSession

        return TuningSession(self, chosen, settings)

    @override
    def recognises(self, header: Mapping[str, Any]) -> bool:
        """Also a run over a model's parameters that a Python program started."""
        problem = header.get("problem")
        if isinstance(problem, dict) and "kind" in problem:
            return problem["kind"] in (self.name, _BEFORE)
        return (header.get("variable") or {}).get("name") == "Module"

    @override
    def tally(self, header: Mapping[str, Any]) -> Tally:
        """Steps, their mean loss, and validations."""
        return TuningTally((header.get("settings") or {}).get("steps"))

    @override
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """The training loss, the validations, and how to get the weights."""
        return page_of(reader)

    @override
    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """A folder with the weights after a step, as `save_pretrained` writes it."""
        header = reader.header
        problem = header.get("problem")
        base = given.model or _base(header)
        dtype = given.dtype or (problem.get("dtype") if isinstance(problem, dict) else None) or "float32"
        as_it_is = problem.get("quantised") if isinstance(problem, dict) else None
        lora = isinstance(problem, dict) and "lora_rank" in problem
        if given.as_lora is not None and (lora or as_it_is):
            raise BadInput(
                "--as-lora is for runs over whole weights; this one searched an adapter, or a quantised model."
            )
        adapter = lora or given.as_lora is not None
        check_output(given.output, "--output", base, quantised=bool(as_it_is), adapter=adapter)
        from oracles.llm._finetune import replay
        from oracles.llm._opening import load, quantised

        there = (header.get("settings") or {}).get("device", "cpu")
        given.device = given.device or ("cpu" if there == "cpu" else "auto")
        if given.stream is not None:
            yield from self._streamed(reader, given, base, dtype)
            return
        if as_it_is:
            model, tokenizer = quantised(base, dtype, as_it_is)
        else:
            model, tokenizer = load(base, dtype, given.device)
        tokenizer.chat_template = (header.get("settings") or {}).get("chat_template") or tokenizer.chat_template
        try:
            model = adapted_as(model, header)
        except (ValueError, ModuleNotFoundError) as error:
            raise BadInput(f"The run's adapter cannot be made again: {error}") from error
        if given.as_lora is None:
            try_saving(model, tokenizer, given.output, "--output", base)
        with told():
            module = replay(reader, model, given.step)
        check_kept(model, module.parameters, str(module.describe()["select"]))
        said = _extracted(module, given, base) or save(model, tokenizer, given.output, base)
        yield f"{given.output}: {base} after step {module.version} of {reader.path}{said}"

    def _streamed(self, reader: JournalReader, given: argparse.Namespace, base: str, dtype: str) -> Iterator[str]:
        from oracles.llm._finetune import replay
        from oracles.llm._streaming import Streaming

        streaming = Streaming.of(reader.header, given, base, dtype)
        with streaming.variable as module:
            if given.as_lora is None:
                try_saving(module.model, streaming.tokenizer, given.output, "--output", base)
            with told():
                replay(reader, module, given.step)
            said = _extracted(module, given, base) or save(module.model, streaming.tokenizer, given.output, base)
            yield f"{given.output}: {base} after step {module.version} of {reader.path}{said}"


def _extracted(module: Any, given: argparse.Namespace, base: str) -> str:
    """Write the moves as an adapter, if that is asked for, and say what it lacks."""
    if given.as_lora is None:
        return ""
    from oracles.llm._extract import extract_lora
    from oracles.llm.models import local_file

    with told():
        error = extract_lora(module, local_file(base), given.output, given.as_lora)
    return f", as an adapter of rank {given.as_lora}, which lacks {error:.1%} of what was added"


def _horizon(given: argparse.Namespace) -> int | None:
    """Where the schedule of a resumed run ends, if it was extended and no --steps is typed now; else None."""
    words = ((given.header or {}).get("settings") or {}).get("arguments")
    if words is None or any(word.partition("=")[0] == "--steps" for word in given.typed[len(words) :]):
        return None
    return recorded_horizon(given.journal)


def _base(header: Mapping[str, Any]) -> str:
    """The folder of a run's base model, if it still exists.

    Raises:
        BadInput: It does not exist, or the model was not a folder; nothing that a journal names is downloaded.
    """
    settings = header.get("settings") or {}
    named = settings.get("model")
    if not named:
        raise BadInput("The journal does not name the run's base model; give it with --model.")
    if str(named).startswith("package:"):
        return str(named)
    folder = Path(settings.get("cwd") or ".", Path(named).expanduser())
    if not folder.exists():
        raise BadInput(f"The run's base model {named!r} is not at '{folder}'; give its path with --model.")
    return str(folder)
