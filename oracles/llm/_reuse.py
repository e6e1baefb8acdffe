"""Feature reuse: what lies below the lowest searched layer is the same for all queries, and is computed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from blackbox_zo.modules import Displacements
from blackbox_zo.modules._batched import mark
from blackbox_zo.modules._scratch import leaves

__all__ = ["Features", "Trunk"]

KEPT_BYTES = 2 << 30
"""Most memory for kept features."""


class _Enough(Exception):
    """The features are there; the rest of the run is not needed."""


class Trunk:
    """The stack of layers of a model, and where a step's parameters sit in it.

    Args:
        model: Any module; without a stack of at least two layers nothing is reused.

    Attributes:
        name: The stack's name in the model.
        layers: Its layers, first to last; empty if there is none.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        stacks = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1}
        self.name = max(stacks, key=lambda n: sum(p.numel() for p in stacks[n].parameters()), default="")
        self.layers = list(stacks[self.name]) if stacks else []
        self._before: set[int] | None = None

    def cut(self, displacements: Displacements, run: Callable[[], Any]) -> int:
        """How many layers, from the first, give the same for all queries; 0 if none.

        Args:
            displacements: The step's.
            run: Runs the model once, unperturbed; called at the first time only, to see what is used before the stack.
        """
        lowest, others = len(self.layers), False
        for hit in displacements.of.values():
            found = re.match(re.escape(self.name) + r"\.(\d+)\.", hit.block.name)
            if found:
                lowest = min(lowest, int(found[1]))
            else:
                others = True
        if lowest < 1 or not self.layers:
            return 0
        if others:
            if self._before is None:
                self._before = self._used_before_the_end(run)
            if any(key in self._before for key in displacements.of):
                return 0
        return lowest

    def _used_before_the_end(self, run: Callable[[], Any]) -> set[int]:
        """Ids of parameters outside the stack that are used before its last layer is done."""
        inside = {id(p) for layer in self.layers for p in layer.parameters()}
        used: set[int] = set()
        ended = False

        class Watch(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if not ended:
                    used.update(id(t) for t in leaves((args, kwargs or {})) if isinstance(t, torch.nn.Parameter))
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
        """What comes out of the lowest `cut` layers; None if the model does not run them once, one after another."""
        found: list[Any] = []

        def take(module: Any, args: Any, output: Any) -> None:
            found.append(output)
            raise _Enough

        handle = self.layers[cut - 1].register_forward_hook(take)
        try:
            run()
        except _Enough:
            pass
        finally:
            handle.remove()
        return Features(self, cut, found[0]) if found and _tensor_of(found[0]) is not None else None


class Features:
    """The output of the lowest layers for one batch, which stands in for them.

    Args:
        trunk: Whose.
        cut: How many layers.
        output: What the last of them returned.
    """

    def __init__(self, trunk: Trunk, cut: int, output: Any) -> None:
        self.trunk, self.cut, self.output = trunk, cut, output

    @property
    def hidden(self) -> torch.Tensor:
        """The hidden states, shape (B, T, width)."""
        found = _tensor_of(self.output)
        assert found is not None
        return found

    @contextmanager
    def instead(self, which: torch.Tensor) -> Iterator[None]:
        """Inside, the lowest layers do nothing but hand on rows `which` of the features."""
        rows = mark(self.hidden[which])
        structure = self.output

        def handed_on(hidden: torch.Tensor) -> Any:
            return (hidden, *structure[1:]) if isinstance(structure, tuple) else hidden

        def skip(hidden_states: Any = None, *args: Any, **kwargs: Any) -> Any:
            return handed_on(hidden_states)

        def last(*args: Any, **kwargs: Any) -> Any:
            return handed_on(rows)

        layers = self.trunk.layers[: self.cut]
        try:
            for layer in layers:
                layer.forward = last if layer is layers[-1] else skip
            yield
        finally:
            for layer in layers:
                layer.__dict__.pop("forward", None)


def _tensor_of(output: Any) -> torch.Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, torch.Tensor) and first.dim() >= 2 else None
