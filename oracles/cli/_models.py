"""Models for the command line, and what is wrong with one in a sentence."""

from __future__ import annotations

from typing import Any

from oracles.cli._errors import BadInput

__all__ = ["context_of", "load"]


def load(name: str, dtype: str) -> tuple[Any, Any]:
    """A model and its tokenizer; see `oracles.llm.load_model`.

    Raises:
        BadInput: torch or transformers is missing, or the model cannot be loaded.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise BadInput(
            f"language models need torch and transformers ({error}); pip install torch transformers"
        ) from None
    from oracles.llm import load_model

    try:
        return load_model(name, dtype)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise BadInput(_spoken(str(error), name)) from error
    except Exception as error:  # whatever a reader of files says of one that is damaged
        raise BadInput(f"--model {name!r} cannot be loaded: {_spoken(str(error), name)}") from error


def context_of(model: Any, tokenizer: Any) -> int:
    """The most tokens that a model can read."""
    most = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return min(int(most), int(tokenizer.model_max_length))


def _spoken(message: str, name: str) -> str:
    """The first line of a message, in terms of the command line."""
    return message.strip().partition("\n")[0].replace(f"`load_model(name={name!r})`", f"--model {name!r}")
