"""What all requests of a study share: who visits, its pages, and how it stands."""

from __future__ import annotations

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from oracles.ranking.study._address import Address
from oracles.ranking.study._people import Rater
from oracles.ranking.study._progress import Progress
from oracles.ranking.study._store import RUNNING
from oracles.ranking.study._study import Study

__all__ = ["PAGES", "Site"]

PAGES = Path(__file__).parent / "page"
"""The folder of pages, scripts and styles."""

_AGES = 400 * 24 * 3600


class Site:
    """A study as its visitors find it.

    Args:
        study: The study whose rounds are shown.
        local: Where browsers on this machine find it.
        public: The public address, if a proxy stands before the server.
        base: The public address that all studies of the server share.
        title: Title of the page.
        question: Question put to the raters.
        rounds: Number of planned rounds; None if unknown.
        consent: HTML that people read before they begin; empty for none.
        reveal: Whether raters see the winners and the agreement while the study runs.

    Attributes:
        state: "running", "paused" or "finished".
    """

    def __init__(
        self,
        study: Study,
        local: str,
        public: Address | None = None,
        base: Address | None = None,
        title: str = "Which is best?",
        question: str = "",
        rounds: int | None = None,
        consent: str = "",
        reveal: bool = False,
    ) -> None:
        self.study, self.store, self.local, self.public, self.base = study, study.store, local, public, base
        self.title, self.question, self.consent, self.reveal = title, question, consent, reveal
        self.state, self.progress = RUNNING, Progress(study, rounds)
        self.cookie = "ranking_" + hashlib.sha256(self.store.secret.encode()).hexdigest()[:10]
        self._known: dict[str, float] = {}
        self._pages = Environment(loader=FileSystemLoader(PAGES), autoescape=select_autoescape(("html",)))

    @property
    def address(self) -> str:
        """Where people find it: the public URL, or that on this machine."""
        return self.local if self.public is None else self.public.url

    def visitor(self, request: Request) -> tuple[str, Rater] | None:
        """The cookie of a known visitor, and who they are."""
        session = request.cookies.get(self.cookie, "")
        rater = self.store.people.find(session) if session else None
        if rater is None:
            self._known.pop(session, None)
            return None
        self._known[session] = time.monotonic()
        return session, rater

    def recent(self, headers: Headers) -> str | None:
        """The session of a request, if it was found valid before; no query, so that floods are cheap to refuse."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return found.value if found is not None and found.value in self._known else None

    def csrf(self, session: str) -> str:
        """The token that a page of a session sends with each POST."""
        return hmac.new(self.store.secret.encode(), session.encode(), hashlib.sha256).hexdigest()

    def let_in(self, response: Response, request: Request, name: str, session: str, wide: bool = False) -> Response:
        """Give a browser that came by a link its cookie.

        Args:
            response: The reply.
            request: The request.
            name: Of the cookie.
            session: Its value.
            wide: Whether it is for all studies of the server.
        """
        where: dict[str, Any] = {"path": "/", "secure": False}
        public = self.base if wide else self.public
        if public is not None and request.headers["origin"] == public.origin:
            where = {"path": f"{public.prefix}/", "secure": public.scheme == "https"}
        response.set_cookie(name, session, max_age=_AGES, httponly=True, samesite="strict", **where)
        return response

    def page(self, name: str, **values: Any) -> str:
        """A page's HTML."""
        about = {"title": self.title, "question": self.question, "study": self.cookie}
        return self._pages.get_template(name).render(**about, **values)

    def at_door(self, message: str = "", status: int = 200, *, base: str = "", **more: Any) -> Response:
        page = self.page("door.html", message=message, base=base, **more)
        return HTMLResponse(page, status, {"referrer-policy": "same-origin"})  # or its form would come from nowhere
