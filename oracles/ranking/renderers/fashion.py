"""Clothes to steer: a small generator trained on Fashion-MNIST (Xiao et al. 2017), and a simulated person's wish.

blackbox-zo rank --render oracles.ranking.renderers.fashion:picture --store study.db

The generator is a variational autoencoder whose prior is a flow from N(0, I): a coupling flow learns the distribution
of the codes together with the codes, so that nearly every x is a picture. It has seen no labels.
The classifier has seen only real pictures, and only `Wanted` uses it. Both are trained when first needed, in some
minutes on one or two cores, and kept in a cache. They need torch and safetensors (`blackbox-zo[llm]`).
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from blackbox_zo._typing import Floats
from oracles._files import write

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["CLASSES", "DATA", "D", "Wanted", "classifier", "generator", "picture", "read"]

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
"""The names of the labels 0 to 9."""

D = 8
"""Dimension of x."""

DATA = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the files."""

_FILES = {part: (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")}
_VERSION = 1  # of models and training; change it to train again

_Folder = str | os.PathLike[str]
_Function = Callable[[Any], Floats]

_loading = threading.Lock()
_loaded: dict[tuple[str, Path, str], _Function] = {}


def read(part: Literal["train", "t10k"] = "train", data: _Folder | None = None) -> tuple[NDArray[np.uint8], ...]:
    """The pictures and labels of Fashion-MNIST.

    Args:
        part: "train", 60,000 pictures, or "t10k", 10,000 to test on.
        data: The folder with the four files; default `DATA`.

    Returns:
        Pictures, shape (n, 28, 28), and labels from 0 to 9, shape (n,).

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file has another format, or the two files do not match.
    """
    folder = _folder(data)
    images, labels = (_idx(folder / name, axes) for name, axes in zip(_FILES[part], (3, 1), strict=True))
    if images.shape[1:] != (28, 28) or len(images) != len(labels) or not len(labels) or labels.max() > 9:
        raise ValueError(f"The files {' and '.join(_FILES[part])} in {folder} do not match. {_advice()}")
    return images, labels


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The bytes of a gzipped idx file: 0, 0, 8 for bytes, the number of axes, each length in 4 bytes, the bytes."""
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"File {path} does not exist. {_advice()}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}. {_advice()}") from error
    start = 4 + 4 * axes
    shape = np.frombuffer(raw[4:start], ">u4").tolist() if len(raw) >= start else []
    if raw[:4] != bytes([0, 0, 8, axes]) or len(raw) != start + int(np.prod(shape)):
        raise ValueError(f"{path} is not an idx file of bytes with {axes} axes, or is truncated. {_advice()}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _advice() -> str:
    names = ", ".join(name for files in _FILES.values() for name in files)
    return f"Install Debian's package dataset-fashion-mnist, or give a folder with {names} as `data`."


def _folder(data: _Folder | None) -> Path:
    return DATA if data is None else Path(data).expanduser()


# ------------------------------------------------------------------------------------------------------------ models


def generator(data: _Folder | None = None, cache: _Folder | None = None, epochs: int = 8) -> _Function:
    """The generator, from the cache or newly trained.

    Args:
        data: As in `read`.
        cache: The folder of the cache; default `BLACKBOX_ZO_CACHE`, or else blackbox_zo in `XDG_CACHE_HOME` or
            ~/.cache.
        epochs: Number of training epochs.

    Returns:
        A function from latents, shape (..., D), to pictures, shape (..., 28, 28), with values in [0, 1]. Latents
        should look like draws from N(0, I); those with a norm above 3 are rescaled to norm 3.

    Raises:
        FileNotFoundError: There is neither a trained generator nor data to train it on.
        ValueError: A data file has another format.
    """
    from oracles.ranking.renderers._clothes import Generator

    return _load("generator", Generator, data, cache, epochs)


def classifier(data: _Folder | None = None, cache: _Folder | None = None, epochs: int = 6) -> _Function:
    """The classifier of pictures, from the cache or newly trained on real ones.

    Args:
        data: As in `read`.
        cache: As in `generator`.
        epochs: As in `generator`.

    Returns:
        A function from pictures, shape (..., 28, 28), to the log-probabilities of `CLASSES`, shape (..., 10).

    Raises:
        FileNotFoundError: There is neither a trained classifier nor data to train it on.
        ValueError: A data file has another format.
    """
    from oracles.ranking.renderers._clothes import Classifier

    return _load("classifier", Classifier, data, cache, epochs)


def _load(name: str, make: Callable[[], Any], data: _Folder | None, cache: _Folder | None, epochs: int) -> _Function:
    """The function of a model, from memory, from the cache, or newly trained."""
    import torch

    default = os.environ.get("BLACKBOX_ZO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "blackbox_zo")
    path = Path(default if cache is None else cache).expanduser() / f"fashion-{name}.safetensors"
    made_by = json.dumps({"version": _VERSION, "seed": 0, "epochs": epochs, "data": str(_folder(data).resolve())})
    with _loading:
        key = (name, path, made_by)
        if key not in _loaded:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = make()
                if not _restored(model, path, made_by):
                    pictures, labels = read("train", data)
                    n, minutes = len(pictures), max(1, round(epochs * len(pictures) * 4e-6))
                    print(
                        f"training on {n:,} pictures of clothes: about {minutes} min, once, for {path}", file=sys.stderr
                    )
                    model.learn(pictures, labels, epochs)
                    _keep(model, path, made_by)
            _loaded[key] = model.eval().requires_grad_(False).of
        return _loaded[key]


def _restored(model: Any, path: Path, made_by: str) -> bool:
    """Load this model's weights from the file; return whether that worked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != {"made by": made_by}:
                return False
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _keep(model: Any, path: Path, made_by: str) -> None:
    """Write the weights."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, save(model.state_dict(), {"made by": made_by}))


# ------------------------------------------------------------------------------------------------------- to look at


def picture(x: Any) -> Image:
    """The picture of a latent. The first call trains the generator if the cache has none.

    Args:
        x: Shape (D,), such as a draw from N(0, I).

    Returns:
        A greyscale PIL image, 224 x 224.

    Raises:
        ValueError: x has another shape.
        FileNotFoundError: As in `generator`.
    """
    from PIL import Image

    if np.shape(x) != (D,):
        raise ValueError(f"`picture(x)` must have x of shape ({D},), got {np.shape(x)}.")
    small = np.round(255 * generator()(x)).astype(np.uint8)
    return Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC)


picture.x0 = [0.0] * D  # type: ignore[attr-defined]


@final
class Wanted:
    """The objective of a person who looks for one class: minus the log-probability that the classifier gives it.

    Args:
        label: One of `CLASSES`, or its index.
        data: As in `read`.
        cache: As in `generator`.

    Raises:
        ValueError: The class is unknown.
        FileNotFoundError: As in `generator` and `classifier`.
    """

    def __init__(self, label: str | int, data: _Folder | None = None, cache: _Folder | None = None) -> None:
        if label not in CLASSES and label not in range(len(CLASSES)):
            raise ValueError(f"`Wanted(label)` must be from 0 to 9 or one of {', '.join(CLASSES)}, got {label!r}.")
        self.label = CLASSES.index(label) if isinstance(label, str) else int(label)
        self._draw, self._see = generator(data, cache), classifier(data, cache)

    def __call__(self, x: Any) -> Floats:
        """The values of latents, shape (..., D): shape (...), positive, in nats; lower is better."""
        return -self._log_probabilities(x)[..., self.label]

    def found(self, x: Any) -> NDArray[np.bool_]:
        """Whether this class is the most likely one, for the pictures of latents, shape (..., D)."""
        return np.asarray(self._log_probabilities(x).argmax(axis=-1) == self.label)

    def _log_probabilities(self, x: Any) -> Floats:
        return self._see(self._draw(x))
