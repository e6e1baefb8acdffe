"""What each example of a batch owns: found by running the loss on rearranged batches, not by a coincidence of size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from blackbox_zo._typing import Floats, override
from blackbox_zo.modules._devices import is_coarse
from blackbox_zo.modules._scratch import refuse_noise
from blackbox_zo.modules._stacking import Place, take_rows
from oracles.llm._passes import Passes, is_out_of_memory
from oracles.llm._per_example import per_example

__all__ = ["Owned", "Ownership"]

_BY_EXAMPLE = frozenset({
    "input_ids", "inputs_embeds", "decoder_input_ids", "labels", "label", "example_id", "reference", "token_type_ids",
    "attention_mask", "decoder_attention_mask",
})  # fmt: skip
"""Names that language models and this library give to what every example has."""

_OTHER_SIZES = frozenset({"attention_mask", "decoder_attention_mask", "token_type_ids"})
"""Of these, what may also be the same for all examples, with 1 as its first axis."""


class Owned(NamedTuple):
    """Who owns what in a batch.

    Attributes:
        size: Number of examples.
        shared: Where the tensors and lists are that all examples share, although their sizes would allow a row each.
        mixes: Why the rows cannot be evaluated apart from each other; empty if they can.
    """

    size: int
    shared: frozenset[Place] = frozenset()
    mixes: str = ""


class Ownership:
    """Finds which tensors and lists of a batch hold a row for each example, and whether a loss mixes rows.

    Tensors by the usual names (`input_ids`, `labels`, …) and those in `examples` hold a row for each example. Any other
    whose first axis has the size of the batch might be shared, such as a weight for each class. The loss decides: it
    follows a reordered batch only if what is reordered belongs to the examples. Then the loss of some rows alone is
    compared with that of the same rows in the batch. Both are repeated for each new size, type and mode of the model.

    Args:
        model: The model.
        loss: A function of (model, batch).
        passes: Limits the examples in a pass.
        examples: Names of what holds a row for each example; all else is then shared. None finds out.
    """

    def __init__(
        self, model: torch.nn.Module, loss: Callable[..., Any], passes: Passes, examples: Sequence[str] | None = None
    ) -> None:
        self.model, self.loss, self.passes, self.examples = model, loss, passes, examples
        self._sizes: dict[Any, int] = {}
        self._found: dict[Any, Owned] = {}
        self._undecided: dict[Any, int] = {}
        self._shared: set[Place] = set()

    def of(self, batch: Any) -> Owned:
        """The ownership in a batch.

        Raises:
            TypeError: The batch holds nothing by example, or the loss has a wrong shape.
            ValueError: Two tensors that hold a row for each example have different lengths, or the loss cannot tell
                whether a tensor is shared.
        """
        leaves = list(_leaves(batch))
        shapes = tuple((p, len(v), getattr(v, "dtype", None)) for p, v in leaves)
        size = self._sizes.get(shapes)
        if size is None:
            size = self._sizes[shapes] = self._size(leaves, batch)
        self._shared |= {place for place, value in leaves if len(value) != size}
        key = size, shapes, self._mode()
        known, again = self._found.get(key), self._undecided.get(key)
        if (
            again is not None
        ):  # where the order of a tensor made no difference so far, it may later: at steps 2, 4, 8, …
            self._undecided[key] = again + 1
        if known is None or (again is not None and not again & (again - 1)):
            with torch.no_grad(), _Quiet(), _noting(leaves):
                known, final, undecided = self._find(batch, leaves, size)
            if final:
                self._found[key] = known
            if not undecided:
                self._undecided.pop(key, None)
            elif again is None:
                self._undecided[key] = 2
        return known

    def _mode(self) -> tuple[Any, ...]:
        """The model's type, and which of its parts are in training mode."""
        p = next(self.model.parameters(), None)
        return None if p is None else p.dtype, tuple(i for i, m in enumerate(self.model.modules()) if m.training)

    def _size(self, leaves: list[tuple[Place, Any]], batch: Any) -> int:
        by_name = {place[-1]: value for place, value in leaves if len(place) == 1}
        if self.examples is not None:
            absent = [name for name in self.examples if name not in by_name]
            if absent:
                raise ValueError(
                    f"`LossOracle(examples=...)` names {absent[0]!r}; the batch has {', '.join(map(repr, by_name))}."
                )
            mine = {name: by_name[name] for name in self.examples}
        else:
            mine = {name: v for name, v in by_name.items() if name in _BY_EXAMPLE}
            mine = {n: v for n, v in mine.items() if len(v) != 1 or n not in _OTHER_SIZES} or mine
        if not leaves:
            raise TypeError(f"A batch must hold a tensor whose first axis is the examples, got {batch!r:.80}.")
        lengths = {name: len(value) for name, value in mine.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise ValueError(f"The batch's tensors disagree about the number of examples: {said}.")
        if lengths:
            return next(iter(lengths.values()))
        size = len(leaves[0][1])
        others = {len(value) for _, value in leaves}
        if len(others) > 1:  # a loss with a value for each example knows how many there are
            with torch.no_grad(), _Quiet(), _noting(leaves):
                values = self._run(batch)
            size = len(values) if values.ndim == 1 and len(values) in others else size
        return size

    # ------------------------------------------------------------------------------------------------- by the loss

    def _find(self, batch: Any, leaves: list[tuple[Place, Any]], size: int) -> tuple[Owned, bool, bool]:
        """The ownership, whether it is final (not if the loss is NaN), and whether a tensor made no difference."""
        undecided = False
        open_ = self._open(leaves, size)
        if self.examples is not None:
            mine = {(name,) for name in self.examples}
            shared = frozenset(p for p, v in leaves if p not in mine and len(v) == size)
        else:
            shared = frozenset(p for p in self._shared if any(p == q and len(v) == size for q, v in leaves))
        most = min(self.passes.limit or size, size)
        try:
            if most < size:
                open_ = [place for place in open_ if self._is_ambiguous(batch, place, size, shared, most)]
            if open_ and size > 1:
                found = self._reordered(batch, open_, size, shared)
                if found is None:
                    return Owned(size, shared), False, False
                shared, mixes, undecided = found
                if mixes:
                    return Owned(size, shared, mixes), True, False
        except Exception as error:
            if is_out_of_memory(error) and open_:
                error.add_note(
                    f"The whole batch was evaluated to find out whether {_named(open_[0])} holds a row for each "
                    "example. Say so with `LossOracle(examples=[…])`, the names of all that do."
                )
            raise
        while True:
            try:
                mixes, final = self._apart(batch, size, shared, most)
            except Exception as error:
                if not is_out_of_memory(error) or most < 2:
                    raise
                most //= 2
            else:
                return Owned(size, shared, mixes), final, undecided

    def _open(self, leaves: list[tuple[Place, Any]], size: int) -> list[Place]:
        """Where the loss has to decide."""
        if self.examples is not None:
            return []
        rest = [p for p, v in leaves if len(v) == size and p not in self._shared and p[-1:] not in _KNOWN]
        return rest if len(rest) < len([p for p, v in leaves if len(v) == size]) or len(rest) > 1 else []

    def _is_ambiguous(self, batch: Any, place: Place, size: int, shared: frozenset[Place], limit: int) -> bool:
        """Whether a few rows can also be evaluated with this tensor as it is; if not, it has a row for each."""
        rows = torch.arange(size - limit, size)
        try:
            values = self._run(batch, rows, size, shared | {place})
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        return not values.ndim or len(values) in (1, len(rows))

    def _reordered(
        self, batch: Any, open_: list[Place], size: int, shared: frozenset[Place]
    ) -> tuple[frozenset[Place], str, bool] | None:
        """The ownership by which the loss follows a reordered batch; None where the loss is not finite.

        Beside what is shared and why rows are mixed, it says whether a tensor made no difference.
        """
        want = self._run(batch)
        if not np.isfinite(want).all():
            return None
        order = torch.arange(size - 1, -1, -1)

        def follows(whole: frozenset[Place]) -> bool:
            try:
                got = self._run(batch, order, size, whole)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                return False
            return got.shape == want.shape and self._same(got, want[::-1] if want.ndim else want)

        tries = [shared, *(shared | {p} for p in open_), shared | set(open_)]
        fits = next((whole for whole in tries if follows(whole)), None)
        if fits is None:
            names = ", ".join(_named(p) for p in open_)
            return shared, (
                "The loss does not follow the examples when they are reordered: it depends on other rows of the batch, "
                f"or it is not clear which of {names} hold a row for each example (say so with `examples=[…]`)."
            ), False  # fmt: skip
        if fits != shared:
            return fits, "", False
        idle = [p for p in open_ if follows(fits | {p})]  # in any order: the rows are equal, or the loss ignores them
        some = max(1, size // 2)
        return fits | {p for p in idle if self._is_ambiguous(batch, p, size, fits, some)}, "", bool(idle)

    def _apart(self, batch: Any, size: int, shared: frozenset[Place], most: int) -> tuple[str, bool]:
        """Why rows cannot be evaluated apart from each other, and whether that could be found out."""
        if most < 2:
            return "", True
        some = None if most == size else torch.arange(most)
        want = self._run(batch, some, size, shared)
        half = (most + 1) // 2
        first = self._run(batch, torch.arange(half - 1, -1, -1), size, shared)
        if want.ndim:
            for values, count in ((want, most), (first, half)):
                per_example(torch.from_numpy(values), count, mean_too=True)
            pairs = [(first[::-1], want[:half])] if first.ndim else []
        else:
            if most < size:
                want, half = self._run(batch), most
            parts = [torch.arange(a, min(a + half, size)) for a in range(0, size if most < size else most, half)]
            means = [self._run(batch, rows, size, shared) * len(rows) for rows in parts]
            pairs = [(np.asarray(sum(means) / sum(map(len, parts))), want)]
        if not all(np.isfinite(a).all() and np.isfinite(b).all() for a, b in pairs):
            return "", False
        for got, expected in pairs:
            if not self._same(got, expected):
                away = float(np.abs(got - expected).max())
                if want.ndim:
                    return (
                        f"The loss of an example depends on other rows of the batch: that of {half} rows alone differs "
                        f"by {away:.1e} from theirs among {most}."
                    ), True
                return (
                    f"The loss of the batch is not the mean over its rows: it differs by {away:.1e} from the mean of "
                    "its parts."
                ), True
        return "", True

    def _same(self, got: Floats, want: Floats) -> bool:
        p = next(self.model.parameters(), None)
        rtol = 1e-4 if p is None or not is_coarse(p) else 3e-2
        if p is not None and p.dtype is torch.float64:
            rtol = 1e-9
        return bool(np.abs(got - want).max() <= rtol * np.abs(want).max() + 1e-12)

    def _run(
        self, batch: Any, rows: torch.Tensor | None = None, size: int = 0, shared: frozenset[Place] = frozenset()
    ) -> Floats:
        """The loss of some rows in fp64, a value for each or one for all."""
        taken = batch if rows is None else take_rows(batch, rows, size, lambda t: t, shared)
        values = self.loss(self.model, taken)
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"`loss(model, batch)` must return a tensor with one value per example, got {values!r:.60}."
            )
        return np.asarray(values.detach().cpu().double().numpy())


_KNOWN = {(name,) for name in _BY_EXAMPLE}


class _Quiet(TorchFunctionMode):
    """Refuses dropout, which would make any two runs differ."""

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        refuse_noise(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


@contextmanager
def _noting(leaves: list[tuple[Place, Any]]) -> Iterator[None]:
    """Within the context, errors have a note if the tensors of the batch have different lengths."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        lengths = {_named(p): len(v) for p, v in leaves}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            error.add_note(f"The batch's tensors have different lengths: {said}.")
        raise


def _named(place: Place) -> str:
    return repr(place[0]) if len(place) == 1 else "batch" + "".join(f"[{key!r}]" for key in place)


def _leaves(batch: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Tensors with axes and lists of anything else, with their places as `take_rows` has them."""
    inner = getattr(batch, "data", None)
    if isinstance(batch, torch.Tensor):
        if batch.dim():
            yield place, batch
    elif isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(inner, dict):  # transformers' BatchEncoding
        for key, value in inner.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(batch, list) and not any(isinstance(v, torch.Tensor) for v in batch):
        if batch:
            yield place, batch
    elif isinstance(batch, tuple | list):
        for i, value in enumerate(batch):
            yield from _leaves(value, (*place, i))
