"""The address at which one study is served, or several, each under its name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Protocol as Interface

import uvicorn
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from oracles.ranking.study._address import Address, hosts_of, public
from oracles.ranking.study._admin import Admin
from oracles.ranking.study._guard import Guard
from oracles.ranking.study._protocol import Protocol
from oracles.ranking.study._socket import bound

__all__ = ["StudyServer"]


class Served(Interface):
    """A study that is served.

    Attributes:
        app: Answers its requests.
        admin: Its researcher's page.
    """

    app: ASGIApp
    admin: Admin


class StudyServer:
    """Serves several studies at one address, each under its name: pass it to `HumanRanking(host=..., name=...)`.

    The researcher's page of each lists them all. Each has a store of its own.

    Args:
        port: Port of the pages; 0 takes any.
        host: Address to bind; other machines reach the pages only if this is changed.
        public_url: Where people find the pages if a proxy with TLS stands before them.
        allowed_hosts: Further host names under which browsers may reach them.

    Attributes:
        port: The port.
        studies: The studies that are served, by name.

    Raises:
        ValueError: The URL is none.
        OSError: The port is in use.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        public_url: str | None = None,
        allowed_hosts: Sequence[str] = (),
        *,
        last: int | None = None,
    ) -> None:
        self.base = None if public_url is None else public(public_url)
        self._host = host
        self._socket = bound(host, port, last)
        self.port = int(self._socket.getsockname()[1])
        self.hosts = hosts_of(host, self.port, allowed_hosts)
        self.studies: dict[str, Served] = {}
        self._unknown = Guard(_unknown, self.hosts, self.base, lambda headers: None)
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            http=Protocol,
            access_log=False,
            log_level="warning",
            lifespan="off",
            timeout_keep_alive=75,
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), daemon=True, name="ranking-page"
        )

    def local(self, name: str) -> str:
        """Where browsers on this machine find a study."""
        host = "127.0.0.1" if self._host in ("", "0.0.0.0", "::") else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{_path(name)}"

    def public(self, name: str) -> Address | None:
        """Where people find a study through the proxy; None without one."""
        return self.base and Address(self.base.scheme, self.base.host, self.base.prefix + _path(name))

    def add(self, name: str, server: Served) -> None:
        """Serve a study.

        Raises:
            ValueError: The name is taken, or cannot be part of a path.
        """
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name):
            raise ValueError(f"A study's name must be 1 to 40 letters, digits, - or _, got {name!r}.")
        if name in self.studies:
            raise ValueError(f"The server has a study {name!r} already.")
        self.studies[name] = server
        if not self._thread.is_alive():  # who came before has waited
            self._thread.start()
            while not self._uvicorn.started and self._thread.is_alive():
                time.sleep(0.005)

    def remove(self, name: str) -> None:
        """Serve a study no longer."""
        self.studies.pop(name, None)

    def close(self) -> None:
        """Answer what is under way, and stop."""
        self._uvicorn.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)
        self._socket.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        alone = self.studies.get("")
        if alone is not None or scope["type"] != "http":
            return await (self._unknown if alone is None else alone.app)(scope, receive, send)
        path: str = scope["path"]
        if self.base is not None and path.startswith(f"{self.base.prefix}/"):
            path = path.removeprefix(self.base.prefix)
        name, slash, rest = path[1:].partition("/")
        server = self.studies.get(name)
        if server is None:
            return await self._unknown(scope, receive, send)
        if not slash:
            return await RedirectResponse(f"{self.base.prefix if self.base else ''}/{name}/", 308)(scope, receive, send)
        inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
        return await server.app(inner, receive, send)


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    """Nothing is here. A page that has an answer to send keeps it: its study may be about to start."""
    text = "No study runs here at the moment."
    status = 503 if scope["method"] == "POST" else 404
    html = b"text/html" in dict(scope["headers"]).get(b"accept", b"")  # else a script asks, not a person
    reply: Response = HTMLResponse(_PAGE.format(text), status) if html else JSONResponse({"error": text}, status)
    await reply(scope, receive, send)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>No study</title>
<main><h1>{}</h1><p>Check the address, or open it again later.</p></main>
</html>
"""


def _path(name: str) -> str:
    return f"/{name}" if name else ""
