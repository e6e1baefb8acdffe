"""`HumanRanking`: people look at the candidates and say which is better."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import override
from blackbox_zo.errors import OracleError
from blackbox_zo.feedback import Ranking
from blackbox_zo.oracle import Oracle
from blackbox_zo.proposal import Proposal
from oracles.ranking.raters._reliability import RaterModel
from oracles.ranking.study._media import Media, rendered
from oracles.ranking.study._server import Server
from oracles.ranking.study._store import Round, Store, StoreError
from oracles.ranking.study._study import Closed, Study
from oracles.ranking.study._trouble import StoreUnwritable

__all__ = ["HumanRanking"]

POLL = 0.2
"""Seconds between polls of the store, for answers received by other servers."""

TOGETHER = 0.2
"""Seconds after which the candidates rendered so far are shown."""

RECENT = 10
"""Number of last rounds over which the page shows the raters' agreement."""

BROKEN = 3
"""End the run after this many rounds in a row in which no candidate could be drawn."""

AGAIN = 1.0
"""Seconds between attempts to write to a store that cannot be written."""

T = TypeVar("T")


class HumanRanking(Oracle):
    """Shows the candidates of each step on a web page, and answers with the ranking that people give.

    An answer is in the store before the page confirms it. The store is the journal: however the program ended, run it
    again, and the search gets the same answers and continues with the same candidates in the same order. A person may
    undo answers that the search has already used; `Search.run` then goes back.

    Args:
        render: A function of a candidate in the structure of x0. It returns a PIL image, an array, a figure, bytes
            (PNG, JPEG, SVG, WAV, MP4, …), text, HTML, or a `Path`. If it raises, the page shows the error, and the
            candidate loses.
        store: Path of an SQLite file, or a URL such as "postgresql://…" if several servers share a study.
        port: Port of the page; 0 takes the last one used if it is free, else any.
        n_ranked: k, the number of best candidates that a person ranks; None asks for all.
        raters: Number of people who answer each round; a round ends with the last answer.
        rounds: Planned rounds, for the page's progress bar.
        host: Address to bind; other machines reach the page only if this is changed.
        allowed_hosts: Further host names under which browsers may reach it.
        title: Title of the page.
        question: Question on the page.
        patience: Seconds after its first answer at which a round ends without the other raters; None waits for them.

    Attributes:
        server: The page's server.
        reliability: With several raters: their weights, disagreement and fatigue.

    Raises:
        StoreError: The store cannot be used, or is of another version.
        OSError: The port is in use, or the store cannot be written. Once the page is up, the study waits for a store
            that cannot be written, for example on a full disk; meanwhile pages keep their answers.
    """

    not_replayable = "people may withdraw answers, and its store keeps them; run the same program again to continue"

    def __init__(
        self,
        render: Callable[[Any], Any],
        store: str | Path = "study.db",
        port: int = 0,
        n_ranked: int | None = None,
        *,
        raters: int = 1,
        rounds: int | None = None,
        host: str = "127.0.0.1",
        allowed_hosts: Sequence[str] = (),
        title: str = "Which is best?",
        question: str = "",
        patience: float | None = None,
    ) -> None:
        if not callable(render):
            raise TypeError(f"`render` must be a function of one candidate, got {render!r:.60}.")
        check_at_least("HumanRanking", 1, raters=raters)
        for name, value in (("n_ranked", n_ranked), ("rounds", rounds)):
            if value is not None:
                check_at_least("HumanRanking", 1, **{name: value})
        if patience is not None:
            check_positive("HumanRanking", patience=patience)
        self.render, self.n_ranked, self.patience = render, n_ranked, patience
        self.store = Store(store, about={"title": title})
        self.study = Study(self.store, raters)
        self._seen = self.store.newest("undo")
        self._broken = 0
        self.reliability = RaterModel()
        self._updated: tuple[RaterModel, Any] | None = None  # what `reliability` was computed from
        try:
            self.server = Server(self.study, host, port, allowed_hosts, title, question, rounds)
        except BaseException:
            self.store.close()
            raise
        atexit.register(self.close)  # the last answer is acknowledged before the program ends

    @property
    def url(self) -> str:
        """A new one-time link to the page, for a single rater."""
        return self.invite("you" if self.study.raters == 1 else None)

    def invite(self, name: str | None = None) -> str:
        """A new one-time link to the page.

        Args:
            name: Name of the rater; None lets them enter it.
        """
        return f"{self.server.address}/join/{self.store.visitors.invite(name)}"

    @override
    def answer(self, proposal: Proposal) -> Ranking:
        """Wait until people have answered; meanwhile render `proposal.ahead`, which they may answer early.

        Raises:
            Rewind: An answer that the search has used was withdrawn.
            StoreError: The store has answers about other candidates.
            OracleError: In three rounds in a row no candidate could be drawn.
        """
        known: RaterModel = proposal.state(self)
        round_ = self._open(proposal)
        closed = self.study.closed(round_)
        if closed is None:
            self._draw(round_, proposal)
        for later in proposal.ahead:
            self._draw(self._open(later), later)
        while closed is None:
            self.store.wait(POLL)
            newest = self.store.newest("undo")
            try:
                with self.store.engine.connect() as c:
                    self.store.check_rewound(c, self._seen)
            finally:
                self._seen = max(self._seen, newest)
            if self.patience is not None:
                with suppress(StoreUnwritable):  # the next iteration tries again
                    self.study.give_up(round_, self.patience)
            closed = self.study.closed(round_)
        return self._weighed(proposal, known, closed)

    # ------------------------------------------------------------------------------------------------- learning

    @override
    def start(self) -> RaterModel:
        return RaterModel()

    @override
    def absorb(self, state: RaterModel, evidence: Mapping[int, Any]) -> RaterModel:
        # Update the raters' reliability by the step's answers
        for told in evidence.values():
            worked_out = self._updated is not None and state is self._updated[0] and told is self._updated[1]
            state = self.reliability if worked_out else state.update(*told)
        return state

    @override
    def save(self, state: RaterModel) -> dict[str, Any]:
        return {"raters": np.array(json.dumps(state.to_json()))}

    @override
    def load(self, saved: Mapping[str, Any]) -> RaterModel:
        if "raters" not in saved:
            raise ValueError("The state was not saved by a `HumanRanking`.")
        return RaterModel.from_json(json.loads(str(saved["raters"])))

    def _weighed(self, proposal: Proposal, known: RaterModel, closed: Closed) -> Ranking:
        """The answers as one ranking, each rater weighted by their reliability so far."""
        if self.study.raters == 1 or not closed.said:
            return closed.ranking
        evidence = closed.said, closed.seconds
        proposal.learn(self, int(proposal.ids[0]), evidence)
        self.reliability = model = known.update(*evidence)
        self._updated = known, evidence
        recent = model.disagreement[-RECENT:]
        if np.isfinite(recent).any():
            self.server.progress.agreement = 1.0 - float(np.nanmean(recent))
        return model.merge(closed.said)

    def _open(self, proposal: Proposal) -> Round:
        newest = self.store.newest("undo")
        try:
            round_ = _once_stored(
                lambda: self.store.open_round(proposal.step, proposal.points, self.n_ranked, self._seen)
            )
        finally:
            self._seen = max(self._seen, newest)
        if round_.n_ranked != self.n_ranked:
            raise StoreError(
                f"The store {self.store.name!r} asked for n_ranked={round_.n_ranked} in step {proposal.step}; now it "
                f"is {self.n_ranked}. Use the same, or another store."
            )
        return round_

    def _draw(self, round_: Round, proposal: Proposal) -> None:
        """Render the candidates that are not in the store yet."""
        have = {c.position for c in self.store.gallery.candidates(round_.id)}
        drawn: dict[int, Media] = {}
        begun = time.monotonic()
        for position in (p for p in range(proposal.n) if p not in have):
            drawn[position] = rendered(self.render, proposal.tree(position))
            if time.monotonic() - begun > TOGETHER:  # slow ones are shown as they come
                self._keep(round_, drawn)
                drawn, begun = {}, time.monotonic()
        if drawn:
            self._keep(round_, drawn)
        candidates = self.store.gallery.candidates(round_.id)
        if any(c.kind != "error" for c in candidates):
            self._broken = 0
            return
        self._broken += 1
        media = self.store.gallery.media(candidates[0].id)
        if self._broken >= BROKEN and media is not None:
            raise OracleError(f"No candidate of {BROKEN} rounds could be drawn. The last error: {media.data.decode()}")
        _once_stored(lambda: self.study.close_without(round_))

    def _keep(self, round_: Round, drawn: Mapping[int, Media]) -> None:
        _once_stored(lambda: self.store.gallery.add(round_.id, drawn))

    @override
    def close(self) -> None:
        """Tell open pages that the study is over, and stop. The answers stay in the store."""
        atexit.unregister(self.close)
        self.server.stop()
        self.store.close()


def _once_stored(act: Callable[[], T]) -> T:
    """Call `act` until the store can be written; the log says why that may take a while."""
    while True:
        try:
            return act()
        except StoreUnwritable:
            time.sleep(AGAIN)
