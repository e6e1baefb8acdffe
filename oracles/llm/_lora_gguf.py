"""LoRA adapters as llama.cpp reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blackbox_zo.checkpoints import GGUF, hollow_gguf
from oracles._files import appearing

__all__ = ["Factors", "save_lora_gguf", "write_lora_gguf"]


class Factors(NamedTuple):
    """The adapter of one layer.

    Attributes:
        name: Of the layer's weight, in the model without the adapter.
        a: (r, columns).
        b: (rows, r), times the adapter's scale.
    """

    name: str
    a: torch.Tensor
    b: torch.Tensor


def save_lora_gguf(model: Any, base: str | Path, path: str | Path) -> None:
    """Write a model's LoRA adapter as a GGUF file, which llama.cpp takes beside the base (`--lora`).

    Args:
        model: A model of peft with one active LoRA adapter.
        base: The GGUF file of the base model, whose names and order of rows the new file has.
        path: The new file.

    Raises:
        FileNotFoundError: The base does not exist.
        ValueError: The adapter has what the format has not (DoRA, biases, embeddings, other trained layers), or it is
            of another base.
    """
    write_lora_gguf(list(_factors(model)), Path(base).expanduser(), Path(path).expanduser())


def write_lora_gguf(found: Sequence[Factors], base: Path, path: Path) -> None:
    """Write adapters of layers as a GGUF file; see `save_lora_gguf`."""
    import gguf

    hollow, reader = hollow_gguf(base, None)
    file = GGUF(base, hollow, reader)
    file.close()
    with appearing(path) as partial:
        writer = gguf.GGUFWriter(partial, bytes(reader.fields["general.architecture"].parts[-1]).decode())
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 1.0)  # over the rank, which `b` makes good
        for factors in found:
            rows, stored = file.rows.get(factors.name), file.stored.get(factors.name)
            if rows is None or stored is None or stored.shape != (len(factors.b), factors.a.shape[1]):
                shape = [len(factors.b), factors.a.shape[1]]
                raise ValueError(f"The adapter has {factors.name!r} of shape {shape}, which '{base}' has not.")
            b = factors.b.clone()
            if rows.order is not None:
                b[torch.from_numpy(rows.order)] = factors.b
            title = file.titles[factors.name]
            writer.add_tensor(f"{title}.lora_a", factors.a.numpy())
            writer.add_tensor(f"{title}.lora_b", (b * len(factors.a)).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _factors(model: Any) -> Iterator[Factors]:
    """The adapters of the layers.

    Raises:
        ValueError: There is something else.
    """
    config = getattr(model, "peft_config", None)
    active: Any = getattr(model, "active_adapters", ())
    if not config or len(active) != 1 or type(config[active[0]]).__name__ != "LoraConfig":
        raise ValueError("`save_lora_gguf` takes a model with one active LoRA adapter.")
    name, told = active[0], "which adapters in the GGUF format do not have: save it as a folder"
    inner, seen = model.get_base_model(), set[int]()
    for place, module in inner.named_modules():
        if name not in getattr(module, "lora_A", {}):
            continue
        if name in getattr(module, "lora_embedding_A", {}) or not isinstance(module.lora_A[name], torch.nn.Linear):
            raise ValueError(f"The adapter of {place!r} is not of a linear layer, {told}.")
        if getattr(module, "use_dora", {}).get(name):
            raise ValueError(f"The adapter of {place!r} is DoRA's, {told}.")
        a, b = module.lora_A[name], module.lora_B[name]
        if b.bias is not None:
            raise ValueError(f"The adapter of {place!r} has a bias, {told}.")
        seen |= {id(a.weight), id(b.weight)}
        weights = a.weight.detach().float(), b.weight.detach().float() * float(module.scaling[name])
        yield Factors(f"{place}.weight", *weights)
    other = next((n for n, p in inner.named_parameters() if p.requires_grad and id(p) not in seen), None)
    if other is not None:
        raise ValueError(f"The adapter trains {other!r} too, {told}.")
