"""Scratch: a model runs once a query, and each displaced weight exists only while the operation that needs it runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from blackbox_zo._typing import override
from blackbox_zo.modules._displaced import Displaced, Displacements
from blackbox_zo.modules._indexed import in_parts
from blackbox_zo.modules._operations import reads_only_metadata, replaced
from blackbox_zo.modules._parts import Part, View
from blackbox_zo.modules._tensors import Buffers

__all__ = ["WITHIN", "Scratch", "leaves", "leaves_of", "linear", "reads_only_metadata", "refuse_noise", "replaced"]

_NOISY = frozenset({
    "scaled_dot_product_attention", "multi_head_attention_forward", "rrelu", "lstm", "gru", "rnn_tanh", "rnn_relu",
    "batch_norm", "instance_norm",
})  # fmt: skip
WITHIN: dict[Any, Any] = {}
"""What to run in place of an operation whose second argument is displaced: operations that are displaced themselves."""

_NESTED = (tuple, list, dict)  # a union would be made anew at each of the thousands of checks of a pass
_LOOKED_INTO = frozenset(_NESTED)


class Scratch(TorchFunctionMode):
    """Inside it, every torch operation sees the parameters as one query displaces them.

    The model itself is untouched: an operation that is given a searched parameter gets `w + c u` in its place. Linear
    maps and embeddings make only the rows they are working on, and a view of a parameter (an expert's matrix, say) is
    made only where it is used, see `in_parts`; other operations make the whole parameter for as long as it is used.
    Works for any module whose parameters are used through torch's Python functions.

    Args:
        displacements: The step's.
        i: Which query.
    """

    def __init__(self, displacements: Displacements, i: int) -> None:
        super().__init__()
        self.displacements, self.i = displacements, i
        self.runs: dict[int, tuple[int, torch.Tensor]] = {}

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, displaced."""
        of = self.displacements.of
        for arg in args:  # most operations have nothing to do with a parameter, and are many
            if type(arg) is View or id(arg) in of:
                if reads_only_metadata(func):
                    return func(*args, **(kwargs or {}))
                found = in_parts(self, func, args, kwargs or {})
                if found is not NotImplemented:
                    return found
                break
            if type(arg) in _LOOKED_INTO:
                break
        else:
            if not kwargs and not _may_be_noisy(func):
                return func(*args)
        kwargs = kwargs or {}
        if not (uses(of, args) or (kwargs and uses(of, kwargs.values()))):
            refuse_noise(func, args, kwargs)
            return func(*args, **kwargs)
        if reads_only_metadata(func):
            return func(*args, **kwargs)
        found = of.get(id(args[1])) if len(args) > 1 else None
        if found is not None:
            self.displacements.touched.add(id(args[1]))
            if func is F.linear and len(found.block.shape) == 2:
                bias = args[2] if len(args) > 2 else kwargs.get("bias")
                return self.linear(found, args[0], bias)
            if (inner := WITHIN.get(func)) is not None:
                with self:
                    return inner(*args, **kwargs)
            if func is F.embedding and _plain_embedding(args, kwargs):
                y = func(*args, **kwargs)
                y += found.looked_up(self.i, args[0]).to(y.dtype)
                return y
        refuse_noise(func, args, kwargs)
        return func(*replaced(args, self.value), **replaced(kwargs, self.value))

    @property
    def buffers(self) -> Buffers:
        """The step's scratch memory."""
        return self.displacements.buffers

    def displaced(self, t: Any) -> Displaced | View | None:
        """The searched parameter that a tensor is, or itself if it is a view of one, or neither.

        Raises:
            RuntimeError: A view was made under another query.
        """
        if type(t) is not View:
            hit = self.displacements.of.get(id(t))
            if hit is not None:
                self.displacements.touched.add(id(t))
            return hit
        if t.query is not self:
            raise RuntimeError(
                f"The model keeps a part of {t.source.block.name!r} from one forward pass to the next, which would "
                "give a query the weights of another. Empty that cache, or leave this parameter out of `select`."
            )
        return t

    def linear(self, w: Displaced | Part, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`F.linear` with this query's weight."""
        return linear(w, self.i, x, self.value(bias), self.displacements)

    def value(self, t: Any) -> Any:
        """What an operation is given in place of a tensor."""
        hit = self.displaced(t)
        if hit is None:
            return t
        return hit.made() if isinstance(hit, View) else hit.whole(self.i, self.buffers)


def linear(
    w: Displaced | Part, i: int, x: torch.Tensor, bias: torch.Tensor | None, displacements: Displacements
) -> torch.Tensor:
    """`F.linear` with query i's weight, which exists only a run of rows at a time."""
    rows = w.shape[0]
    flat = x.reshape(-1, x.shape[-1])
    if torch.is_autocast_enabled(x.device.type):
        return F.linear(x, w.whole(i, displacements.buffers), bias)
    displacements.heap.will_make(flat.shape[0] * rows, x)
    y = torch.empty(flat.shape[0], rows, dtype=x.dtype, device=x.device)
    chunks = w.chunks(len(flat))
    for a, b in chunks:
        part = w.rows(i, a, b, displacements.buffers)
        out = y[:, a:b] if len(chunks) > 1 else y
        if bias is None:
            torch.mm(flat, part.t(), out=out)
        else:
            torch.addmm(bias[a:b], flat, part.t(), out=out)
    return y.view(*x.shape[:-1], rows)


def uses(of: dict[int, Displaced], values: Iterable[Any]) -> bool:
    """Whether a searched parameter, or a view of one, is among the arguments of an operation."""
    for value in values:
        if id(value) in of or type(value) is View:
            return True
        if isinstance(value, tuple | list) and uses(of, value):
            return True
        if isinstance(value, dict) and uses(of, value.values()):
            return True
    return False


def leaves_of(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """All tensors among the arguments of an operation."""
    found: list[torch.Tensor] = []
    for value in args:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, _NESTED):
            found += leaves(value)
    return found + leaves(kwargs) if kwargs else found


def leaves(tree: Any) -> list[torch.Tensor]:
    """All tensors in tuples, lists and dicts."""
    found: list[torch.Tensor] = []
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, _NESTED):
            found += leaves(value)
    return found


@cache
def _may_be_noisy(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return "dropout" in name or name in _NOISY


def refuse_noise(func: Any, args: Any, kwargs: Any) -> None:
    """Refuse dropout: two queries would be compared under different noise."""
    if not _may_be_noisy(func):
        return
    name = getattr(func, "__name__", "")

    def given(keyword: str, place: int, default: Any) -> Any:
        return kwargs.get(keyword, args[place] if len(args) > place else default)

    if name == "scaled_dot_product_attention":
        active = given("dropout_p", 4, 0.0) > 0.0
    elif name == "multi_head_attention_forward":
        active = given("training", 13, True) and given("dropout_p", 10, 0.0) > 0.0
    elif "dropout" in name:
        active = kwargs.get("train", given("training", 2, True)) and given("p", 1, 0.5) > 0.0
    elif name == "rrelu":
        active = given("training", 3, False)
    elif name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        place = 5 if isinstance(args[3], bool) else 6  # one later where sequences are packed
        active = args[place + 1] and args[place] > 0.0
    elif name == "batch_norm":
        active = given("training", 5, False)
    elif name == "instance_norm":  # without running statistics it is a function of each example alone
        active = given("use_input_stats", 5, True) and given("running_mean", 1, None) is not None
    else:
        return
    if active:
        raise RuntimeError(
            f"The model is in training mode and uses `{name}`, which makes every answer different. Call `model.eval()`."
        )


def _plain_embedding(args: Any, kwargs: Any) -> bool:
    """Whether an embedding only looks rows up (`max_norm` would change the table)."""
    max_norm = kwargs.get("max_norm", args[3] if len(args) > 3 else None)
    return max_norm is None
