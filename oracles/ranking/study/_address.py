"""Under which addresses a study is reached: its own port, and the public URL of a proxy before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "hosts_of", "public"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """A public address.

    Attributes:
        scheme: "http" or "https".
        host: As browsers send it in `Host`: with the port, unless that is the scheme's own.
        prefix: The path under which the study is found, such as "/study", without a slash at its end; may be empty.
    """

    scheme: str
    host: str
    prefix: str

    @property
    def origin(self) -> str:
        """As browsers send it in `Origin`."""
        return f"{self.scheme}://{self.host}"

    @property
    def url(self) -> str:
        """The whole, without a slash at its end."""
        return self.origin + self.prefix


def public(url: str) -> Address:
    """The parts of a public URL.

    Raises:
        ValueError: It is not an http or https URL of a host, with at most a path.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"`public_url` {url!r} is not a URL: {error}.") from None
    extra = parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme not in _PORTS or not parts.hostname or extra:
        raise ValueError(
            f"`public_url` must be like 'https://study.example.org' or 'https://example.org/study', got {url!r}."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port not in (None, _PORTS[parts.scheme]):
        host += f":{port}"
    return Address(parts.scheme, host.lower(), parts.path.rstrip("/"))


def hosts_of(host: str, port: int, more: Iterable[str] = ()) -> frozenset[str]:
    """What a browser may call this server in `Host`, besides its public address: no other name, whatever DNS says.

    Args:
        host: The address that it binds.
        port: Its port.
        more: Further names: with a port, or without one; then this port and none are both allowed, since a proxy on
            the standard port sends none.
    """
    names = {"localhost", "127.0.0.1", "[::1]"}
    if host not in ("", "0.0.0.0", "::"):
        names.add(f"[{host}]" if ":" in host else host)
    own = {f"{name}:{port}" for name in names} | (names if port in _PORTS.values() else set())
    return frozenset(n.lower() for n in own.union(*({name, f"{name}:{port}"} for name in more)))
