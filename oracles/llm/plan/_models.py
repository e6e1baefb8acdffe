"""Models without their weights: published shapes by name, folders and configurations of the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from blackbox_zo.checkpoints import emptied, hollow_gguf
from blackbox_zo.streaming._units import Entry, Window, windows_of
from oracles.llm.plan._trace import Pass, Untraceable, passed
from oracles.options import BadInput

__all__ = ["PRESETS", "Shape", "shape_of"]


def _opt(hidden: int, layers: int, heads: int, inner: int = 0, projected: int = 0) -> dict[str, Any]:
    return {"model_type": "opt", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "ffn_dim": inner or 4 * hidden, "word_embed_proj_dim": projected or hidden,
            "do_layer_norm_before": not projected, "dtype": "float16"}  # fmt: skip


def _decoder(kind: str, hidden: int, inner: int, layers: int, heads: int, groups: int, words: int, **more: Any) -> Any:
    return {"model_type": kind, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": groups, "vocab_size": words,
            "dtype": "bfloat16", **more}  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "opt-125m": _opt(768, 12, 12),
    "opt-350m": _opt(1024, 24, 16, projected=512),
    "opt-1.3b": _opt(2048, 24, 32),
    "opt-2.7b": _opt(2560, 32, 32),
    "opt-6.7b": _opt(4096, 32, 32),
    "opt-13b": _opt(5120, 40, 40),
    "opt-30b": _opt(7168, 48, 56),
    "opt-66b": _opt(9216, 64, 72),
    "opt-175b": _opt(12288, 96, 96),
    "llama-2-7b": _decoder("llama", 4096, 11008, 32, 32, 32, 32000, max_position_embeddings=4096),
    "llama-3-8b": _decoder("llama", 4096, 14336, 32, 32, 8, 128256, max_position_embeddings=8192),
    "llama-3-70b": _decoder("llama", 8192, 28672, 80, 64, 8, 128256, max_position_embeddings=8192),
    "qwen3-8b": _decoder("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128, max_position_embeddings=40960),
    "qwen3-32b": _decoder("qwen3", 5120, 25600, 64, 64, 8, 151936, head_dim=128, max_position_embeddings=40960),
    "smollm2-135m": _decoder(
        "llama", 576, 1536, 30, 9, 3, 49152, tie_word_embeddings=True, max_position_embeddings=8192
    ),
}
"""Published shapes, as arguments of transformers' configurations."""


