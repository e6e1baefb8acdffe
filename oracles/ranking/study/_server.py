"""The page's server: Starlette's routes, and uvicorn on a thread."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from oracles.ranking.study._guard import Guard, hosts_of
from oracles.ranking.study._media import MOST_BYTES
from oracles.ranking.study._progress import Progress, shown, url_of
from oracles.ranking.study._socket import bound
from oracles.ranking.study._study import Conflict, Invalid, Study, wanted
from oracles.ranking.study._trouble import StoreUnwritable

__all__ = ["Server"]

_PAGE = Path(__file__).parent / "page"
_STATIC = {
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; font-src data:"
_AGES = 400 * 24 * 3600
_CLIENT_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


LINGER = 1.0
"""Seconds that a stopping server waits for open pages to learn of it; they poll four times a second."""


class Server:
    """Serves a study until it is stopped.

    Args:
        study: The study whose rounds are shown.
        host: Address to bind.
        port: Port; 0 takes the last one used if it is free, else any.
        allowed_hosts: Further host names under which browsers may reach it.
        title: Title of the page.
        question: Question on the page.
        rounds: Number of planned rounds; None if unknown.

    Raises:
        OSError: The port is in use.
    """

    def __init__(
        self,
        study: Study,
        host: str,
        port: int,
        allowed_hosts: Sequence[str] = (),
        title: str = "Which is best?",
        question: str = "",
        rounds: int | None = None,
    ) -> None:
        self.study, self.store = study, study.store
        self.title, self.question = title, question
        self.finished = False
        self.progress = Progress(study, rounds)
        self._waiting: dict[str, float] = {}
        self._socket = bound(host, port, self.store.port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self.store.port = self.port
        self.cookie = "ranking_" + hashlib.sha256(self.store.secret.encode()).hexdigest()[:10]
        pages = Environment(loader=FileSystemLoader(_PAGE), autoescape=select_autoescape(("html",)))
        self._template = pages.get_template("page.html")
        self._door = pages.get_template("door.html")
        routes = [
            Route("/join/{token}", self._join),
            Route("/", self._index),
            Route("/api/round", self._round),
            Route("/api/name", self._name, methods=["POST"]),
            Route("/api/answer", self._answer, methods=["POST"]),
            Route("/api/undo", self._undo, methods=["POST"]),
            Route("/media/{media_id}", self._media),
            Route("/{name}", self._static),
        ]
        guard = Middleware(Guard, hosts=hosts_of(host, self.port, allowed_hosts))
        troubles: dict[Any, Any] = {StoreUnwritable: self._trouble, sa.exc.OperationalError: self._trouble}
        app = Starlette(routes=routes, middleware=[guard], exception_handlers=troubles)
        config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", timeout_keep_alive=75)
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), daemon=True, name="ranking-page"
        )
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            time.sleep(0.005)

    @property
    def address(self) -> str:
        """The URL for browsers on this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def stop(self) -> None:
        """Tell waiting pages that the study is over, finish open requests, and stop."""
        self.finished = True
        until = time.monotonic() + LINGER
        while any(at > until - 2 * LINGER for at in list(self._waiting.values())) and time.monotonic() < until:
            time.sleep(0.01)
        self._uvicorn.should_exit = True
        self._thread.join(5)
        self._socket.close()

    # ------------------------------------------------------------------------------------------------- visitors

    def _session(self, request: Request) -> tuple[str, str | None] | None:
        """The cookie of a known visitor, and their name."""
        session = request.cookies.get(self.cookie, "")
        known, rater = self.store.visitors.find(session) if session else (False, None)
        return (session, rater) if known else None

    def _csrf(self, session: str) -> str:
        return hmac.new(self.store.secret.encode(), session.encode(), hashlib.sha256).hexdigest()

    def _join(self, request: Request) -> Response:
        admitted = self.store.visitors.admit(request.path_params["token"])
        if admitted is None:
            if self._session(request) is not None:
                return self._pass()
            return self._stop("This link has been used already, or does not belong to this study. Ask for a new one.")
        response = self._pass()
        response.set_cookie(self.cookie, admitted[0], max_age=_AGES, httponly=True, samesite="strict", path="/")
        return response

    def _pass(self) -> Response:
        """Go on to the page through one of our own: a strict cookie is not sent with a redirect from another site."""
        return HTMLResponse(self._door.render(title=self.title, message="", onward=True))

    def _stop(self, message: str, status: int = 403) -> Response:
        return HTMLResponse(self._door.render(title=self.title, message=message, onward=False), status)

    def _trouble(self, request: Request, error: Exception) -> Response:
        """The store is unavailable; pages keep what they sent and try again."""
        text = "The study cannot store answers at the moment."  # the log says why
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": text}, 503)
        return self._stop(f"{text} Try this address again later.", 503)

    def _index(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return self._stop("Open the link that the study printed; it works once, in one browser.")
        return HTMLResponse(
            self._template.render(
                title=self.title,
                question=self.question,
                csrf=self._csrf(session[0]),
                rater=session[1] or "",
                study=self.cookie,
            )
        )

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return self._stop("There is no such page.", 404)
        return Response((_PAGE / name).read_bytes(), media_type=_STATIC[name])

    def _media(self, request: Request) -> Response:
        if self._session(request) is None:
            return Response(status_code=403)
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

    # ------------------------------------------------------------------------------------------------- rounds

    def _round(self, request: Request) -> Response:
        session = self._session(request)
        if session is None or session[1] is None:
            return JSONResponse({"error": "Open your link again."}, 403)
        rater = session[1]
        waiting = self.study.next_for(rater)
        state: dict[str, Any] = {"finished": self.finished, "rater": rater, **self.progress.now()}
        if not waiting or self.finished:
            self._waits(session[0], not self.finished)
            return JSONResponse(state | {"round": None})
        self._waits(session[0], False)
        round_ = waiting[0]
        candidates = {c.position: c for c in self.store.gallery.candidates(round_.id)}
        texts = self.store.gallery.texts(round_.id)
        order = self.store.order(round_.id, rater, round_.n).tolist()
        ahead = [url_of(c) for r in waiting[1:2] for c in self.store.gallery.candidates(r.id) if c.kind == "image"]
        return JSONResponse(
            state
            | {
                "round": round_.id,
                "step": round_.step,
                "n": round_.n,
                "needed": wanted(round_, candidates.values()),
                "candidates": [shown(candidates.get(position), texts) for position in order],
                "ahead": ahead,
            }
        )

    def _waits(self, session: str, waits: bool) -> None:
        """Remember which pages must learn that the study is over."""
        if waits:
            self._waiting[session] = time.monotonic()
        else:
            self._waiting.pop(session, None)

    # ------------------------------------------------------------------------------------------------- posts

    def _posted(self, request: Request, body: Any) -> tuple[str, str]:
        session = self._session(request)
        if session is None or not hmac.compare_digest(
            request.headers.get("x-csrf", "").encode(), self._csrf(session[0]).encode()
        ):
            raise PermissionError
        if not isinstance(body, dict):
            raise Invalid("The request must be a JSON object.")
        if session[1] is None and request.url.path != "/api/name":
            raise Invalid("Give your name first.")
        return session[0], session[1] or ""

    async def _post(self, request: Request, act: Callable[[str, str, dict[str, Any]], dict[str, Any]]) -> Response:
        """Check the sender and the body of a post, then act on it; the rater is "" before they give a name."""
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            return JSONResponse({"error": "This is not JSON."}, 422)

        def run() -> dict[str, Any]:
            return act(*self._posted(request, body), body)

        try:
            return JSONResponse(await run_in_threadpool(run))
        except PermissionError:
            return JSONResponse({"error": "Open your link again."}, 403)
        except Invalid as error:
            return JSONResponse({"error": str(error)}, 422)
        except Conflict as error:
            return JSONResponse({"error": str(error)}, 409)

    async def _name(self, request: Request) -> Response:
        def act(session: str, rater: str, body: dict[str, Any]) -> dict[str, Any]:
            name = body.get("name")
            if not isinstance(name, str) or not (name := " ".join(name.split())) or len(name) > 40:
                raise Invalid("Give a name of 1 to 40 letters.")
            if rater:
                raise Conflict("This link already has a name.")
            self.store.visitors.name(session, name)
            return {"rater": name}

        return await self._post(request, act)

    async def _answer(self, request: Request) -> Response:
        def act(session: str, rater: str, body: dict[str, Any]) -> dict[str, Any]:
            round_id, kind, groups = body.get("round"), body.get("kind"), body.get("groups", [])
            ms = body.get("ms")
            if isinstance(round_id, bool) or not isinstance(round_id, int) or not isinstance(kind, str):
                raise Invalid("An answer needs a round and a kind.")
            if not isinstance(groups, list) or not all(
                isinstance(g, list) and all(isinstance(i, str) for i in g) for g in groups
            ):
                raise Invalid("An order must be a list of lists of candidates.")
            ms = ms if isinstance(ms, int) and not isinstance(ms, bool) and 0 <= ms < 2**31 else None
            self._waits(session, True)
            receipt = self.study.submit(rater, round_id, kind, groups, _client_id(body), ms)
            return {"id": receipt.id, "duplicate": receipt.duplicate}

        return await self._post(request, act)

    async def _undo(self, request: Request) -> Response:
        def act(session: str, rater: str, body: dict[str, Any]) -> dict[str, Any]:
            return {"round": self.study.undo(rater, _client_id(body))}

        return await self._post(request, act)


def _client_id(body: dict[str, Any]) -> str:
    client_id = body.get("client_id")
    if not isinstance(client_id, str) or not 8 <= len(client_id) <= 64 or not set(client_id) <= _CLIENT_ID:
        raise Invalid("An answer needs a client_id of 8 to 64 letters and digits.")
    return f"web-{client_id}"[:64]
