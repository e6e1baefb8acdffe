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
        host: Address that is bound.
        port: Its port.
        public: The public address, if a proxy stands before the server.
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
        host: str,
        port: int,
        public: Address | None = None,
        title: str = "Which is best?",
        question: str = "",
        rounds: int | None = None,
        consent: str = "",
        reveal: bool = False,
    ) -> None:
        self.study, self.store, self.public, self.host, self.port = study, study.store, public, host, port
        self.title, self.question, self.consent, self.reveal = title, question, consent, reveal
        self.state, self.progress = RUNNING, Progress(study, rounds)
        self.cookie = "ranking_" + hashlib.sha256(self.store.secret.encode()).hexdigest()[:10]
        self._known: dict[str, float] = {}
        self._pages = Environment(loader=FileSystemLoader(PAGES), autoescape=select_autoescape(("html",)))

    @property
    def local(self) -> str:
        """Where browsers on this machine find it."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

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
