"""A digest of a model's tensors, by which a journal knows the weights that its run began with."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from blackbox_zo.modules._select import plain_name

__all__ = ["digest_of", "of_buffers", "of_parameters"]


def of_parameters(model: torch.nn.Module) -> Iterator[bytes]:
    """The digest of each parameter, in order."""
    tensors = [(plain_name(name), p) for name, p in model.named_parameters() if not p.is_meta]
    with ThreadPoolExecutor(2) as pool:  # hashing lets other threads run
        yield from pool.map(lambda item: digest_of(*item), tensors)


def of_buffers(model: torch.nn.Module) -> Iterator[bytes]:
    """The digest of each buffer, in order.

    Buffers that are saved with the model, and whole numbers, count bit by bit. Floating-point buffers that are not
    saved (rotary frequencies, tables of positions) are computed again at each load, and another device rounds them
    otherwise: of these, shape and norm to three digits count.
    """
    for name, buffer, saved in _buffers(model):
        computed = not saved and (buffer.is_floating_point() or buffer.is_complex())
        yield _rounded(name, buffer) if computed else digest_of(name, buffer)


def _buffers(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Name, buffer, and whether it is saved; a shared one once."""
    seen = set[int]()
    for prefix, part in model.named_modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and not buffer.is_meta and id(buffer) not in seen:
                seen.add(id(buffer))
                yield plain_name(f"{prefix}.{name}".lstrip(".")), buffer, name not in part._non_persistent_buffers_set


def digest_of(name: str, t: torch.Tensor) -> bytes:
    """The digest of a tensor, bit by bit."""
    # CRC-32, as it tells other weights as surely (a changed number always), at several times the speed of a hash
    check = zlib.crc32(t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return hashlib.blake2b(f"{name}|{tuple(t.shape)}|{t.dtype}|{check}".encode(), digest_size=16).digest()


def _rounded(name: str, t: torch.Tensor) -> bytes:
    t = torch.view_as_real(t) if t.is_complex() else t
    norm = float(torch.linalg.vector_norm(t.detach().cpu().double()))
    return hashlib.blake2b(f"{name}|{tuple(t.shape)}|{norm:.2e}".encode(), digest_size=16).digest()
