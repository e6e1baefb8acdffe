"""HTTP connections that do not wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from blackbox_zo._typing import override

__all__ = ["Protocol"]

PATIENCE = 20.0
"""Seconds between looks at a connection; at the second look at the same unfinished request it is closed."""


class Protocol(H11Protocol):
    """Closes a connection whose request never comes to an end; uvicorn only limits the time between two requests."""

    _look: asyncio.TimerHandle
    _unfinished = True

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look = self.loop.call_later(PATIENCE, self._see)

    def _see(self) -> None:
        state = self.conn.their_state
        unfinished = state is h11.SEND_BODY or (state is h11.IDLE and self.timeout_keep_alive_task is None)
        if unfinished and self._unfinished:
            self.transport.close()
            return
        self._unfinished = unfinished
        self._look = self.loop.call_later(PATIENCE, self._see)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)
