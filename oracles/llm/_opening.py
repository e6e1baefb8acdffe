"""Loading the model of a run of the command line, and what is refused of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from oracles.llm._causal import check_causal, check_generates
from oracles.llm._room import there
from oracles.llm._settings import Settings
from oracles.llm.models import load_model, load_quantised
from oracles.options import BadInput

__all__ = ["check_fits", "check_moves", "check_there", "context_of", "load", "place_of", "quantised"]


def check_there(given: argparse.Namespace) -> None:
    """Refuse to resume a run if the folder of its model is gone, rather than ask the hub for it."""
    before = (given.header or {}).get("settings") or {}
    if before.get("model") == given.model and before.get("local") and not Path(given.model).expanduser().exists():
        raise BadInput(f"The model {given.model!r} is no longer in folder '{Path.cwd()}'; restore it.")


def check_fits(model: Any, chosen: Settings) -> None:
    try:
        (check_generates if chosen.generates else check_causal)(model)
    except ValueError as error:
        raise BadInput(f"--model {chosen.given.model!r}: {error}") from error


def check_moves(model: Any, chosen: Settings) -> None:
    """Refuse a file without a matrix of a type whose scales or codes move, where these are to be searched."""
    if chosen.select not in ("scale_shift", "code_shift") or any(
        chosen.select in n for n, _ in model.named_parameters()
    ):
        return
    kinds = sorted({module.kind.name for module in model.modules() if hasattr(module, "kind")})
    raise BadInput(
        f"--model {chosen.given.model!r} has no {chosen.given.quantised} that move: its matrices are of type "
        f"{', '.join(kinds)}, and those of Q4_0, Q4_1 and Q8_0 can. Search its norms (--select norm), or stream it "
        "(--stream disk)."
    )


def place_of(model: Any) -> str:
    """Where the model runs, if there is a choice."""
    import torch

    if model.device.type == "cpu":
        return "; on the CPU" if len(there()) > 1 else ""
    card = f", {torch.cuda.get_device_name(model.device)}" if model.device.type == "cuda" else ""
    return f"; on {model.device}{card}"


def load(name: str, dtype: str, device: str = "cpu") -> tuple[Any, Any]:
    """A model and its tokenizer; see `load_model`.

    Raises:
        BadInput: The model cannot be loaded.
    """
    return _loaded(name, partial(load_model, name, dtype, device))


def quantised(name: str, dtype: str, moves: Any) -> tuple[Any, Any]:
    """A model that runs from a GGUF file, and its tokenizer; see `load_quantised`.

    Raises:
        BadInput: The model cannot be loaded.
    """
    return _loaded(name, partial(load_quantised, name, dtype, moves))


def _loaded(name: str, get: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    try:
        return get()
    except FileNotFoundError as error:
        raise BadInput(str(error)) from error
    except ModuleNotFoundError as error:
        if error.name is not None:  # torch, for example; a missing model package is named in the message
            raise
        raise BadInput(str(error)) from error
    except Exception as error:  # whatever a file reader raises for a damaged file
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(f"--model {name!r} cannot be loaded: {reason}") from error


def context_of(model: Any, tokenizer: Any) -> int:
    """Maximum number of tokens that a model can read."""
    most = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return min(int(most), int(tokenizer.model_max_length))
