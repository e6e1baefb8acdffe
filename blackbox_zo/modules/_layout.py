"""Which operations leave the stacked batch along the first axis, so that its rows are known and not guessed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch

__all__ = ["by_rows", "keeps_batch_first", "picks_by_contents", "row_numbers_of"]

_ELEMENTWISE = frozenset(
    """
    add add_ sub sub_ mul mul_ div div_ true_divide floor_divide remainder fmod pow rsub lerp addcmul addcdiv
    copy_ fill_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__
    __rtruediv__ __itruediv__ __div__ __rdiv__ __idiv__ __floordiv__ __rfloordiv__ __mod__ __neg__ __pow__
    __rpow__ __and__ __or__ __xor__ __rand__ __ror__ __invert__ __abs__ __eq__ __ne__ __lt__ __le__ __gt__
    __ge__ eq ne lt le gt ge neg exp log log1p expm1 sqrt rsqrt square abs sin cos tan tanh sigmoid relu relu_
    relu6 gelu silu softplus mish elu leaky_relu hardswish hardsigmoid hardtanh selu celu logsigmoid softsign
    reciprocal sign clamp clamp_ clamp_min clamp_max clip minimum maximum where masked_fill masked_fill_
    logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not isfinite isnan isinf
    nan_to_num to float double half bfloat16 long int bool type type_as contiguous clone detach dropout round
    floor ceil erf zeros_like ones_like empty_like full_like rand_like requires_grad_ tril triu lgamma xlogy
    sqrt_ exp_ mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy_with_logits binary_cross_entropy
    kl_div
    """.split()
)
"""Elementwise with broadcasting. The batch stays first where every stacked argument has as many axes as the result."""

_OF_THE_FIRST = frozenset(
    """
    linear embedding layer_norm rms_norm group_norm batch_norm instance_norm scaled_dot_product_attention conv1d
    conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d max_pool1d max_pool2d avg_pool1d avg_pool2d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d interpolate pad one_hot cross_entropy nll_loss
    new_zeros new_ones new_empty new_full
    """.split()
)
"""Functions of the first argument's rows, one by one."""

_ALONG = {  # where the axis is among the arguments
    **dict.fromkeys("""
    sum mean prod softmax log_softmax logsumexp max min argmax argmin amax amin any all cumsum cumprod std var
    unbind select narrow index_select gather take_along_dim scatter scatter_ index_add flip unflatten glu sort
    argsort squeeze index_fill cummax
    """.split(), 1),
    **dict.fromkeys("""
    norm topk roll repeat_interleave chunk split tensor_split normalize diff cosine_similarity
    """.split(), 2),
}  # fmt: skip
_ALONG_BY_DEFAULT = {
    "sort": -1, "argsort": -1, "topk": -1, "glu": -1, "normalize": 1, "diff": -1, "cosine_similarity": 1, "chunk": 0,
    "split": 0, "tensor_split": 0, "unbind": 0,
}  # fmt: skip
_RESHAPES = frozenset({"view", "reshape", "flatten", "view_as", "reshape_as"})
_SAME_ROWS = frozenset({"expand", "expand_as", "repeat", "tile", "broadcast_to"})
_PROPERTIES = frozenset({"data", "real", "imag", "mT", "mH", "grad"})


def keeps_batch_first(func: Any, args: Any, kwargs: Any, stacked: list[torch.Tensor], out: Any, n: int) -> bool:
    """Whether the result's first axis is certainly that of the stacked arguments.

    Args:
        func: The operation, as `__torch_function__` sees it.
        args: Its arguments.
        kwargs: Its arguments by name.
        stacked: Those of its arguments whose first axis is certainly the stacked batch.
        out: Its result.
        n: Number of queries.

    Returns:
        False where the operation is unknown, too.
    """
    first = out if isinstance(out, torch.Tensor) else out[0] if isinstance(out, tuple | list) and out else None
    if not isinstance(first, torch.Tensor) or not first.dim():
        return False
    rule = _of.get(func)
    if rule is None:
        rule = _of[func] = _rule_of(func)
    return rule(args, kwargs, stacked, first, n)


_Rule: TypeAlias = Callable[[Any, Any, list[torch.Tensor], torch.Tensor, int], bool]
_of: dict[Any, _Rule] = {}
"""The rule of each operation that has been met."""


def by_rows(func: Any) -> Any:
    """Note of an operation of ours that it treats its first argument's rows one by one."""
    _of[func] = _of_the_first
    return func


def _rule_of(func: Any) -> _Rule:
    name = getattr(func, "__name__", "")
    if name in _ELEMENTWISE:
        return _elementwise
    if name in _OF_THE_FIRST:
        return _of_the_first
    if name in _RESHAPES:
        return _reshape
    if name in _RULES:
        return _RULES[name]
    if name in _ALONG:
        return partial(_along, _ALONG[name], _ALONG_BY_DEFAULT.get(name))
    if name in _SAME_ROWS:
        return _same_rows
    if name == "__get__" and getattr(getattr(func, "__self__", None), "__name__", "") in _PROPERTIES:
        return _property
    return _unknown


