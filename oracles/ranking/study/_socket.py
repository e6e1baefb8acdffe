"""The listening socket of the page's server."""

from __future__ import annotations

import socket

__all__ = ["bound"]


def bound(host: str, port: int, last: int | None) -> socket.socket:
    """A listening socket.

    Args:
        host: The address.
        port: The port; 0 takes the last one used if it is free, else any.
        last: The port used last.

    Raises:
        OSError: The port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (port,) if port or not last else (last, 0):
        # asyncio disables Nagle's algorithm only if the protocol is given; without that every reply is 40 ms late
        out = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            out.bind((host, number))
            out.listen(128)
            return out
        except OSError as error:
            out.close()
            if number == 0 or port:
                raise OSError(
                    f"Port {port} of {host} cannot be used: {error.strerror}. Choose another, or 0."
                ) from error
    raise AssertionError
