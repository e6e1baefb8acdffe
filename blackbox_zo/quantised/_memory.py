"""Linear layers of a model in memory, quantised here or by a library, whose scales or integers can be searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from blackbox_zo._checks import check_choice
from blackbox_zo._typing import override
from blackbox_zo.quantised._layers import QuantisedLinear
from blackbox_zo.quantised._sums import begin
from blackbox_zo.quantised._tables import BLOCK, LAYOUTS, CodedTable, ScaledTable, Table, moved_scales, rms

__all__ = ["GroupedTable", "adopt", "quantise", "restore"]


class GroupedTable(Table):
    """A matrix quantised by a library, whose integers are frozen and whose scales move, as those of `ScaledTable`.

    Args:
        codes: The codes, (rows, width), int8 or uint8; or two a byte, (rows, width / 2), the first in the higher bits.
        scales: The scale of each run of numbers of a row, (rows, runs).
        book: What each code stands for, before it is scaled; none if that is the code.
        zero: The code of 0 in each run, (rows, runs); none if that is 0.
        packed: Whether there are two codes a byte.

    Attributes:
        size: The root mean square of the library's scales.
        scale_shift: What has been added to each scale, over `size`; (rows, runs).
    """

    codes: torch.Tensor
    own: torch.Tensor
    book: torch.Tensor | None
    zero: torch.Tensor | None

    def __init__(
        self,
        codes: torch.Tensor,
        scales: torch.Tensor,
        *,
        book: torch.Tensor | None = None,
        zero: torch.Tensor | None = None,
        packed: bool = False,
    ) -> None:
        super().__init__(len(codes), codes.shape[1] * (2 if packed else 1))
        for name, value in (("codes", codes), ("own", scales.float()), ("book", book), ("zero", zero)):
            self.register_buffer(name, value)
        self.packed, self.size = packed, rms(scales)
        self.scale_shift = torch.nn.Parameter(torch.zeros(scales.shape))

    @property
    def scales(self) -> torch.Tensor:
        """The scales as they are now, (rows, runs), fp32."""
        return moved_scales(self.own, self.scale_shift.detach(), self.size)

    @override
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        shift = self.scale_shift.clone()  # one operation, in which a query displaces it
        runs = self.own.shape[1]

        def rows(which: torch.Tensor | slice) -> torch.Tensor:
            codes = self.codes[which]
            if self.packed:
                codes = torch.stack([codes >> 4, codes & 15], -1)
            out = (codes.float() if self.book is None else self.book[codes.long()]).reshape(len(codes), runs, -1)
            if self.zero is not None:
                out = out - self.zero[which][..., None]
            return (out * moved_scales(self.own[which], shift[which], self.size)[..., None]).view(-1, self.width)

        return rows


def quantise(
    model: torch.nn.Module,
    kind: Literal["Q4_0", "Q4_1", "Q8_0"] = "Q4_1",
    moves: Literal["scales", "codes"] = "scales",
    folder: str | Path | None = None,
) -> list[str]:
    """Quantise a model's linear layers in place, in groups of 32 with an fp16 scale each, as GGUF files are.

    A layer stays as it is if it is tied to an embedding, or if its rows are no multiple of 32.

    Args:
        model: The model.
        kind: 4 bits (Q4_0), 4 bits with a minimum for each group (Q4_1), or 8 bits.
        moves: What can be searched: `scale_shift` or `code_shift`, as in `load_gguf`.
        folder: As in `load_gguf`.

    Returns:
        The names of the layers that are now quantised.

    Raises:
        ValueError: No layer can be, or an argument is not one of its values.
        ModuleNotFoundError: gguf is not installed.
    """
    import gguf

    check_choice("quantise", tuple(LAYOUTS), kind=kind)
    check_choice("quantise", ("scales", "codes"), moves=moves)
    which: Any = gguf.GGMLQuantizationType[kind]
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    coded = list[CodedTable]()

    def table_of(module: torch.nn.Module) -> Table | None:
        if type(module) is not torch.nn.Linear or module.in_features % BLOCK or id(module.weight) in looked_up:
            return None
        raw = torch.from_numpy(gguf.quants.quantize(module.weight.detach().float().cpu().numpy(), which))
        if moves == "scales":
            return ScaledTable(raw, module.in_features, None, which, 0)
        coded.append(CodedTable(raw, module.in_features, None, which, 0))
        return coded[-1]

    names = _replace(model, table_of)
    for name in names:  # the full weights go
        weight = model.get_submodule(name).__dict__["original"].weight
        weight.data = weight.new_empty(0)
    if not names:
        raise ValueError(f"No linear layer of this {type(model).__name__} has rows that are a multiple of {BLOCK}.")
    begin(coded, folder)
    return names


def adopt(model: torch.nn.Module) -> list[str]:
    """Let the scales of linear layers be searched that torchao or bitsandbytes has quantised, as `scale_shift`.

    The layers are replaced by `QuantisedLinear`, which compute from the same codes; `restore` puts them back. Of
    torchao these are layers with int8 weights, or of fewer bits in a byte each; of bitsandbytes `Linear4bit` (nf4 and
    fp4), whose scales are held in fp32 from now on if they were quantised too.

    Args:
        model: The model.

    Returns:
        The names of the layers.

    Raises:
        ValueError: There is no such layer, or groups do not divide its rows.
    """

    def table_of(module: torch.nn.Module) -> Table | None:
        weight: Any = getattr(module, "weight", None)
        if isinstance(module, torch.nn.Linear) and hasattr(weight, "qdata") and hasattr(weight, "scale"):
            return _of_torchao(weight)
        if getattr(weight, "quant_state", None) is not None:
            return _of_bitsandbytes(weight)
        return None

    names = _replace(model, table_of)
    if not names:
        raise ValueError(
            f"No linear layer of this {type(model).__name__} is quantised by torchao (int8) or bitsandbytes (nf4, fp4)."
        )
    return names


def _of_torchao(weight: Any) -> Table:
    codes: torch.Tensor = weight.qdata
    scales = weight.scale.detach().reshape(len(codes), -1)
    if codes.dtype is not torch.int8 or codes.shape[1] % scales.shape[1]:
        raise ValueError(f"A weight of torchao has codes of {codes.dtype}, {tuple(codes.shape)}, not int8 in groups.")
    zero = getattr(weight, "zero_point", None)
    zero = None if zero is None or not bool(zero.any()) else zero.detach().float().reshape(scales.shape)
    return GroupedTable(codes.detach(), scales, zero=zero)


def _of_bitsandbytes(weight: Any) -> Table:
    state = weight.quant_state
    height, width = state.shape
    if width % state.blocksize:
        raise ValueError(
            f"Rows of {width} numbers are no multiple of bitsandbytes' groups of {state.blocksize}, which then end in "
            "other rows. Quantise with a smaller `blocksize`."
        )
    absmax = _absmax(state).view(height, -1)
    return GroupedTable(weight.data.view(height, width // 2), absmax, book=state.code.float(), packed=True)


def _absmax(state: Any) -> torch.Tensor:
    """The scales in fp32, also if they are quantised themselves."""
    if not state.nested:
        found: torch.Tensor = state.absmax.float()
        return found
    from bitsandbytes.functional import dequantize_blockwise

    expanded: torch.Tensor = dequantize_blockwise(state.absmax, state.state2) + state.offset
    return expanded.float()


def _replace(model: torch.nn.Module, table_of: Callable[[torch.nn.Module], Table | None]) -> list[str]:
    """Replace layers by ones with tables; all tables are made first, so that an error leaves the model as it was."""
    layers: Any = dict(model.named_modules())
    tables = {name: table for name, module in layers.items() if (table := table_of(module)) is not None}
    for name, table in tables.items():
        made = QuantisedLinear(table, layers[name].bias)
        made.__dict__["original"] = layers[name]  # which is no part of the model
        model.set_submodule(name, made)
    if tables and hasattr(model, "save_pretrained"):
        whole: Any = model
        whole.save_pretrained = _refuse
    return list(tables)


def _refuse(*_: Any, **__: Any) -> None:
    raise ValueError("Put ordinary layers back before you save this model: `blackbox_zo.quantised.restore(model)`.")


@torch.no_grad()
def restore(model: torch.nn.Module) -> list[str]:
    """Put ordinary layers back, with the numbers that a search has found: what `quantise` and `adopt` have replaced.

    A library's layers get their scales, rounded to the type that they are held in; others are `torch.nn.Linear` again,
    with the quantised numbers in their own type.

    Returns:
        The names of the layers.
    """
    found: Any = {n: m for n, m in model.named_modules() if isinstance(m, QuantisedLinear) and "original" in vars(m)}
    for name, layer in found.items():
        original, table = layer.original, layer.table
        weight: Any = original.weight
        if not isinstance(table, GroupedTable):
            weight.data = table.reader()(slice(None)).to(weight.dtype)
        elif hasattr(weight, "qdata"):
            weight.scale.copy_(table.scales.view(weight.scale.shape))
        else:
            state = weight.quant_state
            state.absmax, state.nested, state.state2, state.offset = table.scales.view(-1), False, None, None
        model.set_submodule(name, original)
    if found:
        vars(model).pop("save_pretrained", None)
    return list(found)
