"""Array types used in annotations, and `override`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.intp]
Counts: TypeAlias = npt.NDArray[Any]
"""Whole numbers, or floats where what is counted has weights."""
Bools: TypeAlias = npt.NDArray[np.bool_]
Signs: TypeAlias = npt.NDArray[np.float32]
"""-1 and +1, which fp32 holds exactly."""
Words: TypeAlias = npt.NDArray[np.uint64]
Tree: TypeAlias = Any
"""A number, an array, or a nested dict/list/tuple of them: whatever structure the user gave as `x0`."""

if TYPE_CHECKING:
    from typing_extensions import override as override
elif sys.version_info >= (3, 12):
    from typing import override as override
else:

    def override(method: Any) -> Any:
        """Mark a method that overrides one of a base class, whose docstring it then shares."""
        method.__override__ = True
        return method
