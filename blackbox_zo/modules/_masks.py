"""Masks: which elements of a parameter are searched."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch

from blackbox_zo._typing import override

__all__ = ["Mask", "make_mask"]


class Mask(ABC):
    """Which elements of one parameter are searched, read chunk by chunk."""

    @abstractmethod
    def __call__(self, part: torch.Tensor, start: int) -> torch.Tensor:
        """True where an element is searched.

        Args:
            part: Elements of the unperturbed parameter, flat.
            start: Where they begin in it.
        """

    @abstractmethod
    def describe(self) -> str:
        """What tells this mask from another."""


class Small(Mask):
    """Elements up to a threshold in absolute value."""

    def __init__(self, p: torch.Tensor, share: float) -> None:
        flat = p.detach().abs().float().view(-1)
        self.threshold = float(flat.kthvalue(max(1, round(share * flat.numel()))).values)
        self.share = share

    @override
    def __call__(self, part: torch.Tensor, start: int) -> torch.Tensor:
        return part.abs().float() <= self.threshold

    @override
    def describe(self) -> str:
        return f"{self.share!r}"


class Function(Mask):
    """What a function of the user's says."""

    def __init__(self, name: str, p: torch.Tensor, function: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        self.name, self.p, self.function = name, p, function

    @override
    def __call__(self, part: torch.Tensor, start: int) -> torch.Tensor:
        mask = self.function(self.name, self.p.detach())
        if not isinstance(mask, torch.Tensor) or mask.shape != self.p.shape:
            raise ValueError(f"`Module(mask=...)`: the function must return a mask of shape {tuple(self.p.shape)}.")
        return mask.reshape(-1)[start : start + part.numel()] != 0

    @override
    def describe(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)


class Fixed(Mask):
    """A tensor of the user's."""

    def __init__(self, name: str, p: torch.Tensor, mask: torch.Tensor) -> None:
        if mask.shape != p.shape:
            raise ValueError(
                f"`Module(mask=...)` has shape {tuple(mask.shape)} for {name!r}, which has {tuple(p.shape)}."
            )
        self.mask = (mask != 0).to(p.device).reshape(-1)

    @override
    def __call__(self, part: torch.Tensor, start: int) -> torch.Tensor:
        return self.mask[start : start + part.numel()]

    @override
    def describe(self) -> str:
        return hashlib.blake2b(self.mask.cpu().numpy().tobytes(), digest_size=8).hexdigest()


def make_mask(parameters: Mapping[str, torch.nn.Parameter], mask: Any) -> dict[str, Mask]:
    """The mask of each parameter that has one.

    Raises:
        ValueError: A share outside (0, 1), a name that is not selected, or a wrong shape.
        TypeError: `mask` is of another type.
    """
    if mask is None:
        return {}
    if isinstance(mask, float):
        if not 0.0 < mask < 1.0:
            raise ValueError(f"`Module(mask=...)` as a share must be between 0 and 1, got {mask}.")
        return {n: Small(p, mask) for n, p in parameters.items() if p.dim() >= 2}
    if isinstance(mask, Mapping):
        unknown = set(mask) - set(parameters)
        if unknown:
            raise ValueError(f"`Module(mask=...)` names {sorted(unknown)[0]!r}, which is not selected.")
        return {n: Fixed(n, parameters[n], torch.as_tensor(m)) for n, m in mask.items()}
    if callable(mask):
        return {n: Function(n, p, mask) for n, p in parameters.items()}
    raise TypeError(f"`Module(mask=...)` must be a share, tensors by name, or a function, got {mask!r:.60}.")
