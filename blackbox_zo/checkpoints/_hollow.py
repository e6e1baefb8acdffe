"""A model of transformers without its weights: the configuration's modules, on no device's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

__all__ = ["absent", "emptied", "hollow_model", "replace_parameters"]


def hollow_model(folder: Path, dtype: torch.dtype | None) -> Any:
    """The model that a folder's configuration names, in evaluation mode; its parameters are on meta, its buffers real.

    Args:
        folder: A folder written by `save_pretrained`.
        dtype: Of its parameters; none takes the configuration's.

    Raises:
        FileNotFoundError: The folder or its config.json does not exist.
        ValueError: transformers does not know the model.
    """
    import transformers

    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"'{folder}' is no folder written by `save_pretrained`: it has no config.json.")
    config = transformers.AutoConfig.from_pretrained(str(folder))
    names = getattr(config, "architectures", None) or ()
    kind: Any = next((found for name in names if (found := getattr(transformers, name, None)) is not None), None)
    if kind is None:
        raise ValueError(f"'{folder}': transformers has no {' or '.join(map(repr, names)) or 'such model'}.")
    if getattr(config, "quantization_config", None):
        raise ValueError(f"'{folder}' holds quantised weights, which cannot be streamed. Give an unquantised model.")
    model = emptied(kind, config, dtype or getattr(config, "dtype", None) or torch.float32)
    if (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(str(folder))
    return model


def emptied(kind: Any, config: Any, dtype: torch.dtype) -> Any:
    """A model of a class and a configuration, in evaluation mode, with its parameters on meta."""
    with _on_meta():
        model = kind._from_config(config, dtype=dtype)
    model.tie_weights()  # making parameters on meta has parted them
    return model.eval()


@contextmanager
def _on_meta() -> Iterator[None]:
    """Within the context, parameters of new modules are made on meta; buffers are not, as nothing could fill them."""
    register = torch.nn.Module.register_parameter

    def on_meta(self: torch.nn.Module, name: str, p: torch.nn.Parameter | None) -> None:
        register(self, name, p)
        if p is not None and not p.is_meta:
            self._parameters[name] = torch.nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad)

    torch.nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


def replace_parameters(model: torch.nn.Module, made: Any) -> None:
    """Give a model other parameters, `made` of each; what was one stays one."""
    new = {id(p): made(name, p) for name, p in model.named_parameters()}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None and id(p) in new:
                module._parameters[name] = new[id(p)]


def absent(p: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """What a parameter is while its weights are elsewhere: of its shape and type, NaN throughout, without memory.

    Args:
        p: The parameter.
        device: Where it seems to be; none is where it is.
    """
    return torch.full((1,), torch.nan, dtype=p.dtype, device=device or p.device).expand(p.shape)
