"""Array types used in annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

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
