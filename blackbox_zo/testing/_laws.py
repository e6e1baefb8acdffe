"""Shared by all checkers: how a violated law is reported, and how bits are compared."""

from __future__ import annotations

import io
import json
from collections.abc import Hashable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import numpy as np

from blackbox_zo._describe import describe
from blackbox_zo._state import pack, unpack
from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Values
from blackbox_zo.steps import Queries

__all__ = [
    "bits",
    "check_configuration",
    "check_state",
    "close",
    "copied",
    "require",
    "same",
    "saved_and_loaded",
    "waves",
]


def require(law: bool | np.bool_, sentence: str) -> None:
    """Raise `AssertionError(sentence)` unless `law` holds; even under `python -O`."""
    if not law:
        raise AssertionError(sentence)


def bits(thing: Any) -> Hashable:
    """Arrays and numbers, or (nested) tuples of them, in a form equal if and only if types, shapes and bits are."""
    if isinstance(thing, tuple):
        return tuple(bits(part) for part in thing)
    array = np.asarray(thing)
    return array.dtype.str, array.shape, array.tobytes()


def same(a: Any, b: Any) -> bool:
    """Whether two states, arrays or numbers agree to the bit."""
    return bits(a) == bits(b)


def close(a: Floats, b: Floats, scale: float = 1.0, tolerance: float = 1e-10) -> bool:
    """Whether two arrays agree up to rounding errors of numbers of size `scale`."""
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance * scale))


def copied(state: Any) -> Any:
    """A deep copy of a state."""
    return unpack("state", state, pack("state", state))


def saved_and_loaded(flat: dict[str, Any]) -> dict[str, Any]:
    """A flat dictionary after `numpy.savez` and `numpy.load`, without pickle."""
    file = io.BytesIO()
    np.savez(file, **flat)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        return dict(loaded)


def check_state(state: Any, owner: str, path: str = "state") -> None:
    """A state consists of numbers, numeric arrays, and tuples of them, and survives a file."""
    if isinstance(state, tuple):
        for name, part in zip(getattr(state, "_fields", range(len(state))), state, strict=True):
            check_state(part, owner, f"{path}.{name}")
        return
    numeric = isinstance(state, bool | int | float | np.ndarray | np.generic) and np.asarray(state).dtype.kind in "fiub"
    require(
        numeric,
        f"The state of {owner} holds {type(state).__name__} at `{path}`; a state that can be saved without pickle is "
        "made of numbers, numeric arrays, and (named) tuples of them.",
    )
    loaded = unpack("state", state, saved_and_loaded(pack("state", state)))
    require(
        same(loaded, state),
        f"The state of {owner} changes at `{path}` when it is saved and loaded: {state!r:.60} becomes {loaded!r:.60}. "
        "Use float64 or integer arrays, floats and ints.",
    )


def check_configuration(thing: Any) -> None:
    """Configuration is frozen, comparable and can be written to the header of a journal."""
    owner = f"`{thing!r:.120}`"
    require(
        is_dataclass(thing) and not isinstance(thing, type) and _frozen(thing),
        f"{owner} is not a frozen dataclass, so its arguments could change during a run and are not in the journal's "
        "header. Write `@dataclass(frozen=True)` above the class, and keep what changes in the state.",
    )
    try:
        hash(thing)
    except TypeError as error:
        raise AssertionError(
            f"{owner} cannot be hashed ({error}). Turn lists and arrays into tuples in `__post_init__`."
        ) from None
    twin = type(thing)(**{f.name: getattr(thing, f.name) for f in fields(thing) if f.init})
    require(
        twin == thing and hash(twin) == hash(thing),
        f"{owner} is not equal to another one made of the same arguments; let the dataclass write `__eq__`.",
    )
    try:
        json.dumps(describe(thing), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{owner} cannot be written to the header of a journal ({error}). Its fields must be numbers, strings, "
            "None, tuples of those, or other such dataclasses."
        ) from None


def _frozen(thing: Any) -> bool:
    name = next((f.name for f in fields(thing)), "blackbox_zo_checks_this")
    try:
        setattr(thing, name, getattr(thing, name, None))
    except FrozenInstanceError:
        return True
    return False


def waves(points: Floats) -> Floats:
    """A smooth function without symmetries, from (n, d) to (n,); its values do not tie."""
    shifted = points - 0.1 * np.arange(1, points.shape[1] + 1)
    return np.asarray(np.add.reduce(shifted * shifted + 0.2 * np.sin(3.0 * points + 0.4), axis=1))


def answers(queries: Queries, shift: float = 0.0) -> Values:
    """`waves` at the points of `queries`, plus `shift`."""
    return Values(waves(queries.points()) + shift)
