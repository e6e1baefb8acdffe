"""Which tensors of a checkpoint a model's parameters are made of; transformers knows how older ones were called."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Piece", "Pieces", "matched"]


class Piece(NamedTuple):
    """A tensor of a checkpoint that is a run of elements of a parameter.

    Attributes:
        name: In the checkpoint.
        first: Its first element in the parameter.
        size: Its number of elements.
    """

    name: str
    first: int
    size: int


Pieces: TypeAlias = Mapping[str, Sequence[Piece]]
"""What each tensor of a model is made of, by its name."""


def matched(
    model: Any, wanted: Mapping[str, tuple[int, ...]], known: Collection[str], stored: Mapping[str, tuple[int, ...]]
) -> Pieces:
    """The pieces of each tensor of a model of transformers, in order.

    Args:
        model: The model.
        wanted: Shapes of its tensors by name.
        known: Further names of tensors of the model, which may be stored and are not read.
        stored: Shapes of the tensors of the checkpoint by name.

    Raises:
        ValueError: One is missing or of another shape, there are others, or they are stored in a form that cannot be
            read piece by piece.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    given = get_model_conversion_mapping(model)
    renamings = [c for c in given if isinstance(c, WeightRenaming)]
    converters = [c for c in given if isinstance(c, WeightConverter)]
    state, found, extra = model.state_dict(), dict[str, list[tuple[tuple[int, int], str]]](), []
    for name in stored:
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        if pattern is not None and target not in wanted and name in wanted:
            target, pattern = name, None  # already in the new form
        if target not in wanted:
            if target not in known and name not in known:
                extra.append(name)
            continue
        place = (0, 0) if pattern is None else _place(converters, pattern, name, target)
        found.setdefault(target, []).append((place, name))
    out = {name: _pieces(name, shape, sorted(found.get(name, [])), stored) for name, shape in wanted.items()}
    if extra:
        some = ", ".join(map(repr, extra[:3])) + (f" and {len(extra) - 3} more" if len(extra) > 3 else "")
        raise ValueError(f"The checkpoint has {some}, which {type(model).__name__} does not have.")
    return out


def _place(converters: list[Any], pattern: str, name: str, target: str) -> tuple[int, int]:
    """Expert and part of it, where matrices of experts are stacked, and two of each joined."""
    converter = next(c for c in converters if pattern in c.source_patterns)
    kinds = [(type(op).__name__, getattr(op, "dim", None)) for op in converter.operations]
    number = re.search(r"\.(\d+)\.(?!.*\.\d+\.)", name)
    if kinds not in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)]) or not number:
        said = " and ".join(kind for kind, _ in kinds)
        raise ValueError(f"{target!r} is stored in another form ({name!r}, {said}), which cannot be streamed.")
    return int(number[1]), list(converter.source_patterns).index(pattern)


def _pieces(
    name: str, shape: tuple[int, ...], parts: list[tuple[tuple[int, int], str]], stored: Mapping[str, tuple[int, ...]]
) -> list[Piece]:
    if not parts:
        close = [n for n in stored if n.split(".")[-2:] == name.split(".")[-2:]][:2]
        hint = f" It has {', '.join(map(repr, close))}." if close else ""
        raise ValueError(f"The checkpoint lacks {name!r}, which the model has.{hint}")
    pieces, end = [], 0
    for _, part in parts:
        pieces.append(Piece(part, end, math.prod(stored[part])))
        end += pieces[-1].size
    whole = [part for part in parts if stored[part[1]] != shape]
    if end != math.prod(shape) or (len(parts) == 1 and whole):
        said = list(stored[parts[0][1]]) if len(parts) == 1 else f"{end:,} elements in {len(parts)} parts"
        raise ValueError(f"{name!r} is {said} in the checkpoint, but {list(shape)} by the model's configuration.")
    return pieces
