"""The page's server: Starlette's routes, and uvicorn on a thread."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import uvicorn
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from oracles.ranking.study._address import Address, hosts_of
from oracles.ranking.study._admin import Admin
from oracles.ranking.study._api import Api
from oracles.ranking.study._guard import Guard
from oracles.ranking.study._media import MOST_BYTES
from oracles.ranking.study._people import Rater
from oracles.ranking.study._progress import Progress
from oracles.ranking.study._protocol import Protocol
from oracles.ranking.study._socket import bound
from oracles.ranking.study._store import FINISHED, PAUSED, RUNNING
from oracles.ranking.study._study import Study
from oracles.ranking.study._trouble import StoreUnavailable

__all__ = ["Server"]

_PAGE = Path(__file__).parent / "page"
_MIMES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_STATIC = {path.name: _MIMES[path.suffix] for path in _PAGE.iterdir() if path.suffix in _MIMES}
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; font-src data:"
_AGES = 400 * 24 * 3600

LINGER = 1.0
"""Seconds that a stopping server waits for open pages to learn of it; they poll four times a second."""


class Server:
    """Serves a study until it is stopped.

    Args:
        study: The study whose rounds are shown.
        host: Address to bind.
        port: 0 takes the one of last time if it is free, else any.
        address: The public address, if a proxy stands before the server.
        allowed_hosts: Further names under which browsers may call it.
        title: Of the page.
        question: What the person is asked.
        rounds: How many rounds are planned; None is not known.
        consent: HTML that people read before they begin; empty for none.
        reveal: Whether raters see the winners and the agreement while the study runs.

    Attributes:
        state: "running", or what `stop` made of it.

    Raises:
        OSError: The port is in use.
    """

    def __init__(
        self,
        study: Study,
        host: str,
        port: int,
        address: Address | None = None,
        allowed_hosts: Sequence[str] = (),
        title: str = "Which is best?",
        question: str = "",
        rounds: int | None = None,
        consent: str = "",
        reveal: bool = False,
    ) -> None:
        self.study, self.store, self.public = study, study.store, address
        self.title, self.question, self.consent, self.reveal = title, question, consent, reveal
        self.state = RUNNING
        self.progress = Progress(study, rounds)
        self._socket = bound(host, port, self.store.port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self.store.port = self.port
        self.cookie = "ranking_" + hashlib.sha256(self.store.secret.encode()).hexdigest()[:10]
        self._known: dict[str, float] = {}
        self._pages = Environment(loader=FileSystemLoader(_PAGE), autoescape=select_autoescape(("html",)))
        self.api, self.admin = Api(self), Admin(self)
        routes = [
            Route("/join/{token}", self._join, methods=["GET", "POST"]),
            Route("/", self._index),
            *self.api.routes(),
            *self.admin.routes(),
            Route("/media/{media_id}", self._media),
            Route("/{name}", self._static),
        ]
        hosts = hosts_of(host, self.port, allowed_hosts)
        guard = Middleware(Guard, hosts=hosts, address=address, session=self._recent)
        app = Starlette(routes=routes, middleware=[guard], exception_handlers={StoreUnavailable: self._trouble})
        config = uvicorn.Config(
            app, http=Protocol, access_log=False, log_level="warning", lifespan="off", timeout_keep_alive=75
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), daemon=True, name="ranking-page"
        )
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            time.sleep(0.005)

    @property
    def local(self) -> str:
        """Where browsers on this machine find it."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def address(self) -> str:
        """Where people find it: the public URL, or that on this machine."""
        return self.local if self.public is None else self.public.url

    def stop(self, finished: bool = False) -> None:
        """Tell the pages that the study is paused or finished, answer what is under way, and stop."""
        self.state = FINISHED if finished else PAUSED
        until = time.monotonic() + LINGER
        while self.api.listening(until - 2 * LINGER) and time.monotonic() < until:
            time.sleep(0.01)
        self._uvicorn.should_exit = True
        self._thread.join(5)
        self._socket.close()

    # ------------------------------------------------------------------------------------------------- visitors

    def visitor(self, request: Request) -> tuple[str, Rater] | None:
        """The cookie of a known visitor, and who they are."""
        session = request.cookies.get(self.cookie, "")
        rater = self.store.people.find(session) if session else None
        if rater is None:
            self._known.pop(session, None)
            return None
        self._known[session] = time.monotonic()
        return session, rater

    def _recent(self, headers: Headers) -> str | None:
        """The session of a request, if it was found valid before; no query, so that floods are cheap to refuse."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return found.value if found is not None and found.value in self._known else None

    def csrf(self, session: str) -> str:
        """The token that a page of a session sends with each POST."""
        return hmac.new(self.store.secret.encode(), session.encode(), hashlib.sha256).hexdigest()

    def _join(self, request: Request) -> Response:
        """A link. Whoever only looks at it (a preview, a robot) changes nothing; the button uses it up."""
        token = request.path_params["token"]
        if request.method == "POST":
            session = self.store.people.admit(token)
            if session is not None:
                return self.let_in(RedirectResponse("../", 303), request, self.cookie, session)
        elif self.store.people.waits(token):
            button = "I agree, and begin" if self.consent else "Begin"
            return self.at_door(button=button, consent=self.consent, base="../")
        if self.visitor(request) is not None:
            return self.at_door(onward=True, base="../")
        text = "This link was used before, or is not one of this study's. Ask for a new one."
        return self.at_door(text, 403, base="../")

    def _cookie_for(self, origin: str) -> dict[str, Any]:
        """Path and protection of a cookie, by the address under which a browser came."""
        if self.public is None or origin != self.public.origin:
            return {"path": "/", "secure": False}
        return {"path": f"{self.public.prefix}/", "secure": self.public.scheme == "https"}

    def let_in(self, response: Response, request: Request, name: str, session: str) -> Response:
        """Give a browser that came by a link its cookie."""
        where = self._cookie_for(request.headers["origin"])
        response.set_cookie(name, session, max_age=_AGES, httponly=True, samesite="strict", **where)
        return response

    def page(self, name: str, **values: Any) -> str:
        """A page's HTML."""
        about = {"title": self.title, "question": self.question, "study": self.cookie}
        return self._pages.get_template(name).render(**about, **values)

    def at_door(self, message: str = "", status: int = 200, *, base: str = "", **more: Any) -> Response:
        page = self.page("door.html", message=message, base=base, **more)
        return HTMLResponse(page, status, {"referrer-policy": "same-origin"})  # or its form would come from nowhere

    def _trouble(self, request: Request, error: Exception) -> Response:
        """The store cannot be used now; pages keep what they sent, and try again."""
        text = "The study cannot store answers at the moment."  # the log says why
        if "/api/" in request.url.path:
            return JSONResponse({"error": text}, 503)
        return self.at_door(f"{text} Open this address again in a while.", 503)

    def _index(self, request: Request) -> Response:
        found = self.visitor(request)
        if found is None:
            return self.at_door("Open the link that you were given; it works once, for one browser.", 403)
        session, rater = found
        return HTMLResponse(self.page("page.html", csrf=self.csrf(session), rater=rater.name or ""))

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return self.at_door("There is no such page.", 404)
        return Response((_PAGE / name).read_bytes(), media_type=_STATIC[name])

    def _media(self, request: Request) -> Response:
        if self.visitor(request) is None and not self.admin.leads(request):
            return Response(status_code=403)
        self.api.fetched(request.cookies.get(self.cookie, ""))
        media = self.store.gallery.media(request.path_params["media_id"])
        if media is None:
            return Response(status_code=404)
        assert len(media.data) <= MOST_BYTES
        sandboxed = media.kind == "html" or media.mime == "image/svg+xml"
        headers = {"cache-control": "private, max-age=31536000, immutable"}
        if sandboxed:
            headers["content-security-policy"] = _SANDBOX
            headers["x-frame-options"] = "SAMEORIGIN"
        return Response(media.data, media_type=media.mime, headers=headers)
