"""A study's pages: Starlette's routes."""

from __future__ import annotations

import time
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from oracles.ranking.study._admin import Admin
from oracles.ranking.study._api import Api
from oracles.ranking.study._guard import Guard
from oracles.ranking.study._host import StudyServer
from oracles.ranking.study._media import MOST_BYTES
from oracles.ranking.study._overview import Overview
from oracles.ranking.study._site import PAGES, Site
from oracles.ranking.study._store import FINISHED, PAUSED
from oracles.ranking.study._study import Study
from oracles.ranking.study._trouble import StoreUnavailable

__all__ = ["Server"]

_MIMES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_STATIC = {path.name: _MIMES[path.suffix] for path in PAGES.iterdir() if path.suffix in _MIMES}
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; font-src data:"

LINGER = 1.0
"""Seconds that a stopping server waits for open pages to learn of it; they poll four times a second."""


class Server:
    """Serves a study until it is stopped.

    Args:
        study: The study whose rounds are shown.
        host: At what address.
        name: Under what name; empty if the address has this study alone.
        **about: Further arguments of `Site`.

    Attributes:
        site: What its requests share.
        host: Where it is served.
        app: Answers its requests.

    Raises:
        ValueError: The name is taken, or cannot be part of a path.
    """

    def __init__(self, study: Study, host: StudyServer, name: str = "", **about: Any) -> None:
        self.store, self.host, self._name = study.store, host, name
        self.site = Site(study, host.local(name), host.public(name), host.base, **about)
        seen = dict[int, float]()
        overview = Overview(self.site, seen)
        self.api = Api(self.site, seen, overview)
        self.admin = Admin(self.site, overview, self._beside)
        routes = [
            Route("/join/{token}", self._join, methods=["GET", "POST"]),
            Route("/", self._index),
            *self.api.routes(),
            *self.admin.routes(),
            Route("/media/{media_id}", self._media),
            Route("/{name}", self._static),
        ]
        guard = Middleware(Guard, hosts=host.hosts, address=host.public(name), session=self.site.recent)
        self.app: ASGIApp = Starlette(
            routes=routes, middleware=[guard], exception_handlers={StoreUnavailable: self._trouble}
        )
        host.add(name, self)

    def _beside(self) -> dict[str, Admin]:
        """All studies at this address, by name."""
        return {name: server.admin for name, server in list(self.host.studies.items())}

    def stop(self, finished: bool = False) -> None:
        """Tell the pages that the study is paused or finished, answer what is under way, and stop."""
        self.site.state = FINISHED if finished else PAUSED
        until = time.monotonic() + LINGER
        while self.api.listening(until - 2 * LINGER) and time.monotonic() < until:
            time.sleep(0.01)
        if self._name:  # else the server goes with it
            self.host.remove(self._name)

    # ------------------------------------------------------------------------------------------------- visitors

    def _join(self, request: Request) -> Response:
        """A link. Whoever only looks at it (a preview, a robot) changes nothing; the button uses it up."""
        token = request.path_params["token"]
        if request.method == "POST":
            session = self.store.people.admit(token)
            if session is not None:
                return self.site.let_in(RedirectResponse("../", 303), request, self.site.cookie, session)
        elif self.store.people.waits(token):
            button = "I agree, and begin" if self.site.consent else "Begin"
            return self.site.at_door(button=button, consent=self.site.consent, base="../")
        if self.site.visitor(request) is not None:
            return self.site.at_door(onward=True, base="../")
        text = "This link was used before, or is not one of this study's. Ask for a new one."
        return self.site.at_door(text, 403, base="../")

    def _trouble(self, request: Request, error: Exception) -> Response:
        """The store cannot be used now; pages keep what they sent, and try again."""
        text = "The study cannot store answers at the moment."  # the log says why
        if "text/html" not in request.headers.get("accept", ""):  # a script asks, not a person
            return JSONResponse({"error": text}, 503)
        return self.site.at_door(f"{text} Open this address again in a while.", 503)

    def _index(self, request: Request) -> Response:
        found = self.site.visitor(request)
        if found is None:
            return self.site.at_door("Open the link that you were given; it works once, for one browser.", 403)
        session, rater = found
        return HTMLResponse(self.site.page("page.html", csrf=self.site.csrf(session), rater=rater.name or ""))

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return self.site.at_door("There is no such page.", 404)
        return Response((PAGES / name).read_bytes(), media_type=_STATIC[name])

    def _media(self, request: Request) -> Response:
        if self.site.visitor(request) is None and not self.admin.leads(request):
            return Response(status_code=403)
        self.api.fetched(request.cookies.get(self.site.cookie, ""))
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
