"""The stack of layers of a model, and the features that its lowest layers compute."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from blackbox_zo._typing import override
from blackbox_zo.modules._devices import is_coarse
from blackbox_zo.modules._forwards import instead
from blackbox_zo.modules._scratch import leaves_of
from blackbox_zo.modules._stacking import Place, mark, take_rows
from oracles.llm._passes import is_out_of_memory

__all__ = ["Features", "Trunk", "is_faithful", "like"]


class _Enough(Exception):
    """The features have been computed; the rest of the forward pass is not needed."""


class Trunk:
    """The stack of layers of a model, and the position of the searched parameters in it.

    Args:
        model: Any module. Without a stack of at least two layers nothing is reused.

    Attributes:
        name: Name of the stack in the model.
        layers: The layers, first to last; empty if the model has no stack.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        stacks = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1}
        self.name = max(stacks, key=lambda n: sum(p.numel() for p in stacks[n].parameters()), default="")
        self.layers = list(stacks[self.name]) if stacks else []
        self._before: set[int] | None = None

    def cut(self, searched: Mapping[int, str], run: Callable[[], Any]) -> int:
        """Number of lowest layers whose output is the same for all queries.

        Args:
            searched: Names of the searched parameters, by the id of the parameter.
            run: Runs the model once, unperturbed. Called the first time only, to see which parameters are used before
                the end of the stack.
        """
        inside = {key: re.match(re.escape(self.name) + r"\.(\d+)\.", name) for key, name in searched.items()}
        lowest = min((int(found[1]) for found in inside.values() if found), default=len(self.layers))
        outside = [key for key, found in inside.items() if not found]
        if lowest < 1 or not self.layers or not searched:
            return 0
        if outside and self._before is None:
            self._before = self._used_before_the_end(run)
        return 0 if any(key in (self._before or ()) for key in outside) else lowest

    def _used_before_the_end(self, run: Callable[[], Any]) -> set[int]:
        """Ids of the parameters outside the stack that are used before its last layer returns."""
        inside = {id(p) for layer in self.layers for p in layer.parameters()}
        used: set[int] = set()
        ended = False

        class Watch(TorchFunctionMode):
            @override
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if not ended:
                    used.update(id(t) for t in leaves_of(args, kwargs or {}) if isinstance(t, torch.nn.Parameter))
                return func(*args, **(kwargs or {}))

        def end(*_: Any) -> None:
            nonlocal ended
            ended = True

        handle = self.layers[-1].register_forward_hook(end)
        try:
            with Watch():
                run()
        finally:
            handle.remove()
        return used - inside if ended else {id(p) for p in self.model.parameters()}

    def features(self, cut: int, run: Callable[[], Any]) -> Features | None:
        """The output of the lowest `cut` layers; None if the model does not run each of them once, in order."""
        found: list[Any] = []
        early: list[Any] = []

        def take(module: Any, args: Any, output: Any) -> None:
            found.append(output)
            raise _Enough

        handles = [layer.register_forward_pre_hook(lambda *_: early.append(True)) for layer in self.layers[cut:]]
        handles.append(self.layers[cut - 1].register_forward_hook(take))
        try:
            run()
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if early:  # a searched layer ran earlier
            return None
        return Features(self, cut, found[0]) if found and _tensor_of(found[0]) is not None else None


class Features:
    """The output of the lowest layers on one batch, used in place of these layers.

    Args:
        trunk: The stack of layers.
        cut: Number of lowest layers.
        output: The return value of the highest of them.
        last: Number of last tokens that it covers; None means all.
    """

    def __init__(self, trunk: Trunk, cut: int, output: Any, last: int | None = None) -> None:
        self.trunk, self.cut, self.output, self.last = trunk, cut, output, last

    @property
    def hidden(self) -> torch.Tensor:
        """The hidden states, shape (B, T, width)."""
        found = _tensor_of(self.output)
        assert found is not None
        return found

    def ending(self, last: int) -> Features:
        """The features of the last tokens only."""
        hidden = self.hidden[:, -last:].clone()
        return Features(self.trunk, self.cut, like(self.output, hidden), last)

    def inputs(self, batch: Any) -> Any:
        """The batch, or some rows of it, cut to the tokens that the features cover."""
        if self.last is None or not isinstance(batch, Mapping):
            return batch
        wide = {name for name, value in batch.items() if isinstance(value, torch.Tensor) and value.dim() == 2}
        return {name: value[:, -self.last :] if name in wide else value for name, value in batch.items()}

    @contextmanager
    def instead(self, which: torch.Tensor) -> Iterator[None]:
        """Within the context, the lowest layers return rows `which` of the features and compute nothing."""
        rows = mark(self.hidden[which])

        def skip(hidden_states: Any = None, *args: Any, **kwargs: Any) -> Any:
            return like(self.output, hidden_states)

        def last(*args: Any, **kwargs: Any) -> Any:
            return like(self.output, rows)

        layers = self.trunk.layers[: self.cut]
        with instead({layer: last if layer is layers[-1] else skip for layer in layers}):
            yield


def _tensor_of(output: Any) -> torch.Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, torch.Tensor) and first.dim() >= 2 else None


def like(output: Any, hidden: torch.Tensor) -> Any:
    """The hidden states in the form of a layer's output."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@torch.no_grad()
def is_faithful(
    features: Features,
    model: torch.nn.Module,
    loss: Callable[..., Any],
    batch: Any,
    most: int = 2,
    shared: Collection[Place] = (),
) -> bool:
    """Whether the features and the whole model give the same loss on at most two examples."""
    rows = torch.arange(min(most, 2, len(features.hidden)))
    part = take_rows(batch, rows, len(features.hidden), lambda t: t, shared)
    loss(model, part)  # the first call of a loss may run the model an extra time, for a check of its own
    runs = 0

    def count(*_: Any) -> None:
        nonlocal runs
        runs += 1

    handle = features.trunk.layers[0].register_forward_hook(count)
    try:
        want = loss(model, part)
    finally:
        handle.remove()
    if runs != 1:  # e.g. it generates: the features of the first pass would be used for all
        return False
    try:
        with features.instead(rows):
            got = loss(model, features.inputs(part))
    except (RuntimeError, ValueError, IndexError) as error:  # the model inspects its layers
        if is_out_of_memory(error):
            raise
        return False
    rtol, atol = (2e-2, 1e-3) if is_coarse(next(model.parameters())) else (1e-4, 1e-5)
    return torch.allclose(got.float(), want.float(), rtol=rtol, atol=atol, equal_nan=True)
