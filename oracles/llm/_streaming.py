"""A streamed model for the command line: its variable, its tokenizer, and what its options refuse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from blackbox_zo._describe import rebuild
from blackbox_zo.streaming import StoreError, StreamedModule
from oracles.llm._adapters import adapted, adapted_as, sketch_of
from oracles.llm._ranks import device_of, folder_of
from oracles.llm._room import chosen_device
from oracles.llm.models import load_tokenizer, local_file
from oracles.options import BadInput

__all__ = ["Streaming"]


class Streaming:
    """The model of `--stream`.

    Args:
        given: The options.
        adapt: Puts an adapter on the model; none has none.
        arguments: Further ones of `StreamedModule.from_pretrained`.

    Attributes:
        variable: The variable.
        tokenizer: Of the model's folder.

    Raises:
        BadInput: The model cannot be streamed, or an option does not go with it.
    """

    def __init__(self, given: argparse.Namespace, adapt: Callable[[Any], Any] | None, **arguments: Any) -> None:
        import torch

        try:
            path = local_file(given.model)
            self.tokenizer = load_tokenizer(path)
            self.variable = StreamedModule.from_pretrained(
                path,
                _device(given),
                given.stream,
                budget=given.budget,
                dtype=getattr(torch, given.dtype),
                adapt=adapt,
                **arguments,
            )
        except (OSError, ValueError, StoreError, ModuleNotFoundError) as error:
            raise BadInput(f"--stream {given.stream}: {error}") from error
        if adapt is not None:
            self._sketch()

    @classmethod
    def begin(
        cls, given: argparse.Namespace, select: str, lora: Mapping[str, Any] | None
    ) -> tuple[Streaming, dict[str, Any]]:
        """The model of a run as its options say, and what its journal is to say of a new adapter.

        Args:
            given: The options.
            select: What is searched.
            lora: Arguments of the new adapter; none makes none.
        """
        said: dict[str, Any] = {}

        def adapt(model: Any) -> Any:
            made, entries = adapted(model, lora or {}, given.seed)
            said.update(entries)
            return made

        arguments = {n: getattr(given, n) for n in ("mask", "no_decay", "transfer_dtype", "log_structured")}
        arguments |= {"select": select, "weights": folder_of(given)}
        return cls(given, None if lora is None else adapt, **arguments), said

    def _sketch(self) -> None:
        """What tells the adapter's base from others; when it was made, the base was not there."""
        x = self.variable
        base: Any = x.model
        named = {id(p): n for n, p in x.model.named_parameters()}
        own = {n.replace(".base_layer", ""): named[id(p)] for n, p in base.get_base_model().named_parameters()
               if "lora_" not in n and p.is_floating_point() and p.numel()}  # fmt: skip
        base.base_sketch = sketch_of(list(own), lambda name: dict(x.whole((own[name],)))[own[name]])

    @classmethod
    def of(cls, header: Mapping[str, Any], given: argparse.Namespace, base: str, dtype: str) -> Streaming:
        """The model of a run with this header.

        Args:
            header: Of the run's journal.
            given: With the fields `stream`, `budget` and `device`.
            base: Its base model.
            dtype: Of its weights.
        """
        described = header.get("variable") or {}
        more = {n: rebuild(value, _none) for n, value in described.items() if n not in ("name", "merge_every")}
        if isinstance(more.get("select"), tuple):
            more["select"] = list(more["select"])
        problem = header.get("problem")
        adapts = isinstance(problem, Mapping) and "lora_rank" in problem
        there = argparse.Namespace(**{**vars(given), "model": base, "dtype": dtype})
        adapt = partial(adapted_as, header=header) if adapts else None
        return cls(there, adapt, log_structured=described.get("merge_every", 1) > 1, **more)


def _device(given: argparse.Namespace) -> str:
    """Where the model runs: the best accelerator unless the options name a device."""
    asked = device_of(given)
    found = chosen_device(asked, None)
    return "cpu" if asked == "auto" and found == "mps" else found  # whose memory is the CPU's


def _none(name: str) -> Any:
    raise BadInput(f"The run searched by a function of the user's ({name}), which a file cannot hold.")
