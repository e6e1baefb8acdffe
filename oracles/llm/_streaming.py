"""A streamed model for the command line: its variable, its tokenizer, and what its options refuse."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from blackbox_zo._describe import rebuild
from blackbox_zo.streaming import StoreError, StreamedModule
from oracles.llm.models import load_tokenizer, local_folder
from oracles.options import BadInput

__all__ = ["Streaming"]


class Streaming:
    """The model of `--stream`.

    Args:
        given: The options.
        select: What is searched.
        arguments: Of the variable in place of the options', where a journal says them.

    Attributes:
        variable: The variable.
        tokenizer: Of the model's folder.

    Raises:
        BadInput: The model cannot be streamed, or an option does not go with it.
    """

    def __init__(self, given: argparse.Namespace, select: str, arguments: dict[str, Any] | None = None) -> None:
        import torch

        if arguments is None:
            arguments = {"select": select, "mask": given.mask, "no_decay": given.no_decay}
        try:
            folder = local_folder(given.model)
            self.tokenizer = load_tokenizer(folder)
            self.variable = StreamedModule.from_pretrained(
                folder,
                store=given.stream,
                budget=given.budget,
                dtype=getattr(torch, given.dtype),
                log_structured=given.log_structured,
                weights=given.stream_to,
                **arguments,
            )
        except (OSError, ValueError, StoreError, ModuleNotFoundError) as error:
            raise BadInput(f"--stream {given.stream}: {error}") from error

    @classmethod
    def of(cls, header: Mapping[str, Any], given: argparse.Namespace, base: str, dtype: str) -> Streaming:
        """The model of a run with this header.

        Args:
            header: Of the run's journal.
            given: With the fields `stream` and `budget`.
            base: Its base model.
            dtype: Of its weights.
        """
        described = header.get("variable") or {}
        arguments = {
            n: rebuild(value, _none) for n, value in described.items() if n not in ("name", "unit", "rounding")
        }
        if isinstance(arguments.get("select"), tuple):
            arguments["select"] = list(arguments["select"])
        more = {"model": base, "dtype": dtype, "device": None, "stream_to": None, "log_structured": False, "mask": None}
        return cls(argparse.Namespace(**{**vars(given), **more}), "", arguments)


def _none(name: str) -> Any:
    raise BadInput(f"The run searched by a function of the user's ({name}), which a file cannot hold.")
