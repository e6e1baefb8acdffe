"""What a page sends: JSON from a known session, with the page's own token."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from oracles.ranking.study._answers import Invalid
from oracles.ranking.study._site import Site
from oracles.ranking.study._study import Asks, Conflict

__all__ = ["Body", "Unknown", "posted", "refused"]

Body = dict[str, Any]


class Unknown(LookupError):
    """There is no such thing; the message is for the person."""


def posted(
    site: Site, who: Callable[[Request], tuple[str, tuple[Any, ...]] | None], act: Callable[..., Body]
) -> Callable[[Request], Any]:
    """An endpoint that checks who posts and what, and does it.

    Args:
        site: The study as its visitors find it.
        who: From a request to its session, and what `act` is to know of it; None refuses the request.
        act: Called with that and the body; what it returns is the reply. It may raise `Invalid` (422), `Unknown` (404),
            `Conflict` or `Asks` (409).
    """

    async def endpoint(request: Request) -> Response:
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            return JSONResponse({"error": "This is not JSON."}, 422)

        def run() -> Response:
            found = who(request)
            sent = request.headers.get("x-csrf", "").encode()
            if found is None or not hmac.compare_digest(sent, site.csrf(found[0]).encode()):
                return refused()
            try:
                if not isinstance(body, dict):
                    raise Invalid("A JSON object is needed.")
                return JSONResponse(act(*found[1], body))
            except Invalid as error:
                return JSONResponse({"error": str(error)}, 422)
            except Unknown as error:
                return JSONResponse({"error": str(error)}, 404)
            except Asks as error:
                return JSONResponse({"error": str(error), "asks": True}, 409)
            except Conflict as error:
                return JSONResponse({"error": str(error)}, 409)

        return await run_in_threadpool(run)

    return endpoint


def refused() -> Response:
    """The reply to whoever is not known."""
    return JSONResponse({"error": "Open your link again."}, 403)
