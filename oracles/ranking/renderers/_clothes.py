"""The models of `fashion`: a generator of clothes, and a classifier. Importing this imports torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from blackbox_zo._typing import Floats
from oracles.words import span

__all__ = ["LENGTH", "Classifier", "D", "Generator"]

D = 8
"""Dimension of a latent; even."""

LENGTH = 3.0
"""Maximum norm of a latent; draws from N(0, I) have norms of about √D = 2.8."""

_COUPLINGS = 6
_SPREAD = 0.12  # standard deviation of a pixel about its mean; a small one gives sharp pictures
_Bytes = NDArray[np.uint8]


@final
class Generator(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014) whose prior is a flow that maps x ~ N(0, I) to codes z.

    The flow consists of affine couplings (Dinh et al. 2017): with z in halves (a, b), `b <- b exp(s(a)) + t(a)`, then
    the halves are swapped. It is trained together with encoder and decoder, by the bound

    `E |picture - decoder(z)|^2 / (2 spread^2) + E[log q(z | picture) - log p(z)]`,

    so that codes fill all of N(0, I), and nearly every x decodes to a clear picture. The encoder is not kept. An x
    with a norm above `LENGTH` is rescaled to it: the flow has seen nothing beyond.
    """

    def __init__(self) -> None:
        super().__init__()
        self.decoder = _mlp(D, 256, 512, 784)
        self.couplings = nn.ModuleList(_mlp(D // 2, 64, D) for _ in range(_COUPLINGS))
        for coupling in self.couplings:  # the flow starts as the identity
            for parameter in list(coupling.parameters())[-2:]:
                nn.init.zeros_(parameter)

    def of(self, x: Any) -> Floats:
        """Decode latents, shape (..., D), to pictures, shape (..., 28, 28)."""
        latents = torch.tensor(np.asarray(x, dtype=np.float32))
        latents = latents * (LENGTH / latents.norm(dim=-1, keepdim=True)).clamp(max=1.0)
        with torch.no_grad():
            return _array(torch.sigmoid(self.decoder(self.codes(latents))).reshape(*latents.shape[:-1], 28, 28))

    def codes(self, x: Tensor) -> Tensor:
        """The flow, from latents to codes, shape (..., D)."""
        a, b = x.chunk(2, -1)
        for coupling in self.couplings:
            s, t = _coupled(coupling, a)
            a, b = b * s.exp() + t, a
        return torch.cat((a, b), -1)

    def latents(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse flow, and the logarithm of its determinant, shape (...)."""
        a, b = z.chunk(2, -1)
        log = torch.zeros(z.shape[:-1])
        for coupling in reversed(self.couplings):
            s, t = _coupled(coupling, b)
            a, b = b, (a - t) * (-s).exp()
            log = log - s.sum(-1)
        return torch.cat((a, b), -1), log

    def learn(self, pictures: _Bytes, labels: _Bytes, epochs: int) -> None:
        """Train on pictures, shape (n, 28, 28)."""
        encoder = _mlp(784, 512, 256, 2 * D)

        def losses() -> Iterator[Tensor]:
            for picture, _ in _batches(pictures, labels, epochs, 256):
                mean, log_variance = encoder(picture).chunk(2, -1)
                noise = torch.randn_like(mean)
                z = mean + noise * (log_variance / 2).exp()
                x, log = self.latents(z)
                error = (picture - torch.sigmoid(self.decoder(z))).square().sum(-1) / (2 * _SPREAD**2)
                excess = (x.square() - noise.square() - log_variance).sum(-1) / 2 - log
                yield (error + excess).mean()

        _descend(nn.ModuleList((encoder, self)), losses(), 3e-3, _count(pictures, epochs, 256))


@final
class Classifier(nn.Module):
    """Two convolutions and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, 2, 2), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Flatten(),
            nn.Dropout(0.1), nn.Linear(32 * 7 * 7, 128), nn.GELU(), nn.Linear(128, 10),
        )  # fmt: skip

    def of(self, pictures: Any) -> Floats:
        """Log-probabilities, shape (..., 10), of pictures with values in [0, 1], shape (..., 28, 28)."""
        seen = torch.tensor(np.asarray(pictures, dtype=np.float32))
        with torch.no_grad():
            logits = self.layers(seen.reshape(-1, 1, 28, 28)).double()
        return _array(logits.log_softmax(-1).reshape(*seen.shape[:-2], 10))

    def learn(self, pictures: _Bytes, labels: _Bytes, epochs: int) -> None:
        """Train on pictures, shape (n, 28, 28), and their labels, shape (n,)."""
        losses = (
            functional.cross_entropy(self.layers(x.reshape(-1, 1, 28, 28)), y)
            for x, y in _batches(pictures, labels, epochs, 128)
        )
        _descend(self, losses, 3e-3, _count(pictures, epochs, 128))


def _mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _coupled(coupling: nn.Module, half: Tensor) -> tuple[Tensor, Tensor]:
    """The log-scale, in (-2, 2), and the shift."""
    s, t = coupling(half).chunk(2, -1)
    return 2 * torch.tanh(s / 2), t


def _count(pictures: _Bytes, epochs: int, size: int) -> int:
    return epochs * max(1, len(pictures) // size)


def _batches(pictures: _Bytes, labels: _Bytes, epochs: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures, shape (b, 784), and labels, shape (b,), in a new order each epoch, last incomplete batch dropped.

    Each epoch is told on stderr, with the time that is left.
    """
    x, y = torch.tensor(pictures).reshape(-1, 784), torch.tensor(labels).long()
    begun = time.monotonic()
    for epoch in range(epochs):
        if epoch:
            left = (time.monotonic() - begun) / epoch * (epochs - epoch)
            print(f"epoch {epoch} of {epochs} is done: about {span(left)} left", file=sys.stderr, flush=True)
        for chosen in torch.split(torch.randperm(len(x)), size)[: _count(pictures, 1, size)]:
            yield x[chosen] / 255, y[chosen]


def _descend(model: nn.Module, losses: Iterable[Tensor], rate: float, steps: int) -> None:
    """Train with Adam; the learning rate rises to `rate`, then falls."""
    adam = torch.optim.Adam(model.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps + 1)
    for loss in losses:
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        cycle.step()


def _array(tensor: Tensor) -> Floats:
    out: Floats = tensor.double().numpy()
    return out