def _unknown(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return False


def _elementwise(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    dim = out.dim()
    for t in stacked:  # a loop, as this is asked hundreds of times in a pass
        if t.dim() != dim:
            return False
    return True


def _is_first(args: Any, stacked: list[torch.Tensor]) -> bool:
    x = args[0] if args else None
    return any([t is x for t in stacked])


def _of_the_first(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return _is_first(args, stacked) and out.shape[0] == stacked[0].shape[0]


def _reshape(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return _is_first(args, stacked) and out.shape[0] % n == 0


def _along(
    place: int, default: int | None, args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int
) -> bool:
    if not _is_first(args, stacked):
        return False
    axes, dim = _axes(args, kwargs, place, default), args[0].dim()
    return axes is not None and all([axis % dim for axis in axes])


def _same_rows(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return _is_first(args, stacked) and out.dim() == args[0].dim() and out.shape[0] == args[0].shape[0]


def _property(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return _is_first(args, stacked) and args[0].dim() > 2


def picks_by_contents(func: Any, args: Any) -> bool:
    """Whether an operation that does not keep the batch first may order rows by their contents, anew in each pass."""
    name = getattr(func, "__name__", "")
    if name in ("__getitem__", "__setitem__"):
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(part, torch.Tensor | list) for part in index)
    return name in _BY_CONTENTS


_BY_CONTENTS = frozenset(
    """
    index_select gather take take_along_dim scatter scatter_ scatter_add scatter_add_ index_add index_add_
    index_put index_put_ index_copy index_copy_ masked_select masked_scatter masked_scatter_ sort argsort topk nonzero
    unique where repeat_interleave
    """.split()
)


def row_numbers_of(func: Any, args: Any, kwargs: Any, out: Any, known: bool) -> bool:
    """Whether a tensor that does not depend on the batch holds the numbers 0, 1, … along its first axis.

    An index of this kind leaves every row where it is.

    Args:
        func: The operation that made it.
        args: Its arguments.
        kwargs: Its arguments by name.
        out: Its result.
        known: Whether the first argument is such a tensor.
    """
    name = getattr(func, "__name__", "")
    if not isinstance(out, torch.Tensor) or not out.dim() or out.is_floating_point():
        return False
    if name == "arange":
        given = [*args, *(kwargs[k] for k in ("start", "end", "step") if k in kwargs)]
        return len(given) == 1 or (len(given) == 2 and given[0] == 0 and "step" not in kwargs)
    if not known:
        return False
    same = out.shape[0] == out.numel() == args[0].numel()
    return same and name in ("__getitem__", "view", "reshape", "unsqueeze", "to", "long", "clone", "contiguous")


def _axes(args: Any, kwargs: Any, place: int, default: int | None) -> tuple[int, ...] | None:
    """The axes that an operation is told to work along; None if there are none."""
    found = args[place] if len(args) > place else None
    for name in ("dim", "axis", "dims"):
        found = kwargs.get(name, found)
    found = default if found is None else found
    if isinstance(found, bool) or not isinstance(found, int | tuple | list):
        return None
    axes = (found,) if isinstance(found, int) else tuple(found)
    return axes or None


def _transpose(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    x = args[0]
    given = [*args[1:], *kwargs.values()]
    return len(given) == 2 and all(isinstance(a, int) and a % x.dim() for a in given)


def _permute(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    given = kwargs.get("dims", args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:])
    return bool(given) and given[0] % len(given) == 0


def _matmul(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    if len(args) != 2:
        return False
    a, b = args
    of_a, of_b = any(t is a for t in stacked), any(t is b for t in stacked)
    if of_a and of_b:
        return bool(a.dim() == b.dim() > 2)
    return bool(a.dim() >= max(2, b.dim()) if of_a else b.dim() > 2 and b.dim() >= a.dim())


def _addmm(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return len(args) == 3 and any(t is args[1] for t in stacked) and not any(t is args[2] for t in stacked)


def _baddbmm(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return all(t.dim() == 3 for t in stacked)


def _unsqueeze(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    axes = _axes(args, kwargs, 1, None)
    return axes is not None and bool(axes[0] % out.dim())


def _cat(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    axes = _axes(args, kwargs, 1, 0)
    return axes is not None and all(t.dim() == out.dim() and axes[0] % t.dim() for t in stacked)


def _stack(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    axes = _axes(args, kwargs, 1, 0)
    return axes is not None and bool(axes[0] % out.dim())


def _getitem(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    head = index[0] if index else Ellipsis
    if isinstance(head, slice):
        if head != slice(None):
            return False
        tensors = [i for i in index if isinstance(i, torch.Tensor | list)]
        return len(tensors) < 2 or _adjacent(index)  # apart from each other, their axes would come first
    if head is Ellipsis:
        return int(args[0].dim()) > len([i for i in index if i is not None and i is not Ellipsis])
    return isinstance(head, torch.Tensor) and hasattr(head, "_zo_row_numbers") and out.shape[0] == args[0].shape[0]


def _adjacent(index: tuple[Any, ...]) -> bool:
    places = [i for i, part in enumerate(index) if isinstance(part, torch.Tensor | list)]
    return places == list(range(places[0], places[0] + len(places)))


def _written(args: Any, kwargs: Any, stacked: list[torch.Tensor], out: torch.Tensor, n: int) -> bool:
    return any(t is args[0] for t in stacked)  # a tensor that was not stacked may take rows anywhere


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "transpose_"), _transpose),
    **dict.fromkeys(("permute",), _permute),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), _matmul),
    "addmm": _addmm,
    "baddbmm": _baddbmm,
    "unsqueeze": _unsqueeze,
    "stack": _stack,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "__getitem__": _getitem,
    "__setitem__": _written,
}
