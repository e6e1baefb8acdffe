"""Convert between an environment's spaces and the flat arrays that policies work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["SpaceError", "actions_of", "observations_of"]


class SpaceError(ValueError):
    """No policy here supports this space."""


def observations_of(space: Any) -> tuple[int, Callable[[Any], Any]]:
    """The size of a flat observation, and a function that flattens one.

    A flat `Box` is passed on unchanged; other spaces go through `gymnasium.spaces.flatten`: `Discrete` becomes one-hot,
    `Dict` and `Tuple` are concatenated.

    Raises:
        SpaceError: Observations have no fixed size, such as those of `Sequence` and `Graph`.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        size = int(np.prod(space.shape))
        return size, (_same if len(space.shape) == 1 else np.ravel)
    try:
        size = int(spaces.flatdim(space))
    except (NotImplementedError, ValueError) as error:
        raise SpaceError(f"Observations of `{space}` cannot be flattened: {error}") from None
    return size, lambda observation: spaces.flatten(space, observation)


def _same(observation: Any) -> Any:
    return observation


def actions_of(space: Any, clip: bool) -> tuple[int, Callable[[Floats], Any]]:
    """The number of outputs that a policy needs, and a function from outputs to an action.

    `Discrete` and each part of `MultiDiscrete` take the argmax of the outputs, `MultiBinary` is 1 where an output is
    positive, and `Box` takes the outputs themselves, clipped to its bounds.

    Args:
        space: The action space.
        clip: Whether to clip actions of a `Box`.

    Raises:
        SpaceError: The space is of another type.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return int(space.n), (_largest if first == 0 else lambda out: first + int(out.argmax()))
    if isinstance(space, spaces.MultiDiscrete):
        ends = np.cumsum(space.nvec.ravel()).tolist()
        parts = list(zip([0, *ends[:-1]], ends, space.start.ravel().tolist(), strict=True))
        return ends[-1], lambda out: np.array(
            [s + int(out[a:b].argmax()) for a, b, s in parts], dtype=space.dtype
        ).reshape(space.shape)
    if isinstance(space, spaces.MultiBinary):
        shape = space.shape
        return int(np.prod(shape)), lambda out: (out > 0.0).astype(space.dtype).reshape(shape)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return int(np.prod(space.shape)), _boxed(space, clip)
    raise SpaceError(
        f"No policy here supports the action space `{space}`; it must be a Box of floats, Discrete, MultiDiscrete "
        "or MultiBinary."
    )


def _largest(out: Floats) -> int:
    return int(out.argmax())


def _boxed(space: Any, clip: bool) -> Callable[[Floats], Any]:
    shape, dtype = space.shape, space.dtype
    flat = len(shape) == 1
    low, high = (np.ravel(bound).astype(np.float64) for bound in (space.low, space.high))
    if not clip or (np.isinf(low).all() and np.isinf(high).all()):
        return (lambda out: out.astype(dtype)) if flat else (lambda out: out.astype(dtype).reshape(shape))
    minimum, maximum = np.minimum, np.maximum  # both together take a quarter of np.clip's time
    if flat:
        return lambda out: maximum(minimum(out, high), low).astype(dtype)
    return lambda out: maximum(minimum(out, high), low).astype(dtype).reshape(shape)
