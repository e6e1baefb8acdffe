"""LoRA adapters of the command line: made for a plain model, loaded from a folder with their base, and told apart."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackbox_zo.randomness import Key

if TYPE_CHECKING:
    import torch

__all__ = [
    *("BASE_FILE", "CONFIG_FILE", "adapted", "adapted_as", "base_name", "default_select", "has_adapter", "is_adapted"),
    *("is_adapter", "load_adapter", "make_adapter", "unsaved"),
]

CONFIG_FILE = "adapter_config.json"

BASE_FILE = "base_sketch.json"
"""Some numbers of the base model, beside an adapter that this library saved."""

_SKETCHED, _NUMBERS = 64, 4
"""How many tensors are in a sketch, and how many numbers of each."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, as peft writes it."""
    return (folder / CONFIG_FILE).is_file()


def default_select(model: str) -> str | None:
    """What is searched of an adapter's folder unless the user says otherwise: the adapter; None for other models."""
    folder = Path(model).expanduser()
    return "all" if is_adapter(folder) else None


def is_adapted(model: Any) -> bool:
    """Whether a model is peft's, around a base model."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def make_adapter(
    model: Any, rank: int = 8, alpha: float | None = None, targets: Sequence[str] | None = None, seed: int = 0
) -> Any:
    """A LoRA adapter around a model, with the start that peft gives it, B = 0, but drawn from the seed alone.

    Args:
        model: A causal language model.
        rank: Rank of the adapter.
        alpha: The adapter is scaled by alpha over rank; None is peft's default, 8.
        targets: Names of the layers to adapt, such as `q_proj`. None: those that peft knows for this kind of model, or
            all linear layers but the head.
        seed: Seed of the start.

    Returns:
        The model with the adapter, in evaluation mode; only the adapter requires grad.

    Raises:
        ModuleNotFoundError: There is no peft.
        ValueError: A target names no layer that can be adapted.
    """
    import torch

    peft = _peft("A LoRA adapter is made by")
    kind = getattr(model.config, "model_type", "")
    known = kind in getattr(peft.utils.other, "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING", {})
    head, linear = model.get_output_embeddings(), ("Linear", "Conv1D")
    parts = [(n, part) for n, part in model.named_modules() if type(part).__name__ in linear and part is not head]
    layers = sorted({name.rpartition(".")[2] for name, _ in parts})
    missing = [t for t in targets or () if not any(_named(name, t) for name, _ in model.named_modules())]
    if missing:
        raise ValueError(
            f"The model has no layer {', '.join(map(repr, missing))}; its linear ones are {', '.join(layers)}."
        )
    wanted = list(targets) if targets else None if known else layers
    scale: Any = {} if alpha is None else {"lora_alpha": alpha}
    base = sketch(model)
    config = peft.LoraConfig(r=rank, target_modules=wanted, task_type="CAUSAL_LM", lora_dropout=0.0, **scale)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # peft draws a start of its own,
        warnings.simplefilter("ignore")  # and says that it has noticed how GPT-2 keeps its weights
        adapted = peft.get_peft_model(model, config)
    generator = Key(seed, 0).generator("lora")
    for name, p in adapted.named_parameters():
        shape = tuple(p.shape)
        if ".lora_A." in name:
            bound = 1 / math.sqrt(math.prod(shape[1:]))  # Kaiming's, with a = sqrt(5)
            p.data.copy_(torch.from_numpy(generator.uniform(-bound, bound, shape)))
        elif ".lora_embedding_B." in name:  # of an embedding, A has the zeros
            p.data.copy_(torch.from_numpy(generator.standard_normal(shape)))
        elif ".lora_" in name:
            p.data.zero_()
    _keep_base(adapted, base)
    return adapted.eval()


def has_adapter(model: Any) -> bool:
    """Whether a model has an adapter of peft, or LoRA matrices of whatever origin, frozen or not."""
    return is_adapted(model) or any(re.search(r"(^|\.)lora_", name) for name, _ in model.named_parameters())


def adapted(model: Any, arguments: Mapping[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """A model with a new adapter, and the entries of a run's problem from which the adapter can be made again.

    Args:
        model: A model without an adapter.
        arguments: `rank`, `alpha` and `targets` of `make_adapter`.
        seed: The seed of the run.
    """
    made = make_adapter(model, **arguments, seed=seed)
    (config,) = made.peft_config.values()
    targets = config.target_modules
    entries = {"rank": config.r, "alpha": config.lora_alpha, "targets": sorted(targets)}
    return made, {f"lora_{name}": value for name, value in entries.items()}


def adapted_as(model: Any, header: Mapping[str, Any]) -> Any:
    """The model with the adapter that a run made for it, if it made one; from the header of its journal."""
    problem = header.get("problem")
    if not isinstance(problem, Mapping) or "lora_rank" not in problem or has_adapter(model):
        return model
    arguments = {name: problem[f"lora_{name}"] for name in ("rank", "alpha", "targets")}
    return make_adapter(model, **arguments, seed=header["seed"])


def base_name(folder: Path) -> str:
    """The base model that an adapter names.

    Raises:
        FileNotFoundError: It names a folder that does not exist, or none.
    """
    named = str(json.loads((folder / CONFIG_FILE).read_text()).get("base_model_name_or_path") or "")
    if not named:
        raise FileNotFoundError(f"Adapter {str(folder)!r} does not name its base model in {CONFIG_FILE}; add it there.")
    for place in (Path(named).expanduser(), folder / named):
        if place.is_dir():
            return str(place.resolve())
    if named.startswith((".", "~", "/")) or named.count("/") > 1:
        raise FileNotFoundError(
            f"The base model {named!r} of adapter {str(folder)!r} is not there; restore it, or correct its path in "
            f"{CONFIG_FILE}."
        )
    return named


def load_adapter(folder: Path, base: Any) -> Any:
    """An adapter around its base model, in evaluation mode; the adapter alone requires grad.

    Args:
        folder: As peft's `save_pretrained` wrote it.
        base: The base model that it names.

    Raises:
        ModuleNotFoundError: There is no peft.
        ValueError: The adapter is of another base model.
    """
    peft = _peft("This model is an adapter, which is loaded by")
    where = f"Adapter {str(folder)!r} is of another base model than {type(base).__name__} {base.name_or_path!r}"
    made = folder / BASE_FILE
    now = sketch(base)
    if made.is_file() and (name := _apart(json.loads(made.read_text()), now)):
        raise ValueError(f"{where}: their weights {name!r} differ. Load it with the base that it was trained on.")
    config = peft.PeftConfig.from_pretrained(str(folder))
    prompts = bool(config.is_prompt_learning)
    try:
        with warnings.catch_warnings():  # of keys that are missing, which are refused below
            warnings.simplefilter("ignore")
            model = peft.PeftModel.from_pretrained(base, str(folder), is_trainable=not prompts)
    except (RuntimeError, ValueError, AttributeError, KeyError, TypeError) as error:
        reason = next(line.strip() for line in reversed(str(error).strip().splitlines()) if line.strip())
        raise ValueError(f"{where}: {reason}") from error
    mine = set(peft.get_peft_model_state_dict(model))
    theirs = set(peft.utils.save_and_load.load_peft_weights(str(folder), device="cpu"))
    kept = set(model.state_dict())
    apart = [*sorted(mine - theirs), *sorted(name for name in theirs - mine if name not in kept)]
    if apart:
        raise ValueError(f"{where}: {apart[0]!r} is in one of them alone.")
    _keep_base(model, now)
    return model.eval()


def sketch(model: Any) -> dict[str, list[float]]:
    """A few numbers of some tensors of a model, by which another one is told apart whatever their types."""
    named = dict(model.named_parameters())
    tensors = [n for n, p in named.items() if p.is_floating_point() and not p.is_meta and p.numel()]
    return sketch_of(tensors, named.__getitem__)


def sketch_of(names: Sequence[str], get: Callable[[str], Any]) -> dict[str, list[float]]:
    """The same of tensors by name."""
    import torch

    out = dict[str, list[float]]()
    for name in names[:: max(1, len(names) // _SKETCHED)]:
        flat = get(name).detach().reshape(-1)
        places = torch.linspace(0, len(flat) - 1, _NUMBERS, dtype=torch.float64).long()
        out[name] = [float(f"{v:.4g}") for v in flat[places.to(flat.device)].float().cpu().tolist()]
    return out


def _apart(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> str:
    """The first tensor of two sketches that differs by more than a 16-bit type rounds; empty if none does."""
    for name in one.keys() & other.keys():
        if any(abs(a - b) > 0.02 * max(abs(a), abs(b)) + 1e-6 for a, b in zip(one[name], other[name], strict=True)):
            return name
    return "" if one.keys() == other.keys() else next(iter(one.keys() ^ other.keys()))


def unsaved(model: Any, parameters: Mapping[str, torch.nn.Parameter]) -> str:
    """The first of some parameters that is not saved with a model's adapter; empty if all are, or there is none."""
    if not is_adapted(model):
        return ""
    peft = _peft("This model has an adapter, which is saved by")
    active = model.active_adapters if not isinstance(model.active_adapter, str) else [model.active_adapter]
    states = (peft.get_peft_model_state_dict(model, adapter_name=name, **saving(model)) for name in active)
    saved = {t.data_ptr() for state in states for t in _tensors(state)}
    prompts = getattr(model, "prompt_encoder", None)  # whose values are saved computed
    saved |= {p.data_ptr() for p in prompts.parameters()} if prompts is not None else set()
    return next((name for name, p in parameters.items() if p.data_ptr() not in saved), "")


def _tensors(state: Mapping[str, Any]) -> Iterable[torch.Tensor]:
    return (t for t in state.values() if hasattr(t, "data_ptr"))


def saving(model: Any) -> dict[str, Any]:
    """How peft is to save a model: of one that streams without the embedding below the adapter, which is not there."""
    return {"save_embedding_layers": False} if "_zo_streamed" in vars(model) else {}


def _keep_base(model: Any, base: dict[str, list[float]]) -> None:
    """Note what the adapter is of, for its folder: a path that holds in other folders, and a sketch."""
    model.base_sketch = base
    for config in model.peft_config.values():
        named = str(model.get_base_model().name_or_path or config.base_model_name_or_path or "")
        config.base_model_name_or_path = str(Path(named).resolve()) if named and Path(named).is_dir() else named or None


def _named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _peft(why: str) -> Any:
    try:
        import peft
        import peft.utils.save_and_load
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ModuleNotFoundError(
            f"{why} peft, which is not installed: pip install 'blackbox-zo[peft]'", name=None
        ) from error
    return peft
