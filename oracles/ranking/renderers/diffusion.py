"""Pictures of a `diffusers` pipeline, steered by its noise (`Latent`) or by the embedding of a prompt."""

from __future__ import annotations

import inspect
import threading
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats
from blackbox_zo.randomness import Key, normals

__all__ = ["Latent", "PromptEmbedding"]

_OURS = ("generator", "latents", "num_images_per_prompt", "output_type", "prompt", "prompt_embeds", "return_dict")

_drawing = threading.Lock()
"""Held while a pipeline runs: its scheduler has state, and renderers may share the pipeline."""


@final
class Latent:
    """`render(x)`: the picture that a pipeline generates for a prompt, starting from the noise x.

    Pipelines expect noise of independent N(0, 1) numbers, whose norm is close to √d. A search leaves that shell, and
    noise of another norm gives grey or broken pictures. So x is first rescaled to the norm of `x0`, and only its
    direction counts. All other randomness comes from `seed`, so x alone determines the picture.

    With `directions=k`, the noise is x0 + (scale ‖x0‖ / √k) Σᵢ xᵢ vᵢ, with orthonormal v₁ … vₖ drawn from `seed`: an x
    of independent N(0, 1) numbers moves it by about `scale` times its norm, for any k. People who rank 8 pictures per
    round can steer some 10 to 50 numbers, not the 16,384 of a picture of 512 pixels.

    The constructor runs the pipeline for one step, to find the shape of its noise. Renderers that share a pipeline take
    turns, even across threads.

    Args:
        pipeline: A `diffusers` pipeline for one picture, with the arguments `latents` and `output_type`.
        prompt: The prompt.
        directions: k, the size of x; None makes x the noise itself.
        scale: With `directions`, how far x moves the noise; 1 is 45 degrees.
        seed: Seed of the noise, the directions, and the scheduler.
        **call: Further arguments of the pipeline, such as `height` or `num_inference_steps`.

    Attributes:
        x0: The starting point. Zeros, shape (k,), or the noise, in the shape for one picture: what the pipeline itself
            draws with `torch.Generator().manual_seed(seed)`, unless it rearranges the noise, as Flux does.

    Raises:
        TypeError: The pipeline lacks the arguments.
    """

    def __init__(
        self,
        pipeline: Any,
        prompt: str,
        *,
        directions: int | None = None,
        scale: float = 1.0,
        seed: int = 0,
        **call: Any,
    ) -> None:
        self._run = _Run("Latent", pipeline, prompt, "latents", seed, call)
        self._noise = self._run.noise()
        self._space = _Space("Latent", self._noise, directions, scale, seed)
        self._length = np.linalg.norm(self._space.base)
        self.x0 = self._space.x0

    def __call__(self, x: Any) -> Any:
        """The picture of x.

        Raises:
            ValueError: x differs from `x0` in shape, is not finite, or is 0, which has no direction.
        """
        noise = self._space.point(x)
        length = np.linalg.norm(noise)
        if length == 0:
            raise ValueError("`x` is 0, which has no direction; start from `x0`.")
        return self._run(latents=_tensor(noise * (self._length / length), self._noise))


@final
class PromptEmbedding:
    """`render(x)`: the picture that a pipeline generates with x in place of the prompt's embedding.

    All randomness comes from `seed`, so x alone determines the picture. Everything else that the pipeline derives from
    the prompt (a pooled embedding, a mask) stays fixed.

    With `directions=k`, the embedding is x0 + (scale ‖x0‖ / √k) Σᵢ xᵢ vᵢ, with orthonormal v₁ … vₖ drawn from `seed`:
    an x of independent N(0, 1) numbers changes it by about `scale` times its root mean square. See `Latent` for why.

    Args:
        pipeline: A `diffusers` pipeline for one picture, with the argument `prompt_embeds` and a method
            `encode_prompt`.
        prompt: The prompt whose embedding x replaces or moves away from.
        directions: k, the size of x; None makes x the embedding itself.
        scale: With `directions`, how far x moves the embedding.
        seed: Seed of the directions and of the pipeline.
        **call: Further arguments of the pipeline, such as `height`, `negative_prompt` or `prompt_2`.

    Attributes:
        x0: The starting point. Zeros, shape (k,), or the embedding, shape (tokens, width).

    Raises:
        TypeError: The pipeline lacks the argument or the method, or its embedding is not an array.
    """

    def __init__(
        self,
        pipeline: Any,
        prompt: str,
        *,
        directions: int | None = None,
        scale: float = 0.5,
        seed: int = 0,
        **call: Any,
    ) -> None:
        self._run = _Run("PromptEmbedding", pipeline, prompt, "prompt_embeds", seed, call)
        self._embedding, self._companion = self._run.embedded()
        self._space = _Space("PromptEmbedding", self._embedding, directions, scale, seed)
        self.x0 = self._space.x0

    def __call__(self, x: Any) -> Any:
        """The picture of x.

        Raises:
            ValueError: x differs from `x0` in shape or is not finite.
        """
        return self._run(prompt_embeds=_tensor(self._space.point(x), self._embedding), **self._companion)


