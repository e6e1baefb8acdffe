"""What a frozen model gives for each example, classifiers on it, and a model whose head is such a classifier."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC
from torch.nn import functional as F

from oracles.llm import Examples

__all__ = ["Head", "States", "logistic", "states", "support_vectors"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class States:
    """What a model computes for N examples.

    Attributes:
        top: The last hidden states, after the final norm, at the last token, (N, width).
        attention: The inputs of the attention's output projections at the last token, (N, layers, width).
        means: The hidden states before each layer, averaged over the tokens, (N, layers, width).
        seconds: What computing them took.
    """

    top: Array
    attention: Array
    means: Array
    seconds: float

    @property
    def inputs(self) -> Array:
        """`top` and `attention` in one matrix."""
        return np.hstack([self.top, self.attention.reshape(len(self.top), -1)])

    @property
    def all(self) -> Array:
        """`attention` and `means` in one matrix."""
        return np.hstack([self.attention.reshape(len(self.top), -1), self.means.reshape(len(self.top), -1)])


@torch.no_grad()
def states(net: Any, examples: Examples, first: int, file: Path | None = None, size: int = 25) -> States:
    """The states of all examples in the layers from `first` on, by one forward pass for each.

    Args:
        net: A decoder of transformers with `model.layers`.
        examples: The examples.
        first: The lowest layer.
        file: Where they are kept, if they are.
        size: Examples in a pass.
    """
    if file is not None and file.exists():
        with np.load(file) as kept:
            return States(kept["top"], kept["attention"], kept["means"], float(kept["seconds"]))
    layers, begun = list(net.model.layers)[first:], time.perf_counter()
    found: dict[str, list[torch.Tensor]] = {"top": [], "attention": [], "means": []}
    inputs, befores = dict[int, torch.Tensor](), dict[int, torch.Tensor]()
    handles = []
    for i, layer in enumerate(layers):

        def attention(_: Any, args: Any, i: int = i) -> None:
            inputs[i] = args[0][:, -1]

        def before(_: Any, args: Any, kwargs: Any, i: int = i) -> None:
            befores[i] = args[0] if args else kwargs["hidden_states"]

        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(attention))
        handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
    try:
        for batch in examples.batches(size):
            found["top"].append(_last(net, batch))
            share = (batch["attention_mask"] / batch["attention_mask"].sum(1, keepdim=True))[..., None]
            found["attention"].append(torch.stack([inputs[i] for i in range(len(layers))], 1))
            found["means"].append(torch.stack([(befores[i] * share).sum(1) for i in range(len(layers))], 1))
    finally:
        for handle in handles:
            handle.remove()
    arrays = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    out = States(**arrays, seconds=time.perf_counter() - begun)
    if file is not None:
        np.savez(file, **arrays, seconds=out.seconds)
    return out


def logistic(x: Array, label: Sequence[int]) -> tuple[Pipeline, dict[str, float]]:
    """Logistic regression on standardised features, and its C with the score of the cross-validation that chose it."""
    tries = [{"C": c} for c in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)]
    return _best(x, label, [(make_pipeline(StandardScaler(), LogisticRegression(**t, max_iter=300)), t) for t in tries])


def support_vectors(x: Array, label: Sequence[int]) -> tuple[KernelMachine, dict[str, float]]:
    """A support vector machine with a Gaussian kernel on standardised features of unit length, likewise."""
    scaled = make_pipeline(StandardScaler(), Normalizer()).fit(x)
    units = scaled.transform(x)
    found: list[tuple[Any, dict[str, float]]] = []
    for gamma in (0.75, 1.5):
        tries = [(SVC(C=c, kernel="precomputed"), {"C": c, "gamma": gamma}) for c in (1.0, 3.0, 10.0)]
        found.append(_best(rbf_kernel(units, gamma=gamma), label, tries))
    made, chosen = max(found, key=lambda one: list(one[1].values())[-1])
    return KernelMachine(scaled, units, chosen["gamma"], made), chosen


class KernelMachine(NamedTuple):
    """What `support_vectors` fits."""

    scaled: Pipeline
    units: Array
    gamma: float
    made: SVC

    def decision_function(self, x: Array) -> Array:
        """As in scikit-learn."""
        kernel = rbf_kernel(self.scaled.transform(x), self.units, gamma=self.gamma)
        return self.made.decision_function(kernel)  # type: ignore[no-any-return]


def _best(
    x: Array, label: Sequence[int], tries: Sequence[tuple[Any, Mapping[str, float]]]
) -> tuple[Any, dict[str, float]]:
    """Five-fold cross-validation, by AUC or, with more than two classes, accuracy."""
    y = np.array(label)
    scoring = "roc_auc" if len(np.unique(y)) == 2 else "accuracy"
    folds = StratifiedKFold(5, shuffle=True, random_state=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = [float(cross_val_score(made, x, y, cv=folds, scoring=scoring).mean()) for made, _ in tries]
        best = int(np.argmax(scores))
        made, chosen = tries[best]
        return made.fit(x, y), {**chosen, f"{scoring} by cross-validation": round(scores[best], 4)}


@dataclass(frozen=True, eq=False)
class Head:
    """The cross-entropy of a linear classifier on the last hidden state: one value per example.

    Attributes:
        weight: (classes, width).
        bias: (classes,).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, made: Pipeline) -> Head:
        """From a pipeline of `logistic` on `States.top`."""
        scaler, fitted = made[0], made[-1]
        weight = fitted.coef_ / scaler.scale_
        bias = fitted.intercept_ - weight @ scaler.mean_
        if len(weight) == 1:  # two classes: half to each
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return cls(torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32))

    def scores(self, net: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """(B, classes)."""
        return _last(net, batch) @ self.weight.T + self.bias

    def __call__(self, net: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The losses, (B,)."""
        return F.cross_entropy(self.scores(net, batch), batch["label"], reduction="none")


def _last(net: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """The last hidden states at the last token, (B, width), of a model that may have an adapter."""
    base = net.get_base_model() if hasattr(net, "get_base_model") else net
    mask = batch["attention_mask"]
    places = (mask.cumsum(1) - 1).clamp(min=0)
    out = base.model(batch["input_ids"], attention_mask=mask, position_ids=places, use_cache=False)
    return out.last_hidden_state[:, -1]  # type: ignore[no-any-return]
