"""Protects the page from everyone else who can reach its port."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MOST_BODY", "Guard", "hosts_of"]

MOST_BODY = 64 << 10
"""Maximum bytes of a POST."""

RATE, BURST = 40.0, 80.0
"""POSTs per second allowed to one client on average, and in a burst."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src "
    "'self'; frame-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}


def hosts_of(host: str, port: int, more: Iterable[str]) -> frozenset[str]:
    """The values of `Host` that the server accepts; all other names are refused, against DNS rebinding."""
    names = {"localhost", "127.0.0.1", "[::1]", *more}
    if host not in ("", "0.0.0.0", "::"):
        names.add(f"[{host}]" if ":" in host else host)
    return frozenset(
        n.lower() for name in names for n in ((name, f"{name}:{port}") if port in (80, 443) else (f"{name}:{port}",))
    )


class Guard:
    """Refuses requests by host, origin, size and rate, and adds security headers to responses.

    Args:
        app: The guarded application.
        hosts: See `hosts_of`.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts
        self._lock, self._buckets = threading.Lock(), dict[str, tuple[float, float]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    if name not in out:
                        out[name] = value
                if "cache-control" not in out:
                    out["cache-control"] = "no-store"
            await send(message)

        refused = self._refused(scope, headers)
        if refused is not None:
            return await PlainTextResponse(refused[1], refused[0])(scope, receive, guarded)
        if scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                return await PlainTextResponse("Too large.", 413)(scope, receive, guarded)
            told = False

            async def replay() -> Message:
                nonlocal told
                if told:
                    return await receive()
                told = True
                return {"type": "http.request", "body": body, "more_body": False}

            return await self.app(scope, replay, guarded)
        return await self.app(scope, receive, guarded)

    def _refused(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if headers.get("host", "").lower() not in self.hosts:
            return 403, "This host name is not allowed."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST are allowed."
        if scope["method"] == "POST":
            origin = headers.get("origin")
            if origin is None or urlsplit(origin).netloc.lower() != headers["host"].lower():
                return 403, "This request comes from another page."
            if headers.get("content-type", "").split(";")[0].strip() != "application/json":
                return 415, "The request must be JSON."
            client = scope.get("client") or ("", 0)
            if not self._allowed(headers.get("cookie", "") or client[0]):
                return 429, "Too many requests; wait a second."
        return None

    def _allowed(self, who: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if len(self._buckets) > 10_000:
                self._buckets.clear()
            left, then = self._buckets.get(who, (BURST, now))
            left = min(BURST, left + (now - then) * RATE)
            self._buckets[who] = (left - 1 if left >= 1 else left, now)
            return left >= 1


async def _body(receive: Receive) -> bytes | None:
    """The body of a request, or None if it is larger than `MOST_BODY`."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        size += len(message.get("body", b""))
        if size > MOST_BODY:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
