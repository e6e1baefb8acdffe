"""The moves of a run as a LoRA adapter of its base."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blackbox_zo.checkpoints import opened, pieces_of
from blackbox_zo.modules import Module
from oracles._files import appearing_folder
from oracles.llm._adapters import CONFIG_FILE
from oracles.llm._lora_gguf import Factors, write_lora_gguf

if TYPE_CHECKING:
    from blackbox_zo.checkpoints import Checkpoint

__all__ = ["extract_lora"]


@torch.no_grad()
def extract_lora(module: Module, base: str | Path, path: str | Path, rank: int) -> float:
    """Write what a run has added to its base's linear layers as a LoRA adapter, so that the base stays as it is.

    Of each matrix the best approximation of a rank is taken (by its singular values): exact for runs of few low-rank
    moves. One matrix is in memory at a time, if those of the run are streamed.

    Args:
        module: The variable after the run, of a model without an adapter.
        base: The base's folder, or its GGUF file.
        path: A GGUF file for llama.cpp, for a base that is one; else a folder, for peft.
        rank: Rank of the adapter.

    Returns:
        What is lost: the root of the mean square of what is not in the adapter, over that of all that was added.

    Raises:
        ValueError: Nothing has moved, or other parameters than those of linear layers have, or it is another base.
    """
    base, path = Path(base).expanduser(), Path(path).expanduser()
    hollow, stored = opened(base, None)
    found, lost, total = list[Factors](), 0.0, 0.0
    try:
        for name, delta in _moved(module, hollow, stored):
            u, s, v = _svd(delta, rank)
            found.append(Factors(name, v.T * s.sqrt()[:, None], u * s.sqrt()))
            lost += float((delta - (u * s) @ v.T).double().square().sum())
            total += float(delta.double().square().sum())
    finally:
        stored.close()
    if not found:
        raise ValueError("Nothing has moved, so there is no adapter to write.")
    if path.suffix == ".gguf":
        write_lora_gguf(found, base, path)
    else:
        _write_folder(found, base, path, rank)
    return math.sqrt(lost / total)


def _moved(module: Module, hollow: Any, stored: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """What has been added to each matrix, (rows, columns), fp32.

    Raises:
        ValueError: What has moved is of no linear layer.
    """
    pieces = pieces_of(hollow, stored)
    looked_up = {id(m.weight) for m in hollow.modules() if isinstance(m, torch.nn.Embedding)}
    linear = {id(m.weight) for m in hollow.modules() if type(m) is torch.nn.Linear} - looked_up
    shapes = dict(hollow.named_parameters())
    for name, p in module.whole(module.parameters):
        if name not in shapes or shapes[name].shape != p.shape:
            raise ValueError(f"The base has no {name!r} of shape {list(p.shape)}: it is not what the run began with.")
        before = torch.empty(p.numel(), dtype=p.dtype)
        stored.read(pieces[name], before)
        delta = p.detach().cpu().float() - before.view(p.shape).float()
        if id(shapes[name]) not in linear:
            if bool(delta.any()):
                raise ValueError(
                    f"{name!r} has moved, which is of no linear layer, and only these are in an adapter. Search them "
                    "alone (--select proj), or export whole weights."
                )
        elif bool(delta.any()):
            yield name, delta


def _svd(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best approximation `u diag(s) v'` of a rank, (rows, r), (r,) and (columns, r)."""
    most = min(rank, *delta.shape)
    if min(delta.shape) <= 8 * most:
        u, s, vt = torch.linalg.svd(delta, full_matrices=False)
        return u[:, :most], s[:most], vt[:most].T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(delta, most + 8, niter=4)
    return u[:, :most], s[:most], v[:, :most]


def _write_folder(found: list[Factors], base: Path, path: Path, rank: int) -> None:
    """As peft saves an adapter."""
    import peft
    from safetensors.torch import save_file

    places = [factors.name.removesuffix(".weight") for factors in found]
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=places, task_type="CAUSAL_LM", inference_mode=True)
    config.base_model_name_or_path = str(base.resolve())
    config.rank_pattern = {place: len(f.a) for place, f in zip(places, found, strict=True) if len(f.a) != rank}
    config.alpha_pattern = dict(config.rank_pattern)  # so that each scale is 1
    tensors = {}
    for place, factors in zip(places, found, strict=True):
        tensors[f"base_model.model.{place}.lora_A.weight"] = factors.a.contiguous()
        tensors[f"base_model.model.{place}.lora_B.weight"] = factors.b.contiguous()
    with appearing_folder(path, last=CONFIG_FILE) as partial:
        config.save_pretrained(str(partial))
        save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
