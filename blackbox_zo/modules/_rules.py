"""What `Batched` knows of single operations: each takes the mode and the operation's own arguments.

A rule that does not fit gives `NotImplemented`, and the operation is then done once per query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from blackbox_zo.modules._displaced import Displaced, Displacements
from blackbox_zo.modules._scratch import linear
from blackbox_zo.modules._stacking import Family, cat, is_marked, leased, mark

__all__ = ["ACTIVATIONS", "NAMED", "RULES", "Stacked", "is_plain"]


class Stacked(Protocol):
    """What a rule needs of the mode it works in, which is a `Batched`."""

    displacements: Displacements
    n: int

    def groups(self, rank: int) -> list[tuple[list[int], int, int]]:
        """See `Batched.groups`."""
        ...

    def is_stacked(self, t: torch.Tensor) -> bool:
        """See `Batched.is_stacked`."""
        ...


def _linear(mode: Stacked, x: Any, weight: Any, bias: Any = None) -> Any:
    if type(x) is Family or type(weight) is Family or type(bias) is Family or not mode.is_stacked(x):
        return NotImplemented
    w, b = mode.displacements.of.get(id(weight)), _of(mode, bias)
    if weight.dim() != 2:
        return NotImplemented
    if w is None:
        y = F.linear(x, weight, bias)
        assert b is not None
        view = y.view(mode.n, -1, y.shape[-1])
        view += b.offsets[:, None].to(y.dtype)
        return mark(y)
    if not w.factored:
        outs = [linear(w, i, part, _member(mode, bias, b, i), mode.displacements)
                for i, part in enumerate(x.unflatten(0, (mode.n, -1)))]  # fmt: skip
        return cat(outs)
    if torch.is_autocast_enabled(x.device.type):
        return NotImplemented
    return _product(mode, w, x, weight.t(), 1, bias, b)


def _addmm(mode: Stacked, bias: Any, x: Any, weight: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    if beta != 1 or alpha != 1 or type(x) is Family or type(weight) is Family or type(bias) is Family:
        return NotImplemented
    w, b = mode.displacements.of.get(id(weight)), _of(mode, bias)
    if w is None or not w.factored or not mode.is_stacked(x) or bias.dim() != 1:
        return NotImplemented
    return _product(mode, w, x, weight, 0, bias, b)  # W is (in, out), so A is along the input


def _product(
    mode: Stacked, w: Displaced, x: torch.Tensor, weight: torch.Tensor, into: int, bias: Any, b: Displaced | None
) -> torch.Tensor:
    """`x_i (W + into_i' out_i) + bias_i`.

    The small term and the bias are written first and the large product is added to them: one pass over the output
    less than the other way round.

    Args:
        mode: The mode.
        w: The weight's displacement.
        x: Stacked, (…, in).
        weight: (in, out).
        into: Which of the factors is along the input.
        bias: (out,) or none.
        b: The same, if it is searched.
    """
    x2, columns, n = x.reshape(-1, x.shape[-1]), weight.shape[1], mode.n
    inner, out = w.factor(into, x.dtype), w.factor_along(1 - into, x.dtype)  # (k, r, in), (n, r, out)
    (k, r, _), rows = inner.shape, len(x2)
    t = torch.mm(x2, inner[0].t()) if k == 1 else _along(mode, x2, inner)
    last = None if bias is None else (bias.detach()[None, None] if b is None else b.stacked[:, None]).to(x.dtype)
    mode.displacements.heap.will_make(rows * columns, x)
    y = leased(rows, columns, x)
    t3, y3 = t.view(n, -1, r), y.view(n, -1, columns)
    if r > 1 and last is not None:
        torch.baddbmm(last, t3, out, out=y3)
    elif r > 1:
        torch.bmm(t3, out, out=y3)
    elif last is not None:  # an outer product, which is faster by elements
        torch.addcmul(last, t3, out, out=y3)
    else:
        torch.mul(t3, out, out=y3)
    y.addmm_(x2, weight)
    return mark(y.view(*x.shape[:-1], columns))


def _along(mode: Stacked, x: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """`x_i into_i'`, shape (rows, r): products of a few directions at a time, of which the diagonal counts."""
    r, each = into.shape[1], len(x) // mode.n
    parts = []
    for js, start, stop in mode.groups(r):
        some = into[js[0] : js[-1] + 1] if js[-1] - js[0] == len(js) - 1 else into[js]  # a list would be sent
        y = F.linear(x[start * each : stop * each], some.flatten(0, 1)).view(len(js), -1, len(js), r)
        parts.append(y.diagonal(dim1=0, dim2=2).permute(2, 0, 1).reshape(-1, r))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _embedding(mode: Stacked, ids: Any, weight: Any, *args: Any, **kwargs: Any) -> Any:
    max_norm = kwargs.get("max_norm", args[1] if len(args) > 1 else None)
    w = mode.displacements.of.get(id(weight))
    if w is None or max_norm is not None or type(ids) is Family:
        return NotImplemented
    if not mode.is_stacked(ids):
        plain = F.embedding(ids, weight, *args, **kwargs)
        return Family.of([plain + w.looked_up(i, ids).to(plain.dtype) for i in range(mode.n)])
    y = F.embedding(ids, weight, *args, **kwargs)
    for i, (out, looked) in enumerate(zip(y.view(mode.n, -1, y.shape[-1]), ids.reshape(mode.n, -1), strict=True)):
        out += w.looked_up(i, looked).to(y.dtype)
    return mark(y)


def _layer_norm(
    mode: Stacked, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *rest: Any
) -> Any:
    if type(x) is Family or len(shape) != 1 or not mode.is_stacked(x) or weight is None:
        return NotImplemented
    y = F.layer_norm(x, shape, None, None, eps)
    y3 = y.view(mode.n, -1, y.shape[-1])
    scale = _stack(mode, weight)
    if scale is None:
        return NotImplemented
    if bias is None:
        y3 *= scale.to(y.dtype)
    else:
        shift = _stack(mode, bias)
        if shift is None:
            return NotImplemented
        torch.addcmul(shift.to(y.dtype), y3, scale.to(y.dtype), out=y3)
    return mark(y)


def _rms_norm(mode: Stacked, x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    scale = None if weight is None else _stack(mode, weight)
    if type(x) is Family or len(shape) != 1 or scale is None or not mode.is_stacked(x):
        return NotImplemented
    y = F.rms_norm(x, shape, None, eps)
    view = y.view(mode.n, -1, y.shape[-1])
    view *= scale.to(y.dtype)
    return mark(y)


def _mul(mode: Stacked, a: Any, b: Any) -> Any:
    return _broadcast(mode, torch.mul, a, b)


def _add(mode: Stacked, a: Any, b: Any, *, alpha: Any = 1) -> Any:
    return _broadcast(mode, torch.add, a, b) if alpha == 1 else NotImplemented


def _broadcast(mode: Stacked, func: Any, a: Any, b: Any) -> Any:
    """A vector that depends on the query, times or plus a stacked value."""
    for vector, x in ((a, b), (b, a)):
        if isinstance(x, torch.Tensor) and type(x) is not Family and is_marked(x) and mode.is_stacked(x):
            if x.dim() < 2:
                return NotImplemented
            stack = _stack(mode, vector) if isinstance(vector, torch.Tensor) else None
            if stack is None or stack.shape[-1] not in (1, x.shape[-1]):
                return NotImplemented
            x3 = x.reshape(mode.n, -1, x.shape[-1])
            return mark(func(x3, stack).view(x.shape))
    return NotImplemented


def _of(mode: Stacked, bias: Any) -> Displaced | None:
    return None if bias is None else mode.displacements.of.get(id(bias))


def _member(mode: Stacked, bias: Any, b: Displaced | None, i: int) -> Any:
    return bias if b is None else b.whole(i, mode.displacements.buffers)


def _stack(mode: Stacked, vector: torch.Tensor) -> torch.Tensor | None:
    """A vector as (n or 1, 1, d), whether it depends on the query or not; None if it is no vector."""
    if vector.dim() != 1:
        return None
    if type(vector) is Family:
        return torch.stack(vector.members)[:, None]
    hit = mode.displacements.of.get(id(vector))
    if hit is None:
        return None if is_marked(vector) else vector[None, None]
    return hit.stacked[:, None]


RULES: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    torch.addmm: _addmm,
    torch.mul: _mul,
    torch.Tensor.mul: _mul,
    torch.Tensor.__mul__: _mul,
    torch.Tensor.__rmul__: _mul,
    torch.add: _add,
    torch.Tensor.add: _add,
    torch.Tensor.__add__: _add,
    torch.Tensor.__radd__: _add,
}

NAMED = frozenset({
    "weight", "bias", "eps", "alpha", "beta", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse",
})  # fmt: skip
"""What `RULES` take by name."""


def _relu(x: torch.Tensor, out: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return torch.clamp_min(x, 0.0, out=out)


def _silu(x: torch.Tensor, out: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return torch.ops.aten.silu.out(x, out=out)  # type: ignore[no-any-return]


def _gelu(x: torch.Tensor, out: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    return torch.ops.aten.gelu.out(x, approximate=approximate, out=out)  # type: ignore[no-any-return]


ACTIVATIONS: dict[Any, Callable[..., torch.Tensor]] = {
    F.relu: _relu,
    torch.relu: _relu,
    F.silu: _silu,
    torch._C._nn.silu: _silu,
    F.gelu: _gelu,
}
"""The largest temporaries of a transformer, into leased memory. `F.gelu` is what its module calls too."""


def is_plain(args: Any, kwargs: Any) -> bool:
    """Whether an activation is of one tensor, and leaves that as it is."""
    return len(args) == 1 and not kwargs.get("inplace", False) and kwargs.keys() <= {"inplace", "approximate"}
