"""`Timeout`: an oracle that is given so many seconds for a proposal."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import override
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Answers, Part, gather, parts_of
from blackbox_zo.proposal import Proposal
from blackbox_zo.workers._cancel import Cancelled, CancelScope, current, next_of
from blackbox_zo.wrappers import Wrapper

__all__ = ["Timeout"]

_PATIENCE = 5.0
"""Seconds to wait for unfinished calls of the wrapped oracle to end."""


@final
class Timeout(Wrapper):
    """Counts queries that are not answered within `seconds` as failed.

    The wrapped oracle is asked in a thread. When time is up, or this iterator is closed, its unfinished programs and
    calls in worker processes are ended at once; the other workers stay. Only the queries without an answer fail. Code
    that runs in this process, or on an executor, cannot be ended: a Python function is abandoned. It runs until its
    next answer, which is dropped, and must tolerate being called again in the meantime.

    Args:
        oracle: An oracle that answers values.
        seconds: Time limit for all answers of one proposal, in seconds.
    """

    def __init__(self, oracle: Answers, seconds: float) -> None:
        super().__init__(oracle)
        check_positive("Timeout", seconds=seconds)
        self.seconds = seconds
        self._ending: threading.Thread | None = None

    @override
    def answer(self, proposal: Proposal) -> Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        # Answers as they arrive; when time is up, one part with all that is missing as failures
        outer = current() or CancelScope()
        own = time.monotonic() + self.seconds
        arrived: queue.SimpleQueue[Part | BaseException | None] = queue.SimpleQueue()
        over = CancelScope()
        if self._ending is not None:  # its last call must have ended before it is asked again
            self._ending.join(_PATIENCE)
        asking = threading.Thread(target=self._ask, args=(proposal, arrived, over), daemon=True, name="timeout")
        asking.start()
        waiting = dict.fromkeys(proposal.ids.tolist())
        try:
            with outer.heard(lambda: arrived.put(Cancelled())):
                while waiting:
                    try:
                        entry = next_of(arrived, min(own, outer.deadline))
                    except queue.Empty:
                        if outer.deadline < own:
                            raise Cancelled from None
                        break
                    if isinstance(entry, BaseException):
                        raise entry
                    if entry is None:  # some queries have no answer; the search says so
                        return
                    for i in entry[0].tolist():
                        waiting.pop(i, None)
                    yield entry[0], self._values(entry[1])
        finally:
            if over.cancel():
                self._ending = asking
                asking.join(_PATIENCE)
        if waiting:
            ids = np.array(list(waiting), dtype=np.intp)
            info = {"error": f"no answer within {self.seconds:g} s"}
            yield ids, Values(np.full(len(ids), np.nan), info=[info] * len(ids))

    def _ask(self, proposal: Proposal, arrived: queue.SimpleQueue[Any], over: CancelScope) -> None:
        try:
            with over:
                parts = parts_of(self.oracle, proposal)
                for part in parts:
                    if over.over:
                        if hasattr(parts, "close"):
                            parts.close()
                        return
                    arrived.put(part)
                arrived.put(None)
        except BaseException as error:  # passed to the waiting thread; once time is up there is none
            arrived.put(error)
