"""Parts of a displaced parameter: a view of one is displaced where an operation needs its values, and there alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from blackbox_zo._typing import override
from blackbox_zo.modules._displaced import Displaced
from blackbox_zo.modules._operations import reads_only_metadata, replaced
from blackbox_zo.modules._tensors import Buffers, row_chunks
from blackbox_zo.randomness import TILE

__all__ = ["Part", "Query", "View", "is_basic", "is_number", "made", "makes_views", "read", "viewed"]

_VIEWS = frozenset({
    "__getitem__", "__iter__", "select", "narrow", "view", "view_as", "reshape", "reshape_as", "transpose", "t",
    "permute", "movedim", "moveaxis", "swapaxes", "swapdims", "unsqueeze", "squeeze", "unflatten", "flatten", "ravel",
    "expand", "expand_as", "chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind",
    "diagonal", "unfold", "detach", "alias", "as_strided", "contiguous", "adjoint", "unsafe_chunk", "unsafe_split",
})  # fmt: skip
"""Operations that give views of their first argument wherever that is possible, by name."""

_MAY_COPY = frozenset({"reshape", "reshape_as", "flatten", "ravel", "contiguous"})
"""Those that copy where it is not possible."""

_CASTS = frozenset({"to", "type_as", "type", "float", "double", "half", "bfloat16", "cpu", "cuda"})
"""Operations that give their first argument back where it is already of that type and on that device."""

KEPT = 4
"""Runs of small parts that are kept, of as many parameters."""

GAP = 1 << 12
"""Elements that are rather left out than made, where a view has gaps."""

_VIEWING = frozenset({"T", "mT", "H", "mH", "data", "real"})
"""Attributes that are views."""


class Query(Protocol):
    """One query of a step, which views are displaced by; a `Scratch` is one.

    Attributes:
        i: Its number.
        runs: What `read` keeps: first element and values, by the id of the parameter's displacement.
    """

    i: int
    runs: dict[int, tuple[int, torch.Tensor]]

    def displaced(self, t: Any) -> Displaced | View | None:
        """The searched parameter or view of one that a tensor is, if it is one."""
        ...

    def value(self, t: Any) -> Any:
        """A tensor's values, displaced if it is; whatever else as it is."""
        ...

    def linear(self, w: Displaced | Part, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`F.linear` with a displaced weight; the bias may be searched."""
        ...

    @property
    def buffers(self) -> Buffers:
        """Scratch memory."""
        ...


class View(torch.Tensor):
    """A view of a searched parameter under one query. It looks like that view of the parameter itself.

    Which elements it has follows from its offset and strides, so a view of a view is nothing special.
    """

    plain: torch.Tensor
    source: Displaced
    query: Query

    @classmethod
    def of(cls, t: torch.Tensor, source: Displaced, query: Query) -> View:
        """Wrap a tensor that shares the parameter's memory."""
        out = torch.Tensor._make_subclass(cls, t)
        out.plain, out.source, out.query = t, source, query
        return out

    @classmethod
    @override
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Any operation outside its query's pass: on the values."""
        reads = reads_only_metadata(func)

        def one(t: torch.Tensor) -> torch.Tensor:
            return t if type(t) is not View else t.plain if reads else t.made()

        return func(*replaced(args, one), **replaced(kwargs or {}, one))

    def made(self) -> torch.Tensor:
        """The displaced values, in memory of their own."""
        return made(self.plain, self.source, self.query)


def made(t: torch.Tensor, source: Displaced, query: Query) -> torch.Tensor:
    """The displaced values of a view `t` of a parameter, in memory of their own: of its size and strides if dense."""
    if not t.numel():
        return torch.empty_like(t)
    axes = sorted((a for a in range(t.dim()) if t.shape[a] > 1), key=t.stride)
    span = int(1 + sum((t.shape[a] - 1) * t.stride(a) for a in axes))
    first = int(t.storage_offset()) - source.first
    outer, inner = (axes[-1], axes[:-1]) if axes else (0, [])
    if axes and t.stride(outer) - sum((t.shape[a] - 1) * t.stride(a) for a in inner) - 1 > GAP:
        return torch.stack([made(row, source, query) for row in t.unbind(outer)], outer)  # what lies between is left
    flat = torch.empty(span, dtype=t.dtype, device=t.device)
    source.fill_(flat, query.i, first, query.buffers)
    return flat.as_strided(t.shape, t.stride())


def read(t: torch.Tensor, source: Displaced, query: Query) -> torch.Tensor:
    """`made`, but what is small may be in memory that others read, too.

    It is made with its neighbours, a tile of the random numbers at once, since they are often next: the experts of a
    layer are used in order. The newest few such runs are kept for the pass.
    """
    size = t.numel()
    if size > TILE // 2 or not t.is_contiguous():
        return made(t, source, query)
    start = int(t.storage_offset()) - source.first
    kept = query.runs.pop(id(source), None)
    if kept is None or not kept[0] <= start <= start + size <= kept[0] + len(kept[1]):
        a, b = start - start % TILE, min(-(-(start + size) // TILE) * TILE, source.block.size)
        kept = a, source.fill_(torch.empty(b - a, dtype=t.dtype, device=t.device), query.i, a, query.buffers)
    query.runs[id(source)] = kept
    if len(query.runs) > KEPT:
        del query.runs[next(iter(query.runs))]
    return kept[1].as_strided(t.shape, t.stride(), start - kept[0])


class Part:
    """A displaced matrix that is a contiguous view; has what `linear` needs of a `Displaced`.

    Args:
        t: The view of the parameter itself, 2-D.
        source: The parameter.
    """

    def __init__(self, t: torch.Tensor, source: Displaced) -> None:
        self.t, self.source, self.shape = t, source, tuple(t.shape)
        self.first = int(t.storage_offset()) - source.first

    def chunks(self, tokens: int = 0) -> list[tuple[int, int]]:
        """Runs of rows that are displaced at a time, for so many rows of an input."""
        return row_chunks(self.shape, tokens, self.t.device)

    def rows(self, i: int, a: int, b: int, scratch: Buffers) -> torch.Tensor:
        """Rows a … b, in scratch memory that the next call overwrites."""
        width = self.shape[1]
        return self.source.between(i, self.first + a * width, self.first + b * width, scratch).view(b - a, width)

    def whole(self, i: int, scratch: Buffers) -> torch.Tensor:
        """All of it, in memory of its own."""
        out = torch.empty_like(self.t)
        self.source.fill_(out.view(-1), i, self.first, scratch)
        return out


def makes_views(func: Any) -> bool:
    """Whether an operation gives views of its first argument, if it can; casts are of the same type if they can."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") in _VIEWING
    return name in _VIEWS or name in _CASTS


def is_basic(index: Any) -> bool:
    """Whether indexing with this is a view: numbers, slices, `...` and None."""
    if isinstance(index, tuple):
        return all(is_basic(part) for part in index)
    return index is None or index is Ellipsis or isinstance(index, slice) or is_number(index)


def is_number(index: Any) -> bool:
    """Whether an index selects one entry of an axis, as a number or a tensor of one."""
    if isinstance(index, torch.Tensor):
        return index.dim() == 0 and index.dtype not in (torch.bool, torch.uint8)
    return hasattr(index, "__index__") and not isinstance(index, bool) and not hasattr(index, "__len__")


def viewed(func: Callable[..., Any], args: Any, kwargs: Any, t: torch.Tensor, source: Displaced, query: Query) -> Any:
    """Run an operation of `makes_views` on a view `t` of a parameter.

    Returns:
        Views, or `NotImplemented` where it copies.
    """
    name, rest = getattr(func, "__name__", ""), args[1:]
    if name == "__getitem__":
        return View.of(func(t, *rest), source, query) if is_basic(rest[0]) else NotImplemented
    if name in _CASTS:
        nothing = t.detach().as_strided((0,), (1,))
        if func(nothing, *rest, **kwargs) is not nothing:
            return NotImplemented
        return View.of(t, source, query)
    out = func(t, *rest, **kwargs)
    if name == "__iter__":
        return iter([View.of(row, source, query) for row in out])
    if isinstance(out, torch.Tensor):
        if name in _MAY_COPY and out.untyped_storage().data_ptr() != t.untyped_storage().data_ptr():
            return NotImplemented
        return View.of(out, source, query)
    return type(out)(View.of(v, source, query) for v in out)
