"""Batched: one run of a model answers all queries of a step.

The batch is stacked n times, and each operation that uses a searched parameter treats each query's rows as that query
displaces it. A linear map under a low-rank direction reads its weight once for all queries:
`y = x W' + (x B_i) c_i A_i'`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from blackbox_zo._buffers import empty
from blackbox_zo.modules._displaced import Displaced, Displacements
from blackbox_zo.modules._scratch import leaves, linear, reads_only_metadata, refuse_noise, replaced

__all__ = ["Batched", "Unstackable", "mark", "take_rows"]

LARGE = 1 << 21
"""Elements from which memory is leased; smaller blocks the allocator itself uses again."""


class Unstackable(RuntimeError):
    """A model cannot answer several queries in one run; by scratch it can."""


class Family(torch.Tensor):
    """n tensors in place of one, where a value depends on the query but not on the batch: `1 + weight`, say.

    It looks like its first member; `Batched` sees every operation on it and does that n times.
    """

    members: list[torch.Tensor]

    @classmethod
    def of(cls, members: list[torch.Tensor]) -> Family:
        """Wrap the n members."""
        out = torch.Tensor._make_subclass(cls, members[0])
        out.members = members
        return out


class Batched(TorchFunctionMode):
    """Inside it, rows of the batch that belong to query i see the parameters as query i displaces them.

    Give the model inputs that went through `stack`. What it makes of them is followed from operation to operation: a
    tensor made from a stacked one is stacked along its first axis. Where that does not hold (the model moves the batch
    to another axis, or picks rows from it), `Unstackable` is raised.

    Args:
        displacements: The step's.
        rows: How many examples each query sees.
    """

    def __init__(self, displacements: Displacements, rows: int) -> None:
        super().__init__()
        self.displacements, self.rows, self.n = displacements, rows, displacements.n
        self.runs = _runs(displacements.queries.index.tolist())

    def stack(self, batch: Any, which: torch.Tensor, size: int) -> Any:
        """Rows of a batch for each query in turn, as inputs of the model.

        Args:
            batch: Tensors and lists in dicts, tuples and lists.
            which: Row numbers, those of query 0 first, shape (n * rows,).
            size: The number of examples of the batch; tensors and lists with as many entries are taken from.
        """
        return take_rows(batch, which, size, mark)

    # ------------------------------------------------------------------------------------------ every operation

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation for all queries."""
        kwargs = kwargs or {}
        if reads_only_metadata(func):
            return func(*args, **kwargs)
        of = self.displacements.of
        displaced = follows = False
        for t in _quick_leaves(args, kwargs):
            if id(t) in of or type(t) is Family:
                displaced = True
            elif _is_marked(t):
                follows = True
        if not displaced:
            if follows and func in _ACTIVATIONS and _is_plain(args, kwargs) and (x := args[0]).is_contiguous():
                return mark(_ACTIVATIONS[func](x, leased(x.numel(), 1, x).view(x.shape), **kwargs))
            refuse_noise(func, args, kwargs)
            out = func(*args, **kwargs)
            if follows:
                _mark_all(args[0] if out is None and args else out)  # `x[…] = y` gives nothing back
            return out
        rule = _RULES.get(func)
        if rule is not None and kwargs.keys() <= _NAMED:
            out = rule(self, *args, **kwargs)
            if out is not NotImplemented:
                return out
        refuse_noise(func, args, kwargs)
        return self._each(func, args, kwargs)

    def is_stacked(self, t: torch.Tensor) -> bool:
        """Whether a tensor's first axis is the stacked batch (or that axis with others merged into it)."""
        if not _is_marked(t) or not t.dim():
            return False
        if t.shape[0] % (self.n * self.rows) or not t.shape[0]:
            raise Unstackable(
                f"A value of shape {tuple(t.shape)} made from the batch meets a searched parameter, but its first axis "
                f"is not the batch of {self.n} x {self.rows}. Use sweep='scratch' for this model."
            )
        return True

    def _each(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Any operation, once per query on its rows and its values."""
        stacked = [t for t in leaves((args, kwargs)) if _is_marked(t) and self.is_stacked(t)]
        self._refuse(func, args, kwargs)
        outs = []
        for i in range(self.n):

            def one(t: torch.Tensor, i: int = i) -> torch.Tensor:
                hit = self.displacements.of.get(id(t))
                if hit is not None:
                    return hit.whole(i, self.displacements.buffers)
                value = t.members[i] if type(t) is Family else t
                if not self._has_the_batch(t, stacked):
                    return value
                return value.view(self.n, len(value) // self.n, *value.shape[1:])[i]  # never a copy: `x += w` is seen

            outs.append(func(*replaced(args, one), **replaced(kwargs, one)))
        join: Callable[[list[torch.Tensor]], Any] = _cat if stacked else Family.of
        return _zip(outs, join)

    def _has_the_batch(self, t: torch.Tensor, stacked: list[torch.Tensor]) -> bool:
        """Whether a value is to be cut by query: stacked, or made in the stacked batch's shape (say a mask)."""
        if any(t is s for s in stacked):
            return True
        if isinstance(t, torch.nn.Parameter):
            return False
        return bool(stacked) and t.dim() == stacked[0].dim() and t.shape[0] == self.n * self.rows

    def _refuse(self, func: Any, args: Any, kwargs: Any) -> None:
        """Refuse operations that could give all queries the result of one."""
        name = getattr(func, "__name__", "")
        into = kwargs.get("out")
        if name in ("__setitem__", "__iadd__") or (name.endswith("_") and not name.endswith("__")):
            into = args[0] if args else None
        if isinstance(into, torch.Tensor) and not (type(into) is Family or self.is_stacked(into)):
            raise Unstackable(f"`{name}` writes a searched parameter to a tensor that is not stacked.")
        if name in _RECURRENT:
            raise Unstackable(f"`{name}` keeps the batch of its state on another axis than the first.")

    # ------------------------------------------------------------------------------------------ known operations

    def _linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
        if type(x) is Family or type(weight) is Family or type(bias) is Family or not self.is_stacked(x):
            return NotImplemented
        w, b = self.displacements.of.get(id(weight)), self._of(bias)
        if weight.dim() != 2:
            return NotImplemented
        if w is None:
            y = F.linear(x, weight, bias)
            assert b is not None
            view = y.view(self.n, -1, y.shape[-1])
            view += b.offsets[:, None].to(y.dtype)
            return mark(y)
        if w.factors is None:
            outs = [linear(w, i, part, self._member(bias, b, i), self.displacements)
                    for i, part in enumerate(x.unflatten(0, (self.n, -1)))]  # fmt: skip
            return _cat(outs)
        if torch.is_autocast_enabled(x.device.type):
            return NotImplemented
        out, into = w.factors
        return self._product(w, x, weight.t(), into, out, bias, b)

    def _addmm(self, bias: Any, x: Any, weight: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
        if beta != 1 or alpha != 1 or type(x) is Family or type(weight) is Family or type(bias) is Family:
            return NotImplemented
        w, b = self.displacements.of.get(id(weight)), self._of(bias)
        if w is None or w.factors is None or not self.is_stacked(x) or bias.dim() != 1:
            return NotImplemented
        into, out = w.factors  # W is (in, out), so A is along the input
        return self._product(w, x, weight, into, out, bias, b)

    def _product(
        self,
        w: Displaced,
        x: torch.Tensor,
        weight: torch.Tensor,
        into: torch.Tensor,
        out: torch.Tensor,
        bias: Any,
        b: Displaced | None,
    ) -> torch.Tensor:
        """`x_i (W + into_i' out_i) + bias_i`.

        The small term and the bias are written first and the large product is added to them: one pass over the output
        less than the other way round.

        Args:
            w: The weight's displacement.
            x: Stacked, (…, in).
            weight: (in, out).
            into: (k, r, in).
            out: (k, r, out).
            bias: (out,) or none.
            b: The same, if it is searched.
        """
        x2, size, (k, r, _) = x.reshape(-1, x.shape[-1]), out.shape[-1], into.shape
        each = len(x2) // self.n
        out = out.expand(self.n, -1, -1) if k == 1 else out[self.displacements.along(x.device)]
        if bias is not None:
            last = bias.detach()[None, None].expand(self.n, 1, size) if b is None else b.stacked[:, None]
            out = torch.cat([out, last.to(out.dtype)], 1)
        t = torch.ones(self.n, each, out.shape[1], dtype=x.dtype, device=x.device)
        into = into.to(x.dtype)
        for j, start, stop in self.runs:
            torch.mul(
                F.linear(x2[start * each : stop * each], into[j]).view(stop - start, each, r),
                torch.from_numpy(w.far[start:stop].astype(np.float32)).to(x.device, x.dtype)[:, None, None],
                out=t[start:stop, :, :r],
            )
        y = leased(len(x2), size, x)
        torch.bmm(t, out.to(x.dtype), out=y.view(self.n, -1, size))
        y.addmm_(x2, weight)
        return mark(y.view(*x.shape[:-1], size))

    def _embedding(self, ids: Any, weight: Any, *args: Any, **kwargs: Any) -> Any:
        max_norm = kwargs.get("max_norm", args[1] if len(args) > 1 else None)
        w = self.displacements.of.get(id(weight))
        if w is None or max_norm is not None or type(ids) is Family:
            return NotImplemented
        if not self.is_stacked(ids):
            plain = F.embedding(ids, weight, *args, **kwargs)
            return Family.of([plain + w.looked_up(i, ids).to(plain.dtype) for i in range(self.n)])
        y = F.embedding(ids, weight, *args, **kwargs)
        for i, (out, looked) in enumerate(zip(y.view(self.n, -1, y.shape[-1]), ids.reshape(self.n, -1), strict=True)):
            out += w.looked_up(i, looked).to(y.dtype)
        return mark(y)

    def _layer_norm(
        self, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *rest: Any
    ) -> Any:
        if type(x) is Family or len(shape) != 1 or not self.is_stacked(x) or weight is None:
            return NotImplemented
        y = F.layer_norm(x, shape, None, None, eps)
        y3 = y.view(self.n, -1, y.shape[-1])
        scale = self._stack(weight)
        if scale is None:
            return NotImplemented
        if bias is None:
            y3 *= scale.to(y.dtype)
        else:
            shift = self._stack(bias)
            if shift is None:
                return NotImplemented
            torch.addcmul(shift.to(y.dtype), y3, scale.to(y.dtype), out=y3)
        return mark(y)

    def _rms_norm(self, x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
        scale = None if weight is None else self._stack(weight)
        if type(x) is Family or len(shape) != 1 or scale is None or not self.is_stacked(x):
            return NotImplemented
        y = F.rms_norm(x, shape, None, eps)
        view = y.view(self.n, -1, y.shape[-1])
        view *= scale.to(y.dtype)
        return mark(y)

    def _mul(self, a: Any, b: Any) -> Any:
        return self._broadcast(torch.mul, a, b)

    def _add(self, a: Any, b: Any, *, alpha: Any = 1) -> Any:
        return self._broadcast(torch.add, a, b) if alpha == 1 else NotImplemented

    def _broadcast(self, func: Any, a: Any, b: Any) -> Any:
        """A vector that depends on the query, times or plus a stacked value."""
        for vector, x in ((a, b), (b, a)):
            if isinstance(x, torch.Tensor) and type(x) is not Family and _is_marked(x) and self.is_stacked(x):
                if x.dim() < 2:
                    return NotImplemented
                stack = self._stack(vector) if isinstance(vector, torch.Tensor) else None
                if stack is None or stack.shape[-1] not in (1, x.shape[-1]):
                    return NotImplemented
                x3 = x.reshape(self.n, -1, x.shape[-1])
                return mark(func(x3, stack).view(x.shape))
        return NotImplemented

    # ------------------------------------------------------------------------------------------ values by query

    def _of(self, bias: Any) -> Displaced | None:
        return None if bias is None else self.displacements.of.get(id(bias))

    def _member(self, bias: Any, b: Displaced | None, i: int) -> Any:
        return bias if b is None else b.whole(i, self.displacements.buffers)

    def _stack(self, vector: torch.Tensor) -> torch.Tensor | None:
        """A vector as (n or 1, 1, d), whether it depends on the query or not; None if it is no vector."""
        if vector.dim() != 1:
            return None
        if type(vector) is Family:
            return torch.stack(vector.members)[:, None]
        hit = self.displacements.of.get(id(vector))
        if hit is None:
            return None if _is_marked(vector) else vector[None, None]
        return hit.stacked[:, None]


_RULES: dict[Any, Callable[..., Any]] = {
    F.linear: Batched._linear,
    F.embedding: Batched._embedding,
    F.layer_norm: Batched._layer_norm,
    torch.layer_norm: Batched._layer_norm,
    F.rms_norm: Batched._rms_norm,
    torch.rms_norm: Batched._rms_norm,
    torch.addmm: Batched._addmm,
    torch.mul: Batched._mul,
    torch.Tensor.mul: Batched._mul,
    torch.Tensor.__mul__: Batched._mul,
    torch.Tensor.__rmul__: Batched._mul,
    torch.add: Batched._add,
    torch.Tensor.add: Batched._add,
    torch.Tensor.__add__: Batched._add,
    torch.Tensor.__radd__: Batched._add,
}

_NAMED = frozenset({
    "weight", "bias", "eps", "alpha", "beta", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse",
})  # fmt: skip
"""What `_RULES` take by name."""

_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


def take_rows(batch: Any, which: torch.Tensor, size: int, then: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Rows `which` of every tensor and list of a batch that has `size`; each tensor taken goes through `then`."""

    def one(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return then(value[which.to(value.device)]) if value.dim() and value.shape[0] == size else value
        inner = getattr(value, "data", None)
        if isinstance(inner, dict) and not isinstance(value, dict):  # transformers' BatchEncoding
            return type(value)({k: one(v) for k, v in inner.items()})
        if isinstance(value, dict):
            return {k: one(v) for k, v in value.items()}
        if isinstance(value, list) and len(value) == size and not any(isinstance(v, torch.Tensor) for v in value):
            return [value[i] for i in which.tolist()]
        if isinstance(value, tuple | list):
            parts = [one(v) for v in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    return one(batch)


def _relu(x: torch.Tensor, out: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return torch.clamp_min(x, 0.0, out=out)


def _silu(x: torch.Tensor, out: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return torch.ops.aten.silu.out(x, out=out)  # type: ignore[no-any-return]


def _gelu(x: torch.Tensor, out: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    return torch.ops.aten.gelu.out(x, approximate=approximate, out=out)  # type: ignore[no-any-return]


_ACTIVATIONS: dict[Any, Callable[..., torch.Tensor]] = {
    F.relu: _relu,
    torch.relu: _relu,
    F.silu: _silu,
    torch._C._nn.silu: _silu,
    F.gelu: _gelu,
}
"""The largest temporaries of a transformer, into leased memory. `F.gelu` is what its module calls too."""


def mark(t: torch.Tensor) -> torch.Tensor:
    """Note that a tensor's first axis is the stacked batch."""
    t._zo_stacked = True  # type: ignore[attr-defined]
    return t


def _is_marked(t: torch.Tensor) -> bool:
    return hasattr(t, "_zo_stacked")


def _is_plain(args: Any, kwargs: Any) -> bool:
    """Whether an activation is of one tensor, and leaves that as it is."""
    return len(args) == 1 and not kwargs.get("inplace", False) and kwargs.keys() <= {"inplace", "approximate"}


def _mark_all(out: Any) -> None:
    if isinstance(out, torch.Tensor):
        out._zo_stacked = True  # type: ignore[attr-defined]
    elif isinstance(out, tuple | list):
        for t in out:
            _mark_all(t)


def _quick_leaves(args: Any, kwargs: Any) -> list[torch.Tensor]:
    found = []
    for a in args:
        if isinstance(a, torch.Tensor):
            found.append(a)
        elif isinstance(a, tuple | list):
            found.extend(leaves(a))
    for a in kwargs.values():
        if isinstance(a, torch.Tensor):
            found.append(a)
        elif isinstance(a, tuple | list | dict):
            found.extend(leaves(a))
    return found


def leased(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """An empty matrix whose memory goes back to a pool; fresh memory of that size would cost a fault per page."""
    if like.device.type != "cpu" or like.dtype is not torch.float32 or rows * columns < LARGE:
        return torch.empty(rows, columns, dtype=like.dtype, device=like.device)
    size = rows * columns
    return torch.from_numpy(empty((-(-size // 2),)).view(np.float32)[:size]).view(rows, columns)


def _cat(outs: list[torch.Tensor]) -> torch.Tensor:
    return mark(torch.cat(outs))


def _runs(index: list[int]) -> list[tuple[int, int, int]]:
    """(direction, start, stop) for each run of queries along one direction."""
    starts = [i for i in range(len(index)) if i == 0 or index[i] != index[i - 1]]
    return [(index[a], a, b) for a, b in zip(starts, [*starts[1:], len(index)], strict=True)]


def _zip(outs: list[Any], join: Callable[[list[torch.Tensor]], Any]) -> Any:
    """Join the outputs of one operation for n queries, tensor by tensor."""
    first = outs[0]
    if isinstance(first, torch.Tensor):
        return join(outs)
    if isinstance(first, tuple | list):
        parts = [_zip(list(part), join) for part in zip(*outs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if not all(np.array_equal(out, first) for out in outs):
        raise Unstackable("The model takes a number out of a tensor that depends on the query. Use sweep='scratch'.")
    return first
