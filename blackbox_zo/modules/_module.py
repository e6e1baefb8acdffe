"""`Module`: x is the parameters of a torch model, moved in place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from blackbox_zo._arrays import Array, StoredArrays
from blackbox_zo._describe import describe
from blackbox_zo._typing import override
from blackbox_zo.directions import Block
from blackbox_zo.modules._digest import digest_of, of_buffers, of_parameters
from blackbox_zo.modules._masks import Mask, make_mask
from blackbox_zo.modules._moves import Moved, move
from blackbox_zo.modules._select import Select, plain_name, select_parameters
from blackbox_zo.steps import Step
from blackbox_zo.variables import Variable

__all__ = ["KINDS", "Module", "bits_of"]

MaskSpec: TypeAlias = float | Mapping[str, torch.Tensor] | Callable[[str, torch.Tensor], torch.Tensor]


class Module(Variable):
    """The selected parameters of a torch model as a variable. Queries never write to them; moves change them in place.

    Tied parameters are one block, with one direction. Nothing of the size of the model is stored: perturbations are
    regenerated from the step's seed where they are used.

    Args:
        model: Any module. It is neither patched nor wrapped.
        select: Which parameters: "all" (those that require grad); "top" (the norm after the last layer of a language
            model); "top:2" (that and the last two layers); "lora" (what trains with the active adapters of peft: their
            matrices, `modules_to_save`, and the biases and tokens that they save); "prefix" (the virtual tokens of the
            active adapter); "bias"; a regular expression that is searched for in their names, of frozen ones too; a
            list of names; or a function of (name, parameter).
        mask: Which of their elements to perturb and move. A fraction in (0, 1) selects the smallest absolute values of
            each matrix, by a threshold that is fixed now and compared with the present weights at every use
            (Sparse-MeZO, Liu et al. 2024). Or a function of (name, tensor), or tensors by name.
        unit: The unit of movement: a number, or a dict of numbers by pattern. The first pattern found in a parameter's
            name counts; the others have 1. Perturbations and moves are both scaled, so a move goes with its square.
            This replaces parameter groups.
        no_decay: A pattern; parameters whose names contain it have no weight decay.
        rounding: How moves of bf16 and fp16 parameters are rounded: "stochastic", so that small moves are right on
            average (the random bits follow from block and move), or "nearest", which loses them.

    Attributes:
        model: The model.
        parameters: The chosen parameters, by block name.
        version: Number of moves so far.

    Raises:
        ValueError: No parameter matches, one is not contiguous or not loaded, or another argument is out of range.
        TypeError: An argument has the wrong type.

    Example:
        >>> import torch, blackbox_zo as bz
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
        >>> bz.Module(model, "bias").blocks
        (Block(name='0.bias', shape=(4,)), Block(name='1.bias', shape=(1,)))
    """

    passing: Collection[str] = frozenset()
    """Names of the parameters whose memory comes and goes while the model runs."""

    def __init__(
        self,
        model: torch.nn.Module,
        select: Select = "all",
        mask: MaskSpec | None = None,
        *,
        unit: float | Mapping[str, float] = 1.0,
        no_decay: str | None = None,
        rounding: str = "stochastic",
    ) -> None:
        if rounding not in ("stochastic", "nearest"):
            raise ValueError(f"`Module(rounding=...)` must be 'stochastic' or 'nearest', got {rounding!r}.")
        if isinstance(model, torch.nn.Module) and any(hasattr(p, "_zo_streamed") for p in model.parameters()):
            raise ValueError(
                "The weights of this model come and go as it runs: search the `StreamedModule` that they belong to. "
                "Give it adapters as `StreamedModule.from_pretrained(..., adapt=...)`."
            )
        self.model = model
        self.parameters = select_parameters(model, select)
        self.blocks = tuple(Block(name, tuple(p.shape)) for name, p in self.parameters.items())
        self.masks: dict[str, Mask] = make_mask(self.parameters, mask)
        self.units = _units(self.parameters, unit)
        self.undecayed = frozenset(n for n in self.parameters if no_decay is not None and re.search(no_decay, n))
        self.rounding = rounding
        self.version = 0
        self._arguments = {"select": select, "mask": mask, "unit": unit, "no_decay": no_decay, "rounding": rounding}

    @property
    @override
    def origin(self) -> int:
        """The number of moves made. Queries start from the weights after them, so answer before the next move."""
        return self.version

    def whole(self, names: Collection[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter of the model, or some, by name; where weights come and go, each until the next one."""
        for name, p in self.model.named_parameters():
            if names is None or plain_name(name) in names:
                yield plain_name(name), p.detach()

    @property
    @override
    def x(self) -> torch.nn.Module:
        return self.model

    @torch.no_grad()
    @override
    def add_(self, step: Step) -> None:
        # In fp32 whatever the type of the parameters
        move(step, self._moved(step, self.blocks), self.version if self.rounding == "stochastic" else None)
        self.version += 1

    def _moved(self, step: Step, blocks: Iterable[Block]) -> list[Moved]:
        """The parameters of some blocks that a step changes."""
        moves, items = bool(np.any(step.w)), []
        for block in blocks:
            name, along = block.name, moves and step.directions.touches(block)
            keep = 1.0 if name in self.undecayed else 1.0 - step.shrink
            if along or keep != 1.0:
                p = self.parameters[name].detach()
                items.append(Moved(block, p, keep, along, self.units[name], self.masks.get(name)))
        return items

    def run_together(self, tasks: Sequence[Callable[[], Any]], most: int | None = None) -> None:
        """Run passes through the model, in any order; where weights come and go, each is fetched once for all.

        Args:
            tasks: The passes.
            most: How many may be under way at once, each with its activations; none is all.
        """
        for task in tasks:
            task()

    @override
    def settle(self) -> None:
        """Nothing to do: `add_` puts nothing off."""

    @override
    def fingerprint(self) -> str:
        """A short digest of all the model's weights, of what is selected, and after "+" of its buffers, if it has any.

        Buffers that are saved with the model (running statistics, quantised codes, masks) count bit by bit, those that
        each load computes again to three digits. It takes less than a second per gigabyte.
        """
        h = hashlib.blake2b(digest_size=8)
        h.update(self._about())
        for digest in of_parameters(self.model):
            h.update(digest)
        return h.hexdigest() + self._of_buffers()

    @override
    def digest(self) -> str:
        # Of the chosen parameters alone
        h = hashlib.blake2b(digest_size=8)
        for name, p in self._chosen():
            h.update(digest_of(name, p))
        return h.hexdigest()

    def _chosen(self) -> Iterable[tuple[str, torch.Tensor]]:
        """The chosen parameters; where weights come and go, each until the next one."""
        return self.parameters.items()

    def _about(self) -> bytes:
        """What is selected, for `fingerprint`."""
        about = repr([(b.name, b.shape, self.units[b.name]) for b in self.blocks])
        about += repr((sorted(self.undecayed), self.rounding))
        return (about + repr([(n, m.describe()) for n, m in self.masks.items()])).encode()

    def _of_buffers(self) -> str:
        """The buffers, for `fingerprint`."""
        buffers = b"".join(of_buffers(self.model))
        return f"+{hashlib.blake2b(buffers, digest_size=8).hexdigest()}" if buffers else ""

    @override
    def describe(self) -> dict[str, Any]:
        # Every argument but the model; functions and tensors by name
        return {"name": "Module", **{name: describe(value) for name, value in self._arguments.items()}}

    @override
    def state(self) -> dict[str, Any]:
        """The chosen parameters as arrays of their bits, by name."""
        return {name: bits_of(p).copy() for name, p in self.parameters.items()}

    @torch.no_grad()
    @override
    def load(self, state: Mapping[str, Any], version: int) -> None:
        """Set the chosen parameters from `state()`, and the number of moves.

        Raises:
            ValueError: A parameter is missing or has another shape or type.
        """
        for name, p in self.parameters.items():
            mine = bits_of(p)
            theirs = state.get(name)
            if theirs is None or np.shape(theirs) != mine.shape or theirs.dtype != mine.dtype:
                raise ValueError(f"The state has no parameter {name!r} of this model's shape and type.")
        for name, p in self.parameters.items():
            array = np.ascontiguousarray(state[name])
            p.copy_(torch.from_numpy(array.copy()).view(p.dtype).view(p.shape))
        self.version = version

    @override
    def arrays(self) -> dict[str, Array]:
        """The chosen parameters in their own types, by name; one of them at a time is copied from its device."""
        kinds = {name: KINDS.get(p.dtype) for name, p in self.parameters.items()}
        if wrong := next((name for name, kind in kinds.items() if kind is None), None):
            raise TypeError(f"its parameter {wrong!r} is of type {self.parameters[wrong].dtype}")
        return {
            name: Array(str(kinds[name]), tuple(p.shape), partial(bits_of, p)) for name, p in self.parameters.items()
        }

    @torch.no_grad()
    @override
    def read(self, stored: StoredArrays, version: int) -> None:
        self._check_stored(stored)
        here = {name: p for name, p in self.parameters.items() if p.device.type == "cpu"}
        stored.into({name: bits_of(p) for name, p in here.items()})
        for name, p in self.parameters.items():
            if name in here:
                p.view(-1)[:0].zero_()  # tells torch, and who remembers what p was, that it has changed
            else:
                p.copy_(torch.from_numpy(stored[name]).view(p.dtype).view(p.shape))
        self.version = version

    def _check_stored(self, stored: StoredArrays) -> None:
        """Refuse the arrays of another variable."""
        for name, p in self.parameters.items():
            if name not in stored or stored.kind(name) != (KINDS.get(p.dtype), tuple(p.shape)):
                raise ValueError(f"it has no parameter {name!r} of this model's shape and type")


KINDS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
"""How files call the types of parameters."""


def bits_of(p: torch.Tensor) -> np.ndarray[Any, Any]:
    """The parameter as an array; 16-bit types, which numpy lacks in part, as int16."""
    t = p.detach().cpu().contiguous()
    return (t.view(torch.int16) if t.element_size() == 2 else t).numpy()


def _units(parameters: Mapping[str, Any], unit: float | Mapping[str, float]) -> dict[str, float]:
    table = unit if isinstance(unit, Mapping) else {"": unit}
    for pattern, value in table.items():
        if not (isinstance(value, int | float) and value > 0 and np.isfinite(value)):
            raise ValueError(f"`Module(unit=...)` must be positive, got {value!r:.40} for {pattern!r}.")
        if not any(re.search(pattern, name) for name in parameters):
            raise ValueError(f"`Module(unit=...)`: no selected parameter matches {pattern!r}.")
    return {n: next((float(u) for pattern, u in table.items() if re.search(pattern, n)), 1.0) for n in parameters}
