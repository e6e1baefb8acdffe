"""An exact head, and below it the attention's output projections, moved by what passes of the last token say.

The head's scores are a known function of the last hidden state. Noise e_l on the outputs of the projections W_l at the
last token changes them by about sum_l d_l . e_l. In the upper layers the gradients d_l are nearly the same for all
examples, so a regression of the changes on the noise gives them. A query costs one token, since keys and values of the
earlier tokens are kept. With U_l the pseudo-inverse of d_l, moving W_l by U_l V_l adds V_l a_l to the scores, a_l being
the input of W_l: V_l comes from a logistic regression on the a_l. What the search can learn is what a probe on the a_l
can learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from _probe import Head, States, logistic

from oracles.llm import Examples

__all__ = ["agreement", "gradients", "moved"]

RADIUS = 0.02
"""Of the noise, ÷ the root mean square of the hidden states before the layer."""


class LastToken:
    """Passes of the last token alone; what comes before it is kept.

    Args:
        net: A decoder of transformers.
        batch: Examples, padded on the left.
    """

    def __init__(self, net: Any, batch: dict[str, Any]) -> None:
        self.net, self.mask, ids = net, batch["attention_mask"], batch["input_ids"]
        places = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.ids, self.places = ids[:, -1:], places[:, -1:]
        out = net.model(ids[:, :-1], attention_mask=self.mask[:, :-1], position_ids=places[:, :-1], use_cache=True)
        self.past = out.past_key_values

    def __call__(self) -> torch.Tensor:
        """The last hidden states, (B, width)."""
        out = self.net.model(
            self.ids, attention_mask=self.mask, position_ids=self.places, past_key_values=self.past, use_cache=True
        )
        self.past.crop(-1)
        return out.last_hidden_state[:, 0]  # type: ignore[no-any-return]


@torch.no_grad()
def gradients(
    net: Any, examples: Examples, head: Head, first: int, queries: int, seed: int, size: int = 50
) -> tuple[torch.Tensor, list[float]]:
    """The mean gradients of the scores at the outputs of the projections, by block Kaczmarz over antithetic queries.

    Args:
        net: The model.
        examples: Some of them are drawn.
        head: Gives the scores.
        first: The lowest layer.
        queries: Number of passes of one example's last token.
        seed: Of the examples and the noise.
        size: Examples in a pass.

    Returns:
        (layers, width, classes), and of each block the share of the changes that was not predicted.
    """
    draw = torch.Generator().manual_seed(seed)
    layers = list(net.model.layers)[first:]
    classes, width = head.weight.shape
    found, missed = torch.zeros(len(layers) * width, classes), list[float]()
    radii = torch.ones(len(layers))
    for number in range(queries // (2 * size)):
        if number % 40 == 0:  # new examples: their earlier tokens cost more than many queries
            token = LastToken(net, examples.batch(torch.randperm(len(examples), generator=draw)[:size].tolist()))
        if number == 0:
            radii = RADIUS * _sizes(layers, token)
        signs = torch.randint(0, 2, (len(layers), size, width), generator=draw).float() * 2 - 1
        with _added(layers, signs * radii[:, None, None]):
            up = token()
        with _added(layers, -signs * radii[:, None, None]):
            down = token()
        change, x = (up - down) @ head.weight.T / 2, signs.transpose(0, 1).reshape(size, -1)
        rest = change - x @ found
        missed.append(float(rest.square().mean() / change.square().mean()))
        found += 0.7 * (x.T @ torch.linalg.solve(x @ x.T, rest))
    return found.view(len(layers), width, classes) / radii[:, None, None], missed


@torch.no_grad()
def moved(
    net: Any, examples: Examples, seen: States, head: Head, found: torch.Tensor, first: int, some: int = 200
) -> tuple[Head, dict[str, float]]:
    """Move the projections of `net`, and the head's bias so that its mean scores are what the regressions give.

    Args:
        net: The model; its weights are changed.
        examples: Those to learn from.
        seen: What the model computed for them before.
        head: Of which `found` are the gradients.
        found: From `gradients`.
        first: The lowest layer.
        some: Examples for the mean.

    Returns:
        The head for the moved model, and what the cross-validation of the regression said.
    """
    made, chosen = logistic(seen.attention.reshape(len(seen.top), -1), examples.label)
    fitted = Head.of(made)
    v = fitted.weight.view(len(fitted.weight), len(found), -1)
    for i, layer in enumerate(list(net.model.layers)[first:]):
        u = torch.linalg.pinv(found[i]).T  # (width, classes)
        layer.self_attn.o_proj.weight += u @ v[:, i]
    rows = np.linspace(0, len(examples) - 1, some).astype(int).tolist()
    wanted = torch.tensor(seen.top[rows]) @ head.weight.T + head.bias
    wanted += torch.tensor(seen.attention[rows]).flatten(1) @ fitted.weight.T + fitted.bias
    now = torch.cat([head.scores(net, examples.batch(rows[a : a + 25])) for a in range(0, some, 25)])
    return Head(head.weight, head.bias + (wanted - now).mean(0)), chosen


def agreement(net: Any, batch: dict[str, Any], head: Head, first: int) -> list[float]:
    """Cosines of each example's gradient with the mean of the others', by autograd, averaged: one for each layer.

    Args:
        net: The model.
        batch: Some examples.
        head: Gives the scores; the gradient is of that of the last class.
        first: The lowest layer.
    """
    layers = list(net.model.layers)[first:]
    zeros = torch.zeros(len(layers), len(batch["input_ids"]), head.weight.shape[1])
    with torch.no_grad():
        token = LastToken(net, batch)
    with torch.enable_grad(), _added(layers, zeros.requires_grad_()):
        (found,) = torch.autograd.grad((token() @ head.weight[-1]).sum(), zeros)
    others = found.sum(1, keepdim=True) - found
    return [round(float(c), 3) for c in torch.cosine_similarity(found, others, dim=-1).mean(1)]


def _sizes(layers: list[Any], token: LastToken) -> torch.Tensor:
    """The root mean square of the hidden states before each layer."""
    seen: list[torch.Tensor] = []

    def take(_: Any, args: Any, kwargs: Any) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).square().mean().sqrt())

    handles = [layer.register_forward_pre_hook(take, with_kwargs=True) for layer in layers]
    try:
        token()
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(seen)


@contextmanager
def _added(layers: list[Any], noise: torch.Tensor) -> Iterator[None]:
    """Within the context, noise, (layers, B, width), is added to the outputs of the projections."""

    def adds(e: torch.Tensor) -> Any:
        return lambda _, __, out: out + e[:, None]

    handles = [layer.self_attn.o_proj.register_forward_hook(adds(e)) for layer, e in zip(layers, noise, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
