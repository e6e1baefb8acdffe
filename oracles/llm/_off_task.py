"""`OffTask`: how far a model has drifted on texts that it is not tuned for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import torch

from blackbox_zo._checks import check_at_least
from oracles.llm._examples import Examples
from oracles.llm._passes import on_device_of
from oracles.llm.losses import next_tokens

__all__ = ["OFF_TASK", "OffTask"]

OFF_TASK = "off-task"
"""The name of the measure."""


@final
class OffTask:
    """The KL divergence of a model from itself at the start, and its perplexity, on texts of another kind.

    Forward passes alone move all searched weights along random directions, also where the task does not need it, so
    what the model could do before may be lost. These two numbers say how much. With p the distribution of the next
    token now and p0 that of the start, both after the same tokens of the texts:

    - `kl`: the mean of `KL(p || p0) = sum_v p(v) log(p(v) / p0(v))` over some places in the texts, nats a token, 0 at
      the start;
    - `perplexity`: `exp(-mean log p(token))` over all tokens but the first of each text.

    Make it before the first step: the model's weights are then those of the start. It keeps log p0 at the places of the
    KL, `places` x vocabulary numbers in fp32 (50 MB for 256 places and 49,152 words).

    Args:
        model: A causal language model, at its start.
        texts: Examples from `text`.
        places: Number of places in the texts at which the KL is taken, evenly spread; all if there are fewer.
        batch_size: Texts in a forward pass.

    Attributes:
        start: The two numbers at the start.

    Raises:
        ValueError: There are no texts, one has fewer than two tokens, or the model reads and writes separately.

    Example:
        `off_task = OffTask(model, text(rows, tokenizer))`, then `bz.Measure("off-task", off_task, every=100)` beside
        the measures of a `Run`; `finetune(off_task=text(rows, tokenizer))` does so.
    """

    def __init__(self, model: torch.nn.Module, texts: Examples, *, places: int = 256, batch_size: int = 8) -> None:
        check_at_least("OffTask", 1, places=places, batch_size=batch_size)
        if not len(texts):
            raise ValueError("`OffTask(texts=...)` has no texts; give at least one.")
        if short := [i for i, tokens in enumerate(texts.tokens) if len(tokens) < 2]:
            raise ValueError(f"`OffTask(texts=...)`: text {short[0]} has fewer than two tokens; leave it out.")
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            raise ValueError(
                "`OffTask` needs a causal language model; an encoder-decoder model has no such perplexity."
            )
        self.model, self.batches = model, texts.batches(batch_size)
        count = sum(len(tokens) - 1 for tokens in texts.tokens)
        chosen = np.unique(np.linspace(0, count - 1, min(places, count)).round().astype(int))
        self._places = torch.tensor(chosen)
        self._start: list[torch.Tensor] | None = None
        self.start = self()

    @torch.no_grad()
    def __call__(self, search: Any = None) -> dict[str, float]:
        """`kl` and `perplexity` now; the search is not used."""
        training = self.model.training
        self.model.eval()
        try:
            return self._measured()
        finally:
            self.model.train(training)

    def _measured(self) -> dict[str, float]:
        kept, lost, count, kl = list[torch.Tensor](), 0.0, 0, 0.0
        for number, (logp, tokens) in enumerate(self._next_tokens()):
            lost -= float(logp.gather(1, tokens[:, None]).double().sum())
            here = self._places[(self._places >= count) & (self._places < count + len(tokens))] - count
            count += len(tokens)
            p = logp[here.to(logp.device)].cpu()
            if self._start is None:
                kept.append(p)
            else:
                kl += float((p.exp() * (p - self._start[number])).double().sum())
        self._start = kept if self._start is None else self._start
        mean = lost / count
        return {"kl": kl / len(self._places), "perplexity": math.exp(mean) if mean < 700 else math.inf}

    def _next_tokens(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For each batch the log-probabilities of the next tokens, (tokens, V) in fp32, and the tokens, (tokens,)."""
        for given in self.batches:
            z, tokens = next_tokens(self.model, on_device_of(self.model, given))
            yield z.float().log_softmax(-1), tokens
