"""`Batched` for mixtures of experts: each query's tokens go where that query's router sends them.

transformers' experts classes share one contract: rows of tokens, the experts of each and their weights go in, rows come
out (`use_experts_implementation`). Inside `Batched` such a module is computed here. Tokens of all queries are sorted by
expert, and each expert's matrix is read once for all of them.

A stack of experts (E, …) under a low-rank direction is W_e + sum_r A[r, e] B[r], with the same B for all experts
(`LowRank`). What B gives is therefore made once per token, not once per expert, and added with the weights A[r, e].
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.overrides import _get_current_function_mode_stack

from blackbox_zo.modules._displaced import Displaced, Displacements
from blackbox_zo.modules._forwards import instead
from blackbox_zo.modules._rules import Stacked
from blackbox_zo.modules._stacking import Family, mark

__all__ = ["routed"]

_found: WeakKeyDictionary[torch.nn.Module, list[torch.nn.Module]] = WeakKeyDictionary()


@contextmanager
def routed(mode: Stacked) -> Iterator[None]:
    """Within the context, the model's experts run for all queries of a mode, in the thread and under the mode itself.

    Until the context ends they have a `forward` of their own, which is the class's for everybody else.
    """
    model = mode.displacements.module.model
    if model not in _found:
        _found[model] = [part for part in model.modules() if _is_known(part)]
    mine = [part for part in _found[model] if _can_route(part, mode.displacements)]
    with instead({part: _Forward(part, mode) for part in mine}):
        yield


def _is_known(part: torch.nn.Module) -> bool:
    """Whether a module is one of transformers' experts, with nothing beside what its contract names."""
    flags = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "num_experts", "_apply_gate")
    if not all(hasattr(part, flag) for flag in flags) or "forward" in vars(part) or part.has_post_expert_norm:
        return False
    code = getattr(type(part).forward, "__code__", None)
    if code is None or "experts_interface" not in code.co_freevars:  # a subclass's own forward may do anything
        return False
    up = "gate_up_proj" if part.has_gate else "up_proj"
    names = {up, "down_proj"} | ({f"{up}_bias", "down_proj_bias"} if part.has_bias else set())
    return {name for name, _ in part.named_parameters()} == names and not part._is_expert_parallel


def _can_route(part: torch.nn.Module, displacements: Displacements) -> bool:
    """Whether all of its searched parameters have factors; routing may depend on the query where none is searched."""
    hits = [hit for p in part.parameters() if (hit := displacements.of.get(id(p))) is not None]
    return all(hit.factored for hit in hits)


