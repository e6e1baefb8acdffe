"""What `Scratch` does with parts of parameters: views, gathered rows, and products one matrix of a stack at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from blackbox_zo.modules._displaced import Displaced
from blackbox_zo.modules._parts import Part, Query, View, is_number, made, makes_views, read, viewed
from blackbox_zo.modules._tensors import CHUNK

__all__ = ["in_parts"]

NARROW = 1 << 10
"""Elements of a row up to which rows are gathered in one go."""

_WRITES = frozenset({
    "__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ifloordiv__", "__ipow__",
    "__imod__", "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__",
})  # fmt: skip

Operation = Callable[..., Any]


def in_parts(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """Run an operation on a searched parameter, or a view of one, so that only what it uses is displaced.

    Returns:
        The result, a `View` for an operation that gives views, or `NotImplemented` if it needs all values at once.

    Raises:
        RuntimeError: It would write to a searched parameter.
    """
    name = getattr(func, "__name__", "")
    if name == "linear":  # as often as not an expert's
        return _linear(query, func, args, kwargs)
    first = query.displaced(args[0]) if args and isinstance(args[0], torch.Tensor) else None
    if first is not None:
        if name == "__getitem__" and is_number(args[1]) and not _is_small(first):
            t, source = _place(first)
            return View.of(t[args[1]], source, query)
        _refuse_writing(name, first)
        if makes_views(func) and not _is_small(first):
            out = viewed(func, args, kwargs, *_place(first), query)
            if out is not NotImplemented:
                return out
    rule = _RULES.get(name)
    return NotImplemented if rule is None else rule(query, func, args, kwargs)


def _place(hit: Displaced | View) -> tuple[torch.Tensor, Displaced]:
    """The undisplaced values of a displaced tensor, and the parameter."""
    return (hit.plain, hit.source) if isinstance(hit, View) else (hit.p, hit)


def _is_small(hit: Displaced | View) -> bool:
    return isinstance(hit, Displaced) and hit.small


def _found(query: Query, t: Any, dims: int | None = None) -> tuple[torch.Tensor, Displaced] | None:
    """`_place` of an argument, if it is displaced, not small and of so many dimensions."""
    hit = query.displaced(t) if isinstance(t, torch.Tensor) else None
    if hit is None or _is_small(hit):
        return None
    place = _place(hit)
    return place if dims is None or place[0].dim() == dims else None


def _refuse_writing(name: str, hit: Displaced | View) -> None:
    ends = name.endswith("_") and not name.endswith("__") and name not in ("requires_grad_", "detach_", "share_memory_")
    if ends or name in _WRITES:
        raise RuntimeError(
            f"The model writes to {_place(hit)[1].block.name!r} as it runs (`{name}`), but that parameter is searched, "
            "and each query has values of its own for it. Leave it out of `select`."
        )


def _runs(used: Iterable[int], size: int) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, last + 1), of at most `CHUNK` elements where each has `size`."""
    most, out = max(1, CHUNK // max(1, size)), list[tuple[int, int]]()
    for e in used:
        if out and out[-1][1] == e and e - out[-1][0] < most:
            out[-1] = out[-1][0], e + 1
        else:
            out.append((e, e + 1))
    return out


# ------------------------------------------------------------------------------------------------------ gathered


def _getitem(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """`w[ids]`, `w[ids, …]`, `w[mask]`, and these after numbers and slices."""
    found = _found(query, args[0])
    if found is None:
        return NotImplemented
    (t, source), index = found, args[1] if isinstance(args[1], tuple) else (args[1],)
    while index and is_number(index[0]):
        t, index = t[index[0]], index[1:]
    if not index or index[0] is None or index[0] is Ellipsis:
        return NotImplemented
    ids, *rest = index
    if isinstance(ids, slice):
        return made(t[ids], source, query)[(slice(None), *rest)]
    if not isinstance(ids, torch.Tensor):
        ids = torch.as_tensor(ids, device=t.device)
    if ids.dtype in (torch.bool, torch.uint8):
        if ids.dim() != 1 or rest or len(ids) != len(t):
            return NotImplemented
        ids = ids.nonzero()[:, 0]
    if not rest:
        return _rows(query, t, source, ids)
    if ids.dim() == 0:
        return NotImplemented
    used, where = torch.unique(_counted(ids, len(t)), return_inverse=True)
    return _rows(query, t, source, used)[(where, *rest)]


def _index_select(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    found = _found(query, args[0])
    if found is None or kwargs or len(args) != 3 or args[1] not in (0, -args[0].dim()) or args[2].dim() != 1:
        return NotImplemented
    return _rows(query, *found, args[2])


def _embedding(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """From a view; a parameter itself is looked up without this."""
    found = _found(query, args[1], 2) if len(args) == 2 and type(args[1]) is View else None
    return NotImplemented if found is None or kwargs.get("max_norm") is not None else _rows(query, *found, args[0])


def _counted(ids: torch.Tensor, size: int) -> torch.Tensor:
    """Numbers of rows, none of them negative."""
    if ids.numel() and (int(ids.min()) < -size or int(ids.max()) >= size):
        raise IndexError(f"A row is looked up that is out of bounds for {size} rows.")
    return ids % size if size else ids


def _rows(query: Query, t: torch.Tensor, source: Displaced, ids: torch.Tensor) -> torch.Tensor:
    """`t[ids]`, displaced; each row is made once."""
    ids, size = _counted(ids.to(t.device), len(t)), t[:1].numel()
    if t.shape == source.p.shape and t.is_contiguous() and size <= NARROW:
        found = source.looked_up(query.i, ids).view(*ids.shape, *t.shape[1:])
        return found.add_(t[ids]).to(t.dtype)
    out = torch.empty(ids.numel(), *t.shape[1:], dtype=t.dtype, device=t.device)
    order = ids.reshape(-1).argsort()
    numbers = ids.reshape(-1)[order]
    used, counts = torch.unique_consecutive(numbers, return_counts=True)
    ends = dict(zip(used.tolist(), counts.cumsum(0).tolist(), strict=True))
    done = 0
    for a, b in _runs(ends, size):
        here = slice(done, done := ends[b - 1])
        out[order[here]] = made(t[a:b], source, query)[numbers[here] - a]
    return out.view(*ids.shape, *t.shape[1:])


# ------------------------------------------------------------------------------------------------------ products


def _matmul(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """A product with a matrix or a stack of them; `__rmatmul__` gets its arguments in order of the methods."""
    if kwargs or len(args) != 2:
        return NotImplemented
    if getattr(func, "__name__", "") == "__rmatmul__":
        return _matmul(query, torch.matmul, args[::-1], kwargs)
    found = _found(query, args[1], 2)
    if found is None or not isinstance(args[0], torch.Tensor) or query.displaced(args[0]) is not None:
        return _stack(query, func, args, kwargs)
    t, x = found[0], args[0]
    if t.numel() > CHUNK and t.t().is_contiguous() and x.dtype is t.dtype and x.dim():
        return query.linear(Part(t.t(), found[1]), x, None)
    return func(x, read(t, found[1], query)) if type(args[1]) is View else NotImplemented


def _linear(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """With a view as the weight; a parameter itself needs no rule."""
    if len(args) < 2 or type(args[1]) is not View or query.displaced(args[0]) is not None:
        return NotImplemented
    found = query.displaced(args[1])
    assert isinstance(found, View)
    t, source, x, bias = found.plain, found.source, args[0], args[2] if len(args) > 2 else kwargs.get("bias")
    if t.numel() > CHUNK and t.dim() == 2 and t.is_contiguous() and x.dtype is t.dtype:
        return query.linear(Part(t, source), x, bias)
    value = read(t, source, query)
    return func(x, value) if bias is None else func(x, value, query.value(bias))


def _stack(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """`bmm`, `baddbmm` and `matmul`, a run of matrices at a time."""
    hits = [found for t in args if (found := _found(query, t, 3)) is not None]
    if not hits:
        return NotImplemented
    count = len(hits[0][0])
    others = [t for t in args if isinstance(t, torch.Tensor)]
    runs = _runs(range(count), hits[0][0][:1].numel())
    if len(runs) < 2 or any(t.dim() < 2 or (t.dim() > 2 and t.shape[-3] not in (1, count)) for t in others):
        return NotImplemented

    def some(t: Any, a: int, b: int) -> Any:
        if not isinstance(t, torch.Tensor):
            return t
        cut = t.dim() > 2 and t.shape[-3] == count
        found = _found(query, t)
        if found is None:
            value = query.value(t)
            return value.narrow(-3, a, b - a) if cut else value
        return made(found[0].narrow(-3, a, b - a) if cut else found[0], found[1], query)

    return torch.cat([func(*(some(t, a, b) for t in args), **kwargs) for a, b in runs], -3)


def _grouped(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """`grouped_mm`: rows sorted by expert times the matrix of each; those of experts without rows are not made."""
    x, found = args[0], _found(query, args[1], 3) if len(args) > 1 else None
    offs = args[2] if len(args) == 3 else kwargs.get("offs")
    other = [key for key, given in kwargs.items() if key != "offs" and given is not None]
    if found is None or offs is None or len(args) > 3 or other or x.dim() != 2:
        return NotImplemented
    ends = [0, *offs.tolist()]
    used = [e for e in range(len(ends) - 1) if ends[e + 1] > ends[e]]
    t, out = found[0], torch.zeros(len(x), found[0].shape[2], dtype=x.dtype, device=x.device)
    for a, b in _runs(used, t[:1].numel()):
        weight = made(t[a:b], found[1], query)
        for e in range(a, b):  # not by the operation itself: on some devices that takes aligned rows only
            torch.mm(x[ends[e] : ends[e + 1]], weight[e - a], out=out[ends[e] : ends[e + 1]])
    return out


def _einsum(query: Query, func: Operation, args: Any, kwargs: Any) -> Any:
    """Along the first axis of the first displaced operand, a run at a time."""
    if kwargs or not args or not isinstance(args[0], str):
        return NotImplemented
    rest = list(args[1]) if len(args) == 2 and isinstance(args[1], list | tuple) else list(args[1:])
    equation = args[0].replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    which = next((n for n, t in enumerate(rest) if _found(query, t) is not None), None)
    plain = "." not in equation and len(terms) == len(rest) and all(len(set(term)) == len(term) for term in terms)
    if which is None or not plain or not arrow:
        return NotImplemented
    letter, (t, _) = terms[which][0], _place(query.displaced(rest[which]))  # type: ignore[arg-type]
    runs = _runs(range(len(t)), t[:1].numel())
    along = {v.shape[term.index(letter)] for v, term in zip(rest, terms, strict=True) if letter in term}
    if len(runs) < 2 or along != {len(t)}:
        return NotImplemented

    def some(v: torch.Tensor, term: str, a: int, b: int) -> torch.Tensor:
        found = _found(query, v)
        value = query.value(v) if found is None else found[0]
        value = value.narrow(term.index(letter), a, b - a) if letter in term else value
        return value if found is None else made(value, found[1], query)

    pieces = (func(equation, *(some(v, term, a, b) for v, term in zip(rest, terms, strict=True))) for a, b in runs)
    return torch.cat(list(pieces), output.index(letter)) if letter in output else sum(pieces)


_RULES: dict[str, Operation] = {
    "__getitem__": _getitem, "index_select": _index_select, "embedding": _embedding,
    "matmul": _matmul, "__matmul__": _matmul, "__rmatmul__": _matmul, "mm": _matmul,
    "bmm": _stack, "baddbmm": _stack, "einsum": _einsum,
    "grouped_mm": _grouped, "_grouped_mm": _grouped, "grouped_mm_fallback": _grouped,
}  # fmt: skip
