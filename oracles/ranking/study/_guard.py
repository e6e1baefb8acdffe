"""Protects the page from everyone else who can reach its port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oracles.ranking.study._address import Address

__all__ = ["MOST_BODY", "Guard"]

MOST_BODY = 64 << 10
"""Maximum bytes of a POST."""

RATE, BURST = 40.0, 80.0
"""POSTs a second that one session, or one address without a session, may make in the long run, and at once."""

_FORMS = ("/join/", "/admin/join/")
"""The places that take a form."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src "
    "'self'; frame-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}


class Guard:
    """Refuses requests by host, origin, size and rate, and adds security headers to responses.

    Args:
        app: The guarded application.
        hosts: See `hosts_of`.
        address: The public address, if there is one. Its prefix is taken off the path of a request, unless the proxy
            has done so.
        session: From a request's headers to its session; None without a valid one.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        address: Address | None,
        session: Callable[[Headers], str | None],
    ) -> None:
        self.app, self.hosts, self.address, self.session = app, hosts, address, session
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
        prefix = "" if self.address is None else self.address.prefix
        if prefix and scope["path"] == prefix:
            return await RedirectResponse(f"{prefix}/", 308)(scope, receive, guarded)
        if prefix and scope["path"].startswith(f"{prefix}/"):
            path = scope["path"].removeprefix(prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
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
        host = headers.get("host", "").lower()
        if host not in self.hosts and (self.address is None or host != self.address.host):
            return 403, "This name is not one of the server's."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST are allowed."
        if scope["method"] == "POST":
            if not self._own(headers.get("origin", ""), host):
                return 403, "This request comes from another page."
            prefix = "" if self.address is None else self.address.prefix
            forms = (*_FORMS, *(f"{prefix}{path}" for path in _FORMS))
            kind = headers.get("content-type", "").split(";")[0].strip()
            if kind != "application/json" and not scope["path"].startswith(forms):
                return 415, "JSON is needed."
            client = scope.get("client") or ("", 0)
            if not self._allowed(self.session(headers) or client[0]):
                return 429, "Too many requests; wait a second."
        return None

    def _own(self, origin: str, host: str) -> bool:
        """Whether a page of this server sent a request; a proxy may change `Host`."""
        if self.address is not None and origin == self.address.origin:
            return True
        return host in self.hosts and origin in (f"http://{host}", f"https://{host}")

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