class _Space:
    """The space of x: all numbers of `base`, or coordinates along k directions from it."""

    def __init__(self, owner: str, base: Any, directions: int | None, scale: float, seed: int) -> None:
        check_positive(owner, scale=scale)
        self.base: Floats = base[0].double().cpu().numpy()
        self.basis: Floats | None = None
        self.x0 = self.base.copy()
        if directions is None:
            return
        check_at_least(owner, 1, directions=directions)
        if directions > self.base.size:
            raise ValueError(f"`{owner}(directions=...)` must be at most {self.base.size}, got {directions}.")
        drawn = normals(Key(seed, 0), f"{owner} directions", directions, self.base.size)
        self.basis = np.linalg.qr(drawn.T)[0] * (scale * np.linalg.norm(self.base) / np.sqrt(directions))
        self.x0 = np.zeros(directions)

    def point(self, x: Any) -> Floats:
        """The point of x, in the shape of `base`."""
        x = np.asarray(x, dtype=np.float64)
        if x.shape != self.x0.shape:
            raise ValueError(f"`x` must have the shape {self.x0.shape}, got {x.shape}.")
        if not np.isfinite(x).all():
            raise ValueError("`x` must be finite; it has NaN or infinite numbers.")
        out: Floats = x if self.basis is None else self.base + (self.basis @ x).reshape(self.base.shape)
        return out


class _Run:
    """A pipeline with fixed randomness and all arguments fixed but one."""

    def __init__(self, owner: str, pipeline: Any, prompt: str, steers: str, seed: int, call: dict[str, Any]) -> None:
        import torch

        name = type(pipeline).__name__
        known = inspect.signature(type(pipeline).__call__).parameters
        for wanted in ("prompt", steers, "output_type"):
            if wanted not in known:
                raise TypeError(f"`{owner}` cannot steer a `{name}`: it has no argument `{wanted}`.")
        if not isinstance(prompt, str):
            raise TypeError(f"`{owner}(prompt=...)` must be one text, got {prompt!r:.60}.")
        for given in call:
            if given in _OURS:
                raise TypeError(f"`{owner}({given}=...)` is not allowed; the renderer sets it.")
            if given not in known:
                raise TypeError(f"`{owner}({given}=...)`: `{name}` has no such argument.")
        self.owner, self.pipeline, self.prompt, self.call, self.known = owner, pipeline, prompt, call, known
        self.generator = torch.Generator().manual_seed(seed)
        self.other = int.from_bytes(Key(seed, 0).digest("pipeline", size=7), "little")

    def __call__(self, **steered: Any) -> Any:
        given = dict(self.call)
        if "prompt_embeds" in steered:
            given = {name: value for name, value in given.items() if not name.startswith("prompt_")}
        else:
            given["prompt"] = self.prompt
        return self._first(output_type="pil", **given, **steered)[0]

    def _first(self, **given: Any) -> Any:
        import torch

        device = self.pipeline._execution_device
        with _drawing, torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.other)  # some schedulers draw without the generator
            return self.pipeline(generator=self.generator.clone_state(), return_dict=False, **given)[0]

    def noise(self) -> Any:
        """The initial noise, in the shape and type that the pipeline has after one step."""
        import torch

        given = {"prompt": self.prompt, **self.call}
        if "callback_on_step_end" in self.known:
            given.setdefault("callback_on_step_end", _interrupt)
        like = self._first(output_type="latent", **given)
        noise = torch.randn(like.shape, generator=self.generator, dtype=like.dtype)  # the scheduler draws after it
        return noise.to(like.device)

    def embedded(self) -> tuple[Any, dict[str, Any]]:
        """The prompt's embedding, and its pooled embedding or mask if there is one."""
        import torch

        encode = getattr(self.pipeline, "encode_prompt", None)
        if encode is None:
            name = type(self.pipeline).__name__
            raise TypeError(f"`{self.owner}` cannot steer a `{name}`: it has no method `encode_prompt`.")
        offered = {
            "prompt_2": None,
            "prompt_3": None,
            **self.call,
            "prompt": self.prompt,
            "device": self.pipeline._execution_device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": False,
        }
        wanted = inspect.signature(encode).parameters
        with _drawing, torch.no_grad():
            embedding, *rest = encode(**{name: value for name, value in offered.items() if name in wanted})
        if not isinstance(embedding, torch.Tensor):
            raise TypeError(
                f"`{self.owner}` cannot steer a `{type(self.pipeline).__name__}`: its embedding is not an array."
            )
        flat = [part for part in rest if isinstance(part, torch.Tensor) and part.ndim == 2]
        names = [n for n in ("pooled_prompt_embeds", "prompt_embeds_mask", "prompt_attention_mask") if n in self.known]
        return embedding, dict(zip(names[:1], flat[:1], strict=False))


def _interrupt(pipeline: Any, step: int, time: Any, tensors: Any) -> Any:
    """Skip all further steps of this run."""
    pipeline._interrupt = True
    return tensors


def _tensor(values: Floats, like: Any) -> Any:
    """The numbers of one picture, with the type and device of the pipeline's."""
    import torch

    return torch.from_numpy(values)[None].to(like.device, like.dtype)
