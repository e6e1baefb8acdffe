"""What a page asks the server, and what it sends: JSON under `/api/`."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracles.ranking.study._answers import Invalid, right, wanted
from oracles.ranking.study._overview import Overview
from oracles.ranking.study._people import Rater
from oracles.ranking.study._posts import Body, posted, refused
from oracles.ranking.study._progress import shown, url_of
from oracles.ranking.study._record import FINAL, PRACTICE, SEARCH, Answer, Record, Round
from oracles.ranking.study._site import Site
from oracles.ranking.study._store import FINISHED, RUNNING
from oracles.ranking.study._study import Conflict
from oracles.ranking.study._words import cleaned

__all__ = ["Api"]

HELD = 25.0
"""Seconds for which a page's question whether the study has ended is left open; proxies end a request after 60."""

_CLIENT_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Api:
    """The requests of a page.

    Args:
        site: The study as its visitors find it.
        seen: When each rater's page asked last, by this process's clock; is kept up to date.
        overview: Tells how liking grew, when the study is finished.
    """

    def __init__(self, site: Site, seen: dict[int, float], overview: Overview) -> None:
        self.site, self.study, self.store = site, site.study, site.store
        self._waiting: dict[str, float] = {}
        self._seen, self._overview = seen, overview
        self._held = Counter[str]()
        self._owed: set[str] = set()

    def routes(self) -> list[Route]:
        """All of them."""
        posts = {"name": self._name, "answer": self._answer, "undo": self._undo, "redo": self._redo}
        return [
            Route("/api/round", self._round),
            Route("/api/end", self._end),
            Route("/api/history", self._history),
            Route("/api/history/{answer:int}", self._past),
            *(Route(f"/api/{name}", self._post(act), methods=["POST"]) for name, act in posts.items()),
        ]

    def listening(self, since: float) -> bool:
        """Whether a page is to fetch its result, or to hear of the end, as it asked for it or waits since a time."""
        held, waiting = list(self._held.values()), list(self._waiting.values())
        return bool(self._owed) or any(held) or any(at > since for at in waiting)

    def fetched(self, session: str) -> None:
        """A page has got the result."""
        self._owed.discard(session)

    def _waits(self, session: str, waits: bool) -> None:
        if waits:
            self._waiting[session] = time.monotonic()
        else:
            self._waiting.pop(session, None)

    # ------------------------------------------------------------------------------------------------- asking

    def _named(self, request: Request) -> tuple[str, Rater] | None:
        found = self.site.visitor(request)
        return None if found is None or found[1].name is None else found

    def _round(self, request: Request) -> Response:
        found = self._named(request)
        if found is None:
            return refused()
        session, rater = found
        self._seen[rater.id] = time.monotonic()
        state: Body = {"state": self.site.state, "rater": rater.name, **self._about(rater.id)}
        if self.site.state == FINISHED:
            state |= {"code": self.store.code(rater.id), "liking": self._overview.liking()}
            self._owed |= {session} if state["history"] else set()
        elif not self.site.reveal:
            state |= {"history": [], "progress": state["progress"] | {"agreement": None}}
        turns, most = self.study.turns, self.study.design.rounds_each
        if most is not None:  # what is left of a person's own rounds, not of the study's
            own = {"done": turns.answered(rater.id), "rounds": most, "seconds_left": None}
            state["progress"] = state["progress"] | own
        rest = turns.rest(rater.id)
        waiting = turns.next_for(rater.id) if self.site.state == RUNNING and not rest else []
        state |= {"rest": math.ceil(rest), "enough": False, "voting": turns.final is not None}
        if not waiting and not rest and turns.enough(rater.id):
            state |= {"enough": True, "code": self.store.code(rater.id)}
        self._waits(session, not waiting and self.site.state == RUNNING)
        if not waiting:
            return JSONResponse(state | {"round": None})
        ahead = [url_of(c) for r in waiting[1:2] for c in self.store.gallery.candidates(r) if c.kind == "image"]
        return JSONResponse(state | {**self._shown(waiting[0], rater.id), "ahead": ahead})

    async def _end(self, request: Request) -> Response:
        """Left open until the study is paused or finished, so that a page hears of it before the server is gone."""
        found = await run_in_threadpool(self._named, request)
        if found is None:
            return refused()
        session, until = found[0], time.monotonic() + HELD
        self._held[session] += 1
        try:
            while self.site.state == RUNNING and time.monotonic() < until and not await request.is_disconnected():
                await asyncio.sleep(0.1)
            if self.site.state != RUNNING:
                self._waits(session, True)  # it asks how things are
        finally:
            self._held[session] -= 1
        return JSONResponse({"state": self.site.state})

    def _about(self, rater: int) -> Body:
        """What a page tells beside the round."""
        with self.store.record() as record:
            redo = record.redoable(rater) is not None
            lost = [(undo.id, undo.payload["void"]) for undo in record.lost(rater)]
            steps = {i: record.rounds[i].step for _, void in lost for i in void}
            mine = {a.round_id for a in record.answers() if a.rater == rater} if lost else set()
        missing, asked = self.study.awaited(rater)
        notices = [{"id": i, "text": _notice([steps[r] for r in void if r in mine])} for i, void in lost]
        return {**self.site.progress.now(), "redo": redo, "notices": notices, "missing": missing, "raters": asked}

    def _shown(self, round_: Round, rater: int) -> Body:
        """A round as a rater sees it."""
        candidates = {c.position: c for c in self.store.gallery.candidates(round_)}
        texts = self.store.gallery.texts(round_)
        order = self.store.order(round_.id, rater, round_.n).tolist()
        return {
            "round": round_.id,
            "step": round_.step,
            **self._purpose(round_),
            "n": round_.n,
            "needed": wanted(round_, candidates.values()),
            "candidates": [shown(candidates.get(position), texts) for position in order],
        }

    def _purpose(self, round_: Round) -> Body:
        """What a page may know of a round's purpose: not that it is a check, or repeats another."""
        told: Body = {"purpose": round_.purpose if round_.purpose in (PRACTICE, FINAL) else SEARCH}
        if round_.purpose == PRACTICE:
            told["practice"] = [round_.step + 1, self.study.design.practice]
        return told | {"question": round_.question}

    def _history(self, request: Request) -> Response:
        """A rater's own answers, newest first."""
        found = self._named(request)
        if found is None:
            return refused()
        with self.store.record() as record:
            own = [(a, *_about(record, a)) for a in record.answers() if a.rater == found[1].id]
        return JSONResponse({"answers": [self._entry(*each) for each in reversed(own)]})

    def _entry(self, answer: Answer, round_: Round, status: str, open_: bool) -> Body:
        told = {"answer": answer.id, "step": round_.step, "kind": answer.kind, "status": status}
        over = self.study.turns.final is not None and round_.purpose != FINAL  # the search is over
        told |= {"purpose": round_.purpose, "open": open_ and not over}
        first = answer.payload["groups"][0][0] if answer.payload["groups"] else None
        best = self.store.gallery.at(round_, first)
        return told | {"best": None if best is None else {"kind": best.kind, "url": url_of(best)}}

    def _past(self, request: Request) -> Response:
        """One of a rater's own answers, with its round."""
        found = self._named(request)
        with self.store.record() as record:
            answer = record.rows.get(request.path_params["answer"])
            if found is None or answer is None or answer.rater != found[1].id or "groups" not in answer.payload:
                return refused() if found is None else JSONResponse({"error": "There is no such answer."}, 404)
            round_, status, open_ = _about(record, answer)
        ids = {c.position: c.id for c in self.store.gallery.candidates(round_)}
        groups = [[ids[i] for i in group] for group in answer.payload["groups"]]
        return JSONResponse(
            {**self._entry(answer, round_, status, open_), **self._shown(round_, found[1].id), "groups": groups}
        )

    # ------------------------------------------------------------------------------------------------- posts

    def _who(self, request: Request) -> tuple[str, tuple[str, Rater]] | None:
        found = self.site.visitor(request)
        return None if found is None else (found[0], found)

    def _post(self, act: Callable[[str, Rater, Body], Body]) -> Callable[[Request], Any]:
        def checked(session: str, rater: Rater, body: Body) -> Body:
            if self.site.state != RUNNING:
                raise Conflict(f"The study is {self.site.state}.")
            if rater.name is None and act != self._name:
                raise Invalid("Give your name first.")
            return act(session, rater, body)

        return posted(self.site, self._who, checked)

    def _name(self, session: str, rater: Rater, body: Body) -> Body:
        del session
        name = body.get("name")
        if not isinstance(name, str) or not (name := cleaned(name)) or len(name) > 40:
            raise Invalid("Give a name of 1 to 40 letters.")
        if rater.name is not None:
            raise Conflict("This link has a name already.")
        self.store.people.name(rater.id, name)
        return {"rater": name}

    def _answer(self, session: str, rater: Rater, body: Body) -> Body:
        round_id, kind, groups, ms = (body.get(name) for name in ("round", "kind", "groups", "ms"))
        if isinstance(round_id, bool) or not isinstance(round_id, int) or not isinstance(kind, str):
            raise Invalid("An answer needs a round and a kind.")
        groups = [] if groups is None else groups
        if not isinstance(groups, list) or not all(
            isinstance(g, list) and all(isinstance(i, str) for i in g) for g in groups
        ):
            raise Invalid("An order is a list of lists of candidates.")
        ms = ms if isinstance(ms, int) and not isinstance(ms, bool) and 0 <= ms < 2**31 else None
        self._waits(session, True)
        receipt = self.study.submit(rater.id, round_id, kind, groups, _client_id(body), ms)
        again = kind == "skip" and [r.id for r in self.study.turns.next_for(rater.id)[:1]] == [round_id]
        told = {"id": receipt.id, "duplicate": receipt.duplicate, "again": again}
        return told if kind == "skip" else told | self._feedback(receipt.id)

    def _feedback(self, answer: int) -> Body:
        """What a practice round says after it."""
        with self.store.record() as record:
            row = record.rows[answer]
            round_ = record.rounds[row.round_id]
        if round_.purpose != PRACTICE:
            return {}
        best_first = [c.id for c in sorted(self.store.gallery.candidates(round_), key=lambda c: c.position)]
        return {"practice": {"right": row.kind == "rank" and right(row.payload["groups"]), "order": best_first}}

    def _undo(self, session: str, rater: Rater, body: Body) -> Body:
        del session
        answer = body.get("answer")
        if isinstance(answer, bool) or not isinstance(answer, int | None):
            raise Invalid("An answer is withdrawn by its number.")
        return {"round": self.study.undo(rater.id, _client_id(body), answer, body.get("sure") is True)}

    def _redo(self, session: str, rater: Rater, body: Body) -> Body:
        del session
        return {"round": self.study.redo(rater.id, _client_id(body))}


def _about(record: Record, answer: Answer) -> tuple[Round, str, bool]:
    """The round of an answer, its status, and whether it can be withdrawn."""
    status = record.status(answer)
    return record.rounds[answer.round_id], status, status == "counts" and not record.given(answer)


def _notice(steps: Sequence[int]) -> str:
    """What a rater is told whose answers became void."""
    rounds = ", ".join(str(step + 1) for step in sorted(set(steps)))
    what = f"your answer to round {rounds}" if len(set(steps)) == 1 else f"your answers to rounds {rounds}"
    return f"Another person withdrew an earlier answer, so {what} no longer count{'s' * (len(set(steps)) == 1)}."


def _client_id(body: dict[str, Any]) -> str:
    client_id = body.get("client_id")
    if not isinstance(client_id, str) or not 8 <= len(client_id) <= 64 or not set(client_id) <= _CLIENT_ID:
        raise Invalid("An answer needs a client_id of 8 to 64 letters and digits.")
    return f"web-{client_id}"[:64]