class _Forward:
    """A module's forward for all queries, where it is called in their pass; else its own.

    Args:
        part: The module.
        mode: The mode of the pass.
    """

    def __init__(self, part: torch.nn.Module, mode: Stacked) -> None:
        self.part, self.mode = part, mode

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Rows (N, hidden), experts (N, K) and weights (N, K) of the stacked batch."""
        mode, part = self.mode, self.part
        own = type(part).forward
        given = args
        if kwargs:
            given = tuple(inspect.signature(own).bind(part, *args, **kwargs).arguments.values())[1:]
        modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        if mode not in modes or len(given) != 3:
            return own(part, *args, **kwargs)
        x, ids, weights = given
        stacked = all(type(t) is not Family and t.dim() == 2 and mode.is_stacked(t) for t in given)
        if not stacked or torch.is_autocast_enabled(x.device.type) or len({len(t) for t in given}) > 1:
            return own(part, *args, **kwargs)
        with torch._C.DisableTorchFunction():
            return mark(self._run(x, ids, weights))

    def _run(self, x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        part: Any = self.part
        self.mode.displacements.touched.update(id(p) for p in part.parameters() if id(p) in self.mode.displacements.of)
        up = "gate_up_proj" if part.has_gate else "up_proj"
        routes = _Routes(self.mode, ids, part.num_experts, part.is_transposed)
        weights = weights.masked_fill(ids >= part.num_experts, 0.0)  # experts that are nobody's
        y = routes.times(x[routes.rows], getattr(part, up), getattr(part, f"{up}_bias", None))
        routes.add_(y, x, getattr(part, up))
        y = part._apply_gate(y) if part.has_gate else part.act_fn(y)
        z = routes.times(y, part.down_proj, getattr(part, "down_proj_bias", None))
        z = routes.by_token(z)
        out = torch.einsum("nk,nkh->nh", weights.to(z.dtype), z)
        routes.add_sum_(out, routes.by_token(y), part.down_proj, weights)
        return out.to(x.dtype)


class _Routes:
    """Where tokens go: N tokens of n queries, to K experts each.

    Args:
        mode: The mode.
        ids: Experts, (N, K).
        experts: How many there are; any other number is no expert.
        transposed: Whether matrices are (in, out) rather than (out, in).

    Attributes:
        rows: The token of each of the N K places, sorted by expert.
    """

    def __init__(self, mode: Stacked, ids: torch.Tensor, experts: int, transposed: bool) -> None:
        self.mode, self.shape, self.transposed = mode, ids.shape, transposed
        self.ids = ids.clamp(0, experts - 1)
        self.order = self.ids.reshape(-1).argsort(stable=True)
        self.rows = self.order // ids.shape[1]
        self.counts = torch.bincount(self.ids.reshape(-1), minlength=experts).tolist()
        self.queries = torch.arange(len(ids), device=ids.device) // (len(ids) // mode.n)
        self.back = torch.empty_like(self.order)
        self.back[self.order] = torch.arange(len(self.order), device=ids.device)

    def by_token(self, y: torch.Tensor) -> torch.Tensor:
        """Places sorted by expert as (N, K, …)."""
        return y[self.back].view(*self.shape, y.shape[-1])

    def times(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`x W_e + bias_e` of places sorted by expert, for the weights as they are and the bias as it is displaced."""
        w = weight.detach() if self.transposed else weight.detach().transpose(1, 2)
        y = torch.empty(len(x), w.shape[2], dtype=x.dtype, device=x.device)
        start = 0
        for e, count in enumerate(self.counts):
            if count:
                torch.mm(x[start : start + count], w[e], out=y[start : start + count])
                start += count
        if bias is not None:
            y += self._bias(bias)
        return y

    def _bias(self, bias: torch.Tensor) -> torch.Tensor:
        """A bias (E, out) of each place, sorted by expert."""
        out, hit = bias.detach()[self.ids], self.mode.displacements.of.get(id(bias))
        if hit is not None:
            into = hit.factor(1, out.dtype)[self._along(out.device)]  # (n, r, out)
            by_query = out.view(self.mode.n, -1, out.shape[-1])
            by_query.baddbmm_(self._far(hit, out).view(self.mode.n, -1, into.shape[1]), into)
        return out.view(-1, out.shape[-1])[self.order]

    def _along(self, device: torch.device) -> torch.Tensor:
        """The direction of each query."""
        return self.mode.displacements.along(device)

    def _far(self, hit: Displaced, like: torch.Tensor) -> torch.Tensor:
        """How far each place goes along each factor, (N, K, r): c_i A[r, e]."""
        left = hit.factor(0, like.dtype)  # (k, r, E)
        along = self._along(like.device)[self.queries]
        signs = left[along[:, None], :, self.ids]
        return signs * hit.far_on(like)[self.queries][:, None, None]

    def _bases(self, hit: Displaced, like: torch.Tensor) -> Iterator[tuple[torch.Tensor, slice]]:
        """B of each direction, (r, in, out), and the tokens of its queries, which lie together."""
        index, each = self.mode.displacements.queries.index.tolist(), self.shape[0] // self.mode.n
        into, start = hit.factor(1, like.dtype), 0
        for i in range(1, len(index) + 1):
            if i == len(index) or index[i] != index[start]:
                b = into[index[start]].view(-1, *hit.block.shape[1:])
                yield b if self.transposed else b.transpose(1, 2), slice(start * each, i * each)
                start = i

    def add_(self, y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> None:
        """Add what the displacement of a weight gives for tokens x (N, in) to places y, sorted by expert."""
        hit = self.mode.displacements.of.get(id(weight))
        if hit is None:
            return
        far = self._far(hit, x)
        given = torch.empty(*self.shape, y.shape[1], dtype=y.dtype, device=y.device)
        for b, tokens in self._bases(hit, x):
            torch.bmm(far[tokens], torch.matmul(x[tokens], b).transpose(0, 1), out=given[tokens])
        y += given.view(-1, y.shape[1])[self.order]

    def add_sum_(self, out: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, weights: torch.Tensor) -> None:
        """Add what the displacement of a weight gives for places y (N, K, in), summed by their weights, to `out`."""
        hit = self.mode.displacements.of.get(id(weight))
        if hit is None:
            return
        far = self._far(hit, y) * weights.to(y.dtype)[..., None]
        summed = torch.bmm(far.transpose(1, 2), y)  # (N, r, in)
        for b, tokens in self._bases(hit, y):
            out[tokens].addmm_(summed[tokens].flatten(1), b.reshape(-1, b.shape[2]))
