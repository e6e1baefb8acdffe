"""A classifier on what the frozen model computes: what a search of the model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from blackbox_zo._typing import Floats
from blackbox_zo.modules._forwards import instead
from blackbox_zo.modules._stacking import take_rows
from blackbox_zo.randomness import Key
from oracles.llm._eager import eagerly
from oracles.llm._examples import Examples
from oracles.llm._features import Features
from oracles.llm._head import output_head
from oracles.llm._passes import Passes, batch_size, run_together
from oracles.llm.losses import LabelWords

__all__ = ["PROBED", "Probed", "probe"]

STRENGTHS = (1e-1, 3e-1, 1.0, 3.0, 10.0)
"""Penalties to choose from, of the squares of the weights of standardised features; per example."""

PROBED = 1000
"""Examples to learn from that are used."""

FOLDS = 4
PASS = 16


class Probed(NamedTuple):
    """How a logistic regression on the frozen model does.

    Attributes:
        accuracy: Share of the validation examples that it gets right.
        loss: Its mean cross-entropy on them.
        rows: Examples that it was fitted to.
        forwards: Forward passes of one example that it took.
    """

    accuracy: float
    loss: float
    rows: int
    forwards: int


def probe(
    model: Any,
    loss: LabelWords,
    train: Examples,
    validation: Examples,
    most: int = PROBED,
    *,
    micro_batch: int | None = None,
    kept: Callable[[Any], Features | None] | None = None,
) -> Probed:
    """Fit a logistic regression to the last hidden state of the last token, one forward pass an example.

    The strength of its penalty is chosen by cross-validation on the examples to learn from. The model is not changed.

    Args:
        model: A causal language model.
        loss: Knows how to run it.
        train: Examples with classes.
        validation: Examples that it is measured on.
        most: Examples of `train` to use.
        micro_batch: Maximum examples in a pass; None lets the device decide. It is halved if memory runs out.
        kept: Gives what the lower layers make of a batch of `train`, if it is known.

    Raises:
        ValueError: The model has no head to take the states from, these are not finite, or the examples have fewer than
            two classes.
    """
    train = train.take(most)
    y, wanted = np.array(train.label), np.array(validation.label)
    classes = len(loss.token_ids)
    if len(set(y.tolist())) < 2:
        raise ValueError(f"All {len(y)} examples to learn from have one class; there is nothing to tell apart.")
    x, held = _states(model, loss, train, micro_batch, kept), _states(model, loss, validation, micro_batch)
    mean, spread = x.mean(0), x.std(0)
    scale = 1.0 / np.where(spread > 0.0, spread, 1.0)
    x, held = (x - mean) * scale, (held - mean) * scale
    z = held @ (w := _fitted(x, y, classes, _strength(x, y, classes)))[:-1] + w[-1]
    right = float((z.argmax(1) == wanted).mean())
    return Probed(right, float(_cross_entropies(z, wanted).mean()), len(y), len(y) + len(wanted))


@torch.no_grad()
def _states(
    model: Any,
    loss: LabelWords,
    examples: Examples,
    micro_batch: int | None = None,
    kept: Callable[[Any], Features | None] | None = None,
) -> Floats:
    """The last hidden states of the last token, (N, width)."""
    head = output_head(model)
    if head is None or loss.last_tokens(model, examples.batch([0])) != 1:  # with virtual tokens, padding is elsewhere
        raise ValueError("The probe needs the model's last hidden states at the last column, as a head gets them.")
    batches = list(examples.batches(PASS))
    found: list[torch.Tensor | None] = [None] * len(batches)

    def states_of(number: int) -> None:
        batch, passes = batches[number], Passes(micro_batch)
        size, known = batch_size(batch), None if kept is None else kept(batch)

        def work(most: int) -> torch.Tensor:
            parts = []
            for a in range(0, size, most):
                rows = torch.arange(a, min(a + most, size))
                passes.used, part = len(rows), take_rows(batch, rows, size, lambda t: t)
                with nullcontext() if known is None else known.instead(rows):
                    parts.append(_at_the_head(head, partial(loss.scores, model, part)))
            return torch.cat(parts)

        found[number] = passes.fit(batch, size, work)

    training = model.training
    model.eval()
    try:
        with eagerly():
            run_together(model, [partial(states_of, number) for number in range(len(batches))])
    finally:
        model.train(training)
    x = np.asarray(torch.cat([states for states in found if states is not None]), dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("The model's last hidden states are NaN or infinite; use fp32.")
    return x


def _at_the_head(head: torch.nn.Module, run: Callable[[], object]) -> torch.Tensor:
    """What the head is given at the last column, (B, width)."""
    seen: list[torch.Tensor] = []
    own = head.forward

    def forward(states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(states[:, -1].float().cpu())
        return own(states, *args, **kwargs)

    with instead({head: forward}):  # of this pass alone: others may be under way
        run()
    return seen[-1]


def _strength(x: Floats, y: Sequence[int] | Any, classes: int) -> float:
    """The penalty with the lowest cross-entropy by cross-validation; that of the middle if there are too few rows."""
    n = len(y)
    if n < 2 * FOLDS:
        return STRENGTHS[len(STRENGTHS) // 2]
    fold = Key(0, 0).generator("folds").permutation(n) % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for k in range(FOLDS):
        kept, left = fold != k, fold == k
        for i, strength in enumerate(STRENGTHS):
            w = _fitted(x[kept], y[kept], classes, strength)
            losses[i] += _cross_entropies(x[left] @ w[:-1] + w[-1], y[left]).sum()
    return STRENGTHS[int(losses.argmin())]


def _fitted(x: Floats, y: Any, classes: int, strength: float) -> Floats:
    """Weights and, in the last row, intercepts, (width + 1, classes): mean cross-entropy + strength / 2 |W|²."""
    n, width = x.shape
    one = np.eye(classes)[y]

    def of(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(width + 1, classes)
        z = x @ w[:-1] + w[-1]
        total = logsumexp(z, axis=1, keepdims=True)
        rest = (np.exp(z - total) - one) / n
        slope = np.vstack([x.T @ rest + strength * w[:-1], rest.sum(0)])
        return float((total[:, 0] - (z * one).sum(1)).mean() + 0.5 * strength * (w[:-1] ** 2).sum()), slope.ravel()

    found = minimize(of, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x).reshape(width + 1, classes)


def _cross_entropies(z: Floats, y: Any) -> Floats:
    return np.asarray(logsumexp(z, axis=1) - z[np.arange(len(y)), y])