@dataclass
class Shape:
    """A model's blocks and tables, and what a pass through it does.

    Attributes:
        name: As the user calls it.
        source: Where its shape comes from.
        model: On meta.
        windows: Its windows, as `StreamedModule` finds them.
        fixed: Bytes of what always stays.
        longest: Tokens in its longest text; none if its configuration does not say.
        file_share: Bytes in its files over bytes in memory.
        traced: Whether its own code could be run without memory; else operations are reckoned from the weights.
    """

    name: str
    source: str
    model: Any
    windows: list[Window]
    fixed: int
    longest: int | None
    file_share: float
    traced: bool = True
    _passes: dict[tuple[int, int], Pass] = field(default_factory=dict)

    @property
    def order(self) -> list[Entry]:
        """The entries in the order in which they are needed."""
        return [window.entry for window in self.windows]

    @property
    def entries(self) -> list[Entry]:
        """The entries, each once."""
        return list(dict.fromkeys(self.order))

    @property
    def numbers(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def nbytes(self) -> int:
        """Bytes of all weights in memory."""
        return self.fixed + sum(entry.nbytes for entry in self.entries)

    def a_pass(self, rows: int, length: int) -> Pass:
        """What a pass over some texts does; bytes grow by the row."""
        if (rows, length) in self._passes:
            return self._passes[rows, length]
        if rows > 2 and self.traced:
            one, two = self.a_pass(1, length), self.a_pass(2, length)
            found = Pass([(e, rows * f) for e, f in one.uses])
            found.peak = one.peak + (rows - 1) * max(0, two.peak - one.peak)
            found.between = one.between + (rows - 1) * max(0, two.between - one.between)
        else:
            found = self._run(rows, length)
        self._passes[rows, length] = found
        return found

    def _run(self, rows: int, length: int) -> Pass:
        if self.traced:
            try:
                return passed(self.model, self.windows, rows, length)
            except Untraceable:
                self.traced = False
        return self._reckoned(rows, length)

    def _reckoned(self, rows: int, length: int) -> Pass:
        """Two operations for each weight and token; activations of one layer and the scores."""
        tokens, text = rows * length, self.model.config.get_text_config()
        lookups = {id(w) for w in self.windows if isinstance(w.module, torch.nn.Embedding)}
        uses = [(w.entry, 0.0 if id(w) in lookups else 2.0 * tokens * _numbers(w.entry)) for w in self.windows]
        width = int(getattr(text, "hidden_size", 0) or 0)
        size = self.model.dtype.itemsize
        scores = 4 * tokens * int(getattr(text, "vocab_size", 0) or 0)
        return Pass(uses, 3 * scores + tokens * 10 * width * size, tokens * 2 * width * size)


def _numbers(entry: Entry) -> int:
    return sum(p.numel() for p in entry.parameters)


def shape_of(name: str, dtype: torch.dtype | None) -> Shape:
    """The shape of a model, none of whose weights are read.

    Args:
        name: A preset, a folder or a config.json, a GGUF file, or a name on the hub.
        dtype: Of its weights in memory; none takes its configuration's.

    Raises:
        BadInput: It is unknown, no language model, quantised, or has no blocks.
    """
    path = Path(name).expanduser()
    preset = name.lower().rsplit("/", 1)[-1].replace("meta-", "")
    try:
        if path.suffix == ".gguf":
            model, _ = hollow_gguf(path, dtype)
            return _shaped(name, "a GGUF file", model, path.stat().st_size)
        if path.exists():
            return _made(name, "its configuration", _config_in(path), dtype)
        if preset in PRESETS:
            return _made(preset, "published shape", _preset(preset), dtype)
        return _made(name, "its configuration on the hub", _on_hub(name), dtype)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise BadInput(f"--model {name!r}: {error}") from error


def _config_in(path: Path) -> Any:
    import transformers

    folder = path.parent if path.name == "config.json" else path
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError("the folder holds an adapter; plan for its base model.")
    if not (folder / "config.json").is_file():
        raise ValueError("there is no config.json; give a folder that `save_pretrained` wrote, or a preset.")
    return transformers.AutoConfig.from_pretrained(str(folder))


def _preset(name: str) -> Any:
    import transformers

    arguments = dict(PRESETS[name])
    return transformers.AutoConfig.for_model(arguments.pop("model_type"), **arguments)


def _on_hub(name: str) -> Any:
    import transformers

    known = f"Presets are {', '.join(PRESETS)}; a folder with a config.json will do, too."
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise ValueError(f"there is no such folder. {known}")
    try:
        return transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no such preset or folder, and the hub does not give it. {known}") from error


def _made(name: str, source: str, config: Any, dtype: torch.dtype | None) -> Shape:
    import transformers

    kind: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        raise ValueError(
            f"its configuration is of {config.model_type!r}, which is no causal language model of transformers."
        )
    if isinstance(kind, tuple | list):
        kind = kind[0]
    if getattr(config, "quantization_config", None):
        raise ValueError("its weights are quantised, which cannot be streamed. Give an unquantised model.")
    stored = config.dtype or torch.float32
    model = emptied(kind, config, dtype or stored)
    every = sum(p.numel() for p in model.parameters())
    return _shaped(name, source, model, every * stored.itemsize)


def _shaped(name: str, source: str, model: Any, in_files: int) -> Shape:
    windows = windows_of(model)
    coming = {id(p) for window in windows for p in window.entry.parameters}
    fixed = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in coming)
    every = sum(p.numel() * p.element_size() for p in model.parameters())
    model.to("meta")
    text = model.config.get_text_config()
    told = (getattr(text, key, None) for key in ("max_position_embeddings", "n_positions"))
    longest = next((int(n) for n in told if n), None)
    return Shape(name, source, model, windows, fixed, longest, in_files / every)
