"""The researcher's page: who takes part, how far the study is, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from oracles.ranking.study._answers import Invalid
from oracles.ranking.study._export import as_csv, document_of, rows_of
from oracles.ranking.study._overview import Overview
from oracles.ranking.study._people import Full
from oracles.ranking.study._posts import Body, Unknown, posted, refused
from oracles.ranking.study._site import Site
from oracles.ranking.study._store import PAUSED, RUNNING
from oracles.ranking.study._words import cleaned

__all__ = ["Admin"]


class Admin:
    """The requests of the researcher's page, under `/admin/`.

    Args:
        site: The study as its visitors find it.
        overview: How the study stands.
        beside: All studies of the server, by name, this one too.
    """

    def __init__(self, site: Site, overview: Overview, beside: Callable[[], Mapping[str, Admin]]) -> None:
        self.site, self.study, self.store = site, site.study, site.store
        self.cookie = f"{site.cookie}_admin"
        self.overview, self._beside = overview, beside
        self.finish: Callable[[], None] = lambda: None
        """Ends the study."""

    def routes(self) -> list[Route]:
        """All of them."""
        posts = {
            "invite": self._invite, "renew": self._renew, "revoke": self._revoke,
            "pause": self._pause, "continue": self._continue, "finish": self._finish,
        }  # fmt: skip
        return [
            Route("/admin/join/{token}", self._join, methods=["GET", "POST"]),
            Route("/admin/", self._index),
            Route("/admin/state", self._state),
            Route("/admin/answers.csv", self._csv),
            Route("/admin/answers.json", self._json),
            *(Route(f"/admin/{name}", self._post(act), methods=["POST"]) for name, act in posts.items()),
        ]

    # ------------------------------------------------------------------------------------------------- visitors

    def _session(self, request: Request) -> str | None:
        """The session of a researcher; one of another study of the server will do."""
        for admin in self._beside().values():
            session = request.cookies.get(admin.cookie, "")
            if session and admin.store.people.leads(session):
                return session
        return None

    def leads(self, request: Request) -> bool:
        """Whether the researcher's browser asks."""
        return self._session(request) is not None

    def _join(self, request: Request) -> Response:
        token, site = request.path_params["token"], self.site
        if request.method == "POST":
            session = self.store.people.admit(token)
            if session is not None:
                return site.let_in(RedirectResponse("../", 303), request, self.cookie, session, wide=True)
        elif self.store.people.waits(token):
            return site.at_door(button="Open the researcher's page", base="../../")
        if self._session(request) is not None:
            return RedirectResponse("../", 303)
        return site.at_door("This link was used before, or is not one of this study's.", 403, base="../../")

    def _index(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return self.site.at_door("Open the researcher's link that the program printed.", 403, base="../")
        return HTMLResponse(self.site.page("admin.html", csrf=self.site.csrf(session), base="../"))

    # ------------------------------------------------------------------------------------------------- looking

    def _state(self, request: Request) -> Response:
        if self._session(request) is None:
            return refused()
        beside = self._beside()
        studies = [] if len(beside) < 2 else [admin.told(name) for name, admin in beside.items()]
        return JSONResponse({**self.overview.whole(), "studies": studies})

    def told(self, name: str) -> Body:
        """The study in a list of several."""
        progress = self.site.progress.now()["progress"]
        about = {"name": name, "title": self.site.title, "state": self.site.state}
        return {**about, "done": progress["done"], "rounds": progress["rounds"]}

    def _csv(self, request: Request) -> Response:
        if self._session(request) is None:
            return refused()
        return _file(as_csv(rows_of(self.store)), "answers.csv", "text/csv; charset=utf-8")

    def _json(self, request: Request) -> Response:
        if self._session(request) is None:
            return refused()
        return _file(json.dumps(document_of(self.store), indent=1), "answers.json", "application/json")

    # ------------------------------------------------------------------------------------------------- acting

    def _who(self, request: Request) -> tuple[str, tuple[()]] | None:
        session = self._session(request)
        return None if session is None else (session, ())

    def _post(self, act: Callable[[Body], Body]) -> Callable[[Request], Any]:
        return posted(self.site, self._who, act)

    def _invite(self, body: Body) -> Body:
        name = cleaned(str(body.get("name") or ""))
        if len(name) > 40:
            raise Invalid("Give a name of at most 40 letters.")
        try:
            rater = self.store.people.add(name or None)
        except Full as error:
            raise Invalid(str(error)) from error
        return self._link(rater, self.store.people.link(rater))

    def _rater(self, body: Body) -> int:
        rater = body.get("rater")
        if isinstance(rater, bool) or not isinstance(rater, int):
            raise Invalid("Name a rater by their number.")
        if rater not in self.store.people.names():
            raise Unknown("There is no such rater.")
        return rater

    def _renew(self, body: Body) -> Body:
        rater = self._rater(body)
        return self._link(rater, self.store.people.renew(rater))

    def _link(self, rater: int, token: str) -> Body:
        return {"rater": rater, "link": f"{self.site.address}/join/{token}"}

    def _revoke(self, body: Body) -> Body:
        self.store.people.revoke(self._rater(body))
        return {}

    def _pause(self, body: Body) -> Body:
        del body
        return self._change(RUNNING, PAUSED)

    def _continue(self, body: Body) -> Body:
        del body
        return self._change(PAUSED, RUNNING)

    def _change(self, before: str, after: str) -> Body:
        if self.site.state == before:
            self.site.state = self.store.state = after
        return {"state": self.site.state}

    def _finish(self, body: Body) -> Body:
        del body
        self.finish()
        return {"state": self.site.state}


def _file(text: str, name: str, mime: str) -> Response:
    return Response(text, media_type=mime, headers={"content-disposition": f'attachment; filename="{name}"'})
