"""The scores of a few tokens from a head narrowed to them are the whole head's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from oracles.llm import Accuracy, LabelWords, LossOracle
from oracles.llm._head import scores_of

from ...blackbox_zo.modules.helpers import GROUPED, of
from .loss_helpers import RV, answered, by_hand, texts

WORDS = (3, 5, 7)


def llama(**options: Any) -> Any:
    return of("LlamaForCausalLM", "LlamaConfig", **{**GROUPED, **options})()


def labelled(size: int = 4) -> dict[str, torch.Tensor]:
    batch = texts(size)
    return {**batch, "label": torch.arange(size) % len(WORDS)}


def widths(head: torch.nn.Module, run: Any) -> list[int]:
    """How many scores the head computes at each use. The head is used as it is: a hook would keep it whole."""
    found, plain = [], torch.nn.functional.linear

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func is plain and out.shape[-1] in (len(WORDS), head.out_features):
                found.append(out.shape[-1])
            return out

    with Watch():
        run()
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("select", ["all", r"norm\.weight$", r"^lm_head|embed"])
@pytest.mark.parametrize("sweep", ["batched", "scratch"])
def test_losses_over_the_labels_under_every_query(tied: bool, select: str, sweep: Any) -> None:
    model, words = llama(tie_word_embeddings=tied), LabelWords(WORDS, over="labels")
    search = bz.Search(bz.Module(model, select), RV(0.05, 3, "lowrank"), bz.SGD(0.01))

    def whole(net: Any, batch: Any) -> torch.Tensor:
        z = net(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits[:, -1, list(WORDS)]
        return torch.nn.functional.cross_entropy(z, batch["label"], reduction="none")

    oracle, batch = LossOracle(model, [labelled()], words, sweep), labelled()
    for _ in range(2):
        proposal = search.ask()
        want = by_hand(proposal, batch, whole).mean(1)
        np.testing.assert_allclose(answered(oracle, proposal), want, rtol=3e-6, atol=3e-7)
        search.tell(proposal, bz.Values(want))


def test_only_the_labels_scores_are_computed() -> None:
    model, batch = llama(tie_word_embeddings=False), labelled()
    head, words = model.lm_head, LabelWords(WORDS, over="labels")
    assert widths(head, lambda: words(model, batch)) == [3, head.out_features]  # the first is compared
    assert widths(head, lambda: words(model, batch)) == [3]
    assert widths(head, lambda: Accuracy(words)(model, batch)) == [3]
    assert widths(head, lambda: words.measures(model, batch)) == [3]
    assert widths(head, lambda: LabelWords(WORDS)(model, batch)) == [head.out_features]
    assert "forward" not in vars(head)


def test_a_bias_and_a_softcap_go_with_it() -> None:
    torch.manual_seed(0)
    model = of("Gemma2ForCausalLM", "Gemma2Config", **{**GROUPED, "final_logit_softcapping": 2.0, "head_dim": 8})()
    words, batch = LabelWords(WORDS), labelled()
    want = model(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits[:, -1, list(WORDS)]
    for _ in range(2):
        torch.testing.assert_close(words.scores(model, batch), want)


class Lazy(torch.nn.Module):
    """Looks at all scores after the head, so that a narrowed one gives something else."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.head, self.kind = torch.nn.Linear(4, 9), kind

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.head(x)
        out: torch.Tensor = z - z.mean(-1, keepdim=True) if self.kind == "mean" else z + torch.arange(9.0)
        return out


@pytest.mark.parametrize("kind", ["mean", "shape"])
def test_a_model_that_looks_at_all_scores_keeps_its_whole_head(kind: str) -> None:
    model, x = Lazy(kind), torch.randn(5, 4)
    for _ in range(3):
        got = scores_of(model, WORDS, lambda: model(x))
        torch.testing.assert_close(got, model(x)[:, list(WORDS)])
