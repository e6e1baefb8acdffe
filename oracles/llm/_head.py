"""The head of a language model, restricted to a few tokens: the other scores would be thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional as F

from blackbox_zo.modules._devices import is_coarse
from blackbox_zo.modules._forwards import instead
from oracles.llm._passes import is_out_of_memory

__all__ = ["output_head", "scores_of"]

_faithful: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()
"""Whether the restricted head gives the same scores, by head."""


def scores_of(model: Any, token_ids: Sequence[int], run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The scores of some tokens, shape (..., number of tokens); the head computes no others if that is safe.

    The first call for each model compares the scores with those of the whole head.

    Args:
        model: A causal language model.
        token_ids: The tokens.
        run: Runs the model and returns scores, shape (..., outputs of the head).
    """
    head = _head_of(model)
    if head is None or _faithful.get(head) is False:
        return _take(run(), token_ids)
    try:
        with _only(head, token_ids):
            z = run()
    except (RuntimeError, ValueError, IndexError) as error:  # the model may expect a score for every token
        if head in _faithful or is_out_of_memory(error):
            raise
        whole = _take(run(), token_ids)
        _faithful[head] = False
        return whole
    if head not in _faithful:
        whole = _take(run(), token_ids)
        rtol, atol = (2e-2, 1e-2) if is_coarse(head.weight) else (1e-3, 1e-4)
        same = z.shape == whole.shape and torch.allclose(z, whole, rtol=rtol, atol=atol, equal_nan=True)
        _faithful[head] = same
        return z if same else whole  # the first call has the bits of later ones
    return z


def _take(z: torch.Tensor, token_ids: Sequence[int]) -> torch.Tensor:
    return z.index_select(-1, torch.tensor(token_ids, device=z.device))


def output_head(model: Any) -> torch.nn.Module | None:
    """The layer that makes scores of the last hidden states; of the wrapped model, if it has a peft adapter."""
    model = getattr(model, "_orig_mod", model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None


def _head_of(model: Any) -> torch.nn.Linear | None:
    """The head, if it is a plain linear layer that can be restricted."""
    if hasattr(model, "_orig_mod"):  # compiled code would ignore the new forward
        return None
    head = output_head(model)
    if type(head) is not torch.nn.Linear or "forward" in vars(head):
        return None
    hooks = (*head._forward_hooks.values(), *head._forward_pre_hooks.values())
    return head if all(hasattr(hook, "_zo_streams") for hook in hooks) else None


@contextmanager
def _only(head: torch.nn.Linear, token_ids: Sequence[int]) -> Iterator[None]:
    """Within the context, the head computes the scores of these tokens only."""
    ids = torch.tensor(token_ids, device=head.weight.device)

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        bias = None if head.bias is None else F.embedding(ids, head.bias[:, None])[:, 0]
        return F.linear(hidden, F.embedding(ids, head.weight), bias)  # if displaced, embedding makes these rows only

    with instead({head: forward}):
        yield
