"""Batched: one run of a model answers all queries of a step.

The batch is stacked n times, and each operation that uses a searched parameter treats each query's rows as that query
displaces it. A linear map under a low-rank direction reads its weight once for all queries:
`y = x W' + (x B_i) c_i A_i'`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from blackbox_zo._typing import override
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._experts import routed
from blackbox_zo.modules._layout import keeps_batch_first, picks_by_contents, row_numbers_of
from blackbox_zo.modules._rules import ACTIVATIONS, NAMED, RULES, is_plain
from blackbox_zo.modules._scratch import leaves_of, reads_only_metadata, refuse_noise, replaced
from blackbox_zo.modules._stacking import (
    CERTAIN,
    GUESSED,
    PICKED,
    Family,
    Place,
    Unstackable,
    cat,
    is_marked,
    joined,
    leased,
    mark,
    mark_all,
    take_rows,
)

__all__ = ["Batched"]

COLUMNS = 32
"""Columns of a thin product: one of few directions costs as much as one of a single one."""

_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


class Batched(TorchFunctionMode):
    """Inside it, rows of the batch that belong to query i see the parameters as query i displaces them.

    Give the model inputs that went through `stack`. What it makes of them is followed from operation to operation: a
    tensor made from a stacked one is stacked along its first axis. Where that does not hold (the model moves the batch
    to another axis, or picks rows from it), `Unstackable` is raised.

    Args:
        displacements: The step's.
        rows: How many examples each query sees.

    Attributes:
        guessed: Whether a size decided which rows belong to which query: an operation may have moved the batch to
            another axis, or the model made a tensor (a mask, say) with as many rows. The answer is then to be compared
            with that of `Scratch`.
    """

    def __init__(self, displacements: Displacements, rows: int) -> None:
        super().__init__()
        self.displacements, self.rows, self.n = displacements, rows, displacements.n
        self.guessed = False
        self._of = displacements.of
        self._runs = _runs(displacements.queries.index.tolist())
        self._groups: dict[int, list[tuple[list[int], int, int]]] = {}

    def stack(self, batch: Any, which: torch.Tensor, size: int, shared: Collection[Place] = ()) -> Any:
        """Rows of a batch for each query in turn, as inputs of the model.

        Args:
            batch: Tensors and lists in dicts, tuples and lists.
            which: Row numbers, those of query 0 first, shape (n * rows,).
            size: The number of examples of the batch; tensors and lists with as many entries are taken from.
            shared: Tensors and lists that are not.
        """
        return take_rows(batch, which, size, mark, shared)

    def groups(self, rank: int) -> list[tuple[list[int], int, int]]:
        """(directions, start, stop) for runs of queries, as many along each direction, of at most `COLUMNS` columns."""
        if rank not in self._groups:
            out: list[tuple[list[int], int, int]] = []
            for j, start, stop in self._runs:
                if out and (len(out[-1][0]) + 1) * rank <= COLUMNS:
                    js, first, last = out[-1]
                    if (last - first) == len(js) * (stop - start):
                        out[-1] = [*js, j], first, stop
                        continue
                out.append(([j], start, stop))
            self._groups[rank] = out
        return self._groups[rank]

    @override
    def __enter__(self) -> Batched:
        """Mixtures of experts run for all queries at once, too."""
        self._experts = routed(self)
        self._experts.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    @override
    def __exit__(self, *error: Any) -> None:
        """Leave the model as it was."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._experts.__exit__(None, None, None)

    # ------------------------------------------------------------------------------------------ every operation

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation for all queries."""
        kwargs = kwargs or {}
        if reads_only_metadata(func):
            return func(*args, **kwargs)
        of, displaced, certain, stacked, others = self._of, False, CERTAIN, [], []
        for t in leaves_of(args, kwargs):
            if id(t) in of:
                displaced = True
                self.displacements.touched.add(id(t))
            elif type(t) is Family:
                displaced = True
            elif (known := getattr(t, "_zo_stacked", None)) is not None:
                stacked.append(t)
                if known < certain:
                    certain = known
            else:
                others.append(t)
        if not displaced:
            if stacked and func in ACTIVATIONS and is_plain(args, kwargs) and (x := args[0]).is_contiguous():
                return mark(ACTIVATIONS[func](x, leased(x.numel(), 1, x).view(x.shape), **kwargs), certain)
            refuse_noise(func, args, kwargs)
            out = func(*args, **kwargs)
            if stacked:
                into = args[0] if out is None and args else out  # `x[…] = y` gives nothing back
                if not keeps_batch_first(func, args, kwargs, stacked, into, self.n):
                    certain = min(certain, PICKED if picks_by_contents(func, args) else GUESSED)
                mark_all(into, certain)
            else:
                self._note_made(func, args, kwargs, others, out)
            return out
        rule = RULES.get(func)
        if rule is not None and kwargs.keys() <= NAMED:
            out = rule(self, *args, **kwargs)
            if out is not NotImplemented:
                if type(out) is Family:
                    self._note_made(func, args, kwargs, others, out)
                return out
        refuse_noise(func, args, kwargs)
        return self._each(func, args, kwargs)

    def is_stacked(self, t: torch.Tensor) -> bool:
        """Whether a tensor's first axis is the stacked batch (or that axis with others merged into it)."""
        if not is_marked(t) or not t.dim():
            return False
        certain: int = t._zo_stacked  # type: ignore[attr-defined]
        if certain == PICKED:
            raise Unstackable(
                f"Rows of the batch, picked by their contents, meet a searched parameter (shape {tuple(t.shape)}): "
                "which query each belongs to is not known. Use sweep='scratch' for this model."
            )
        self.guessed = self.guessed or certain < CERTAIN
        if t.shape[0] % (self.n * self.rows) or not t.shape[0]:
            raise Unstackable(
                f"A value of shape {tuple(t.shape)} made from the batch meets a searched parameter, but its first axis "
                f"is not the batch of {self.n} x {self.rows}. Use sweep='scratch' for this model."
            )
        return True

    def _each(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Any operation, once per query on its rows and its values."""
        stacked = [t for t in leaves_of(args, kwargs) if is_marked(t) and self.is_stacked(t)]
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
        if stacked:
            out = joined(outs, cat)
            members = [t for t in leaves_of(args, kwargs) if is_marked(t)]
            if not keeps_batch_first(func, args, kwargs, members, out, self.n):
                mark_all(out, PICKED if picks_by_contents(func, args) else GUESSED)
            return out
        out = joined(outs, Family.of)
        others = [t for t in leaves_of(args, kwargs) if id(t) not in self.displacements.of]
        self._note_made(func, args, kwargs, others, out)
        return out

    def _has_the_batch(self, t: torch.Tensor, stacked: list[torch.Tensor]) -> bool:
        """Whether a value is to be cut by query: stacked, or made by the model in the stacked batch's shape.

        A parameter, a buffer or a constant is never cut, whatever its size. What the model makes is cut by a guess.
        """
        if any(t is s for s in stacked):
            return True
        if not stacked or t.dim() != stacked[0].dim() or t.shape[0] != self.n * self.rows:
            return False
        if not hasattr(t, "_zo_made"):
            return False
        self.guessed = True
        return True

    def _note_made(self, func: Any, args: Any, kwargs: Any, others: list[torch.Tensor], out: Any) -> None:
        """Note which tensors have as many rows as the batch by a number that the model gave, not by their contents."""
        if isinstance(out, tuple | list):
            for t in out:
                self._note_made(func, args, kwargs, others, t)
            return
        if not isinstance(out, torch.Tensor) or not out.dim() or out.shape[0] != self.n * self.rows:
            return
        if any(t.dim() and t.shape[0] == out.shape[0] and not hasattr(t, "_zo_made") for t in others):
            return
        out._zo_made = True  # type: ignore[attr-defined]
        if row_numbers_of(func, args, kwargs, out, bool(args) and hasattr(args[0], "_zo_row_numbers")):
            out._zo_row_numbers = True  # type: ignore[attr-defined]

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


def _runs(index: list[int]) -> list[tuple[int, int, int]]:
    """(direction, start, stop) for each run of queries along one direction."""
    starts = [i for i in range(len(index)) if i == 0 or index[i] != index[i - 1]]
    return [(index[a], a, b) for a, b in zip(starts, [*starts[1:], len(index)], strict=True)]
