"""What a forward pass of a model computes and holds, found by running its own code on tensors without memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from blackbox_zo._typing import override
from blackbox_zo.streaming._units import Entry, Window

__all__ = ["Pass", "Untraceable", "passed"]

NAME = "blackbox_zo_plan"


class Untraceable(Exception):
    """The model's code needs numbers to run, so it cannot be run without memory."""


@dataclass
class Pass:
    """What one forward pass does.

    Attributes:
        uses: The entries in the order in which the pass needs them, each with its floating-point operations.
        peak: Bytes of activations at most, with those of the loss.
        between: Bytes of activations that are held while the pass waits for an entry, at most.
    """

    uses: list[tuple[Entry, float]] = field(default_factory=list)
    peak: int = 0
    between: int = 0


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors while they live, but for those that attention makes and kernels never hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.between = 0
        self.paused = False
        self.seen = weakref.WeakSet[Any]()

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.paused:
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        if storage in self.seen:
            return
        self.seen.add(storage)
        size = int(storage.nbytes())
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


_tracing: list[_Held] = []


def _attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> Any:
    """Attention as fused kernels do it: all products, and no matrix of scores that is kept."""
    for held in _tracing:
        held.paused = True
    try:
        groups = query.shape[1] // key.shape[1]
        scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3)
        found = scores @ value.repeat_interleave(groups, 1)
    finally:
        for held in _tracing:
            held.paused = False
    return found.transpose(1, 2).contiguous(), None


@contextmanager
def _plain(config: Any) -> Iterator[None]:
    """Within the context, models of a configuration run an attention and experts that can be traced."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    before = config._attn_implementation, config._experts_implementation
    config._attn_implementation, config._experts_implementation = NAME, "grouped_mm"  # which needs no numbers
    try:
        yield
    finally:
        config._attn_implementation, config._experts_implementation = before


def passed(model: Any, windows: list[Window], rows: int, length: int) -> Pass:
    """Run a model on meta, with the loss of whole texts.

    Args:
        model: The model; its parameters and buffers are on meta.
        windows: Its windows.
        rows: Texts in the pass.
        length: Tokens in each.

    Raises:
        Untraceable: The model's code needs numbers.
    """
    found, held = Pass(), _Held()
    held.seen.update(t.untyped_storage() for t in (*model.parameters(), *model.buffers()))
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: _grouped})
    handles = [handle for window in windows for handle in _hooks(window, found, held, counter)]
    ids = torch.zeros(rows, length, dtype=torch.long, device="meta")
    _tracing.append(held)
    try:
        with _plain(model.config), counter, held, torch.no_grad():
            z = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            exact = z.to(torch.promote_types(z.dtype, torch.float32))
            (exact - exact.amax(-1, keepdim=True)).exp()
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        raise Untraceable(str(error).partition("\n")[0]) from error
    finally:
        _tracing.remove(held)
        for handle in handles:
            handle.remove()
    found.peak, found.between = held.peak, held.between
    return found


def _grouped(a: Any, b: Any, *_: Any, **__: Any) -> int:
    """Operations of a grouped product of experts, of their shapes: each row meets one expert's matrix."""
    return int(2 * a[0] * a[1] * b[-1])


def _hooks(window: Window, found: Pass, held: _Held, counter: FlopCounterMode) -> Iterator[Any]:
    begun: list[int] = []

    def before(*_: Any) -> None:
        begun.append(counter.get_total_flops())
        held.between = max(held.between, held.now)

    def after(*_: Any) -> None:
        found.uses.append((window.entry, float(counter.get_total_flops() - begun.pop())))

    yield window.module.register_forward_pre_hook(before)
    yield window.module.register_forward_hook(after)
