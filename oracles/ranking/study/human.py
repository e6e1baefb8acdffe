"""`HumanRanking`: people look at the candidates and say which is better."""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo import __version__
from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import override
from blackbox_zo.errors import OracleError, Rewind, StopRun
from blackbox_zo.feedback import Ranking
from blackbox_zo.oracle import Oracle
from blackbox_zo.proposal import Proposal
from blackbox_zo.search import Search
from blackbox_zo.variables import Vector
from oracles.ranking.raters._reliability import RaterModel
from oracles.ranking.study._address import public
from oracles.ranking.study._answers import Closed
from oracles.ranking.study._consent import consent_of
from oracles.ranking.study._design import StudyDesign
from oracles.ranking.study._drawing import Drawing
from oracles.ranking.study._host import StudyServer
from oracles.ranking.study._inviting import Inviting
from oracles.ranking.study._known import KnownRounds
from oracles.ranking.study._record import Round
from oracles.ranking.study._server import Server
from oracles.ranking.study._servers import Servers
from oracles.ranking.study._store import FINISHED, PAUSED, RUNNING, Store, StoreError
from oracles.ranking.study._study import Study
from oracles.ranking.study._trouble import StoreUnavailable, available
from oracles.ranking.study._vote import FinalVote, Votes
from oracles.ranking.study._weights import Weights

__all__ = ["HumanRanking"]

POLL = 0.2
"""Seconds between polls of the store, for answers received by other servers."""


class HumanRanking(Inviting, Oracle):
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
        host: Address to bind; other machines reach the page only if this is changed. Or a `StudyServer`, which has
            the port and the public URL, if several studies share one address.
        name: Name of the study there, part of its links.
        public_url: Where people find the page if a proxy with TLS stands before it, such as
            "https://study.example.org/path": links, allowed hosts, origin, cookies and paths follow from it.
        allowed_hosts: Further host names under which browsers may reach it.
        title: Title of the page.
        question: Question on the page.
        patience: Seconds after its first answer at which a round ends without the other raters; None waits for them.
        consent: File of Markdown or HTML that people read before they begin; pressing the button is their consent.
        reveal: Whether raters see each round's winner and how far they agree; by default only the researcher does.
        design: Practice rounds, checks and repeated rounds, limits and breaks of each rater; None for none.

    Attributes:
        server: The page's server.

    Raises:
        ValueError: An argument is out of its range, or the design lets too few people answer.
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
        host: str | StudyServer = "127.0.0.1",
        name: str = "",
        public_url: str | None = None,
        allowed_hosts: Sequence[str] = (),
        title: str = "Which is best?",
        question: str = "",
        patience: float | None = None,
        consent: str | Path | None = None,
        reveal: bool = False,
        design: StudyDesign | None = None,
    ) -> None:
        if not callable(render):
            raise TypeError(f"`render` must be a function of one candidate, got {render!r:.60}.")
        check_at_least("HumanRanking", 1, raters=raters)
        for limit, value in (("n_ranked", n_ranked), ("rounds", rounds)):
            if value is not None:
                check_at_least("HumanRanking", 1, **{limit: value})
        if patience is not None:
            check_positive("HumanRanking", patience=patience)
        design = design or StudyDesign()
        design.check(raters, rounds)
        if public_url is not None:
            public(public_url)
        if isinstance(host, StudyServer) and (port or public_url is not None or allowed_hosts or not name):
            raise ValueError(
                "A study on a `StudyServer` needs `name`; `port`, `public_url` and `allowed_hosts` are the server's."
            )
        text = "" if consent is None else consent_of(consent)
        self.render, self.n_ranked, self.patience = render, n_ranked, patience
        about = {"title": title, "question": question, "library": __version__, "numpy": np.__version__}
        self.store = Store(store, about=about)
        self.study = Study(self.store, raters, design)
        self.rounds, self._finished, self._closed, self._over = rounds, False, False, False
        self.weights = Weights(raters, self.store.people.names)
        self.drawing = Drawing(self.study, render)
        self._known = KnownRounds(self.study, self.drawing, n_ranked)
        try:
            self.store.people.limit(design.most_raters)
            self._servers = Servers(self.store)
            with self.store.record() as record:
                self._seen = record.newest_undo()
            self._own: StudyServer | None = None
            if not isinstance(host, StudyServer):
                host = self._own = StudyServer(port, host, public_url, allowed_hosts, last=self.store.port)
                self.store.port = host.port
            self.server = Server(
                self.study,
                host,
                name,
                title=title,
                question=question,
                rounds=rounds,
                consent=text,
                reveal=reveal,
            )
            self.server.admin.overview.facts, self.server.admin.finish = self.weights.facts, self._finish_now
            self.store.state = RUNNING
        except BaseException:
            self.store.close()
            raise
        atexit.register(self.close)  # the last answer is acknowledged before the program ends

    @property
    def reliability(self) -> RaterModel:
        """How far each rater is believed, by their numbers as text."""
        return self.weights.model

    def warnings(self) -> list[str]:
        """What makes answers doubtful, in sentences that begin with a rater's name; see `RaterModel.warnings`."""
        return self.weights.warnings()

    @override
    def answer(self, proposal: Proposal) -> Ranking:
        """Wait until people have answered; meanwhile render `proposal.ahead`, which they may answer early.

        Raises:
            Rewind: An answer that the search has used was withdrawn.
            StoreError: The store has answers about other candidates.
            StopRun: The researcher finished the study.
            OracleError: In three rounds in a row no candidate could be drawn; or the study was closed.
        """
        proposal.may_withdraw()
        known: RaterModel = proposal.state(self)
        best = _best_so_far(proposal)
        round_, closed = available(lambda: self._opened(proposal, best))
        while closed is None:
            self._wait()
            closed = available(lambda: self._look(round_, best))
        ranking = self.weights.weighed(self, proposal, known, closed)
        self.server.site.progress.agreement = self.weights.agreement
        return ranking

    def _wait(self) -> None:
        self.store.wait(POLL)
        if self._over:
            raise StopRun("The researcher finished the study.")
        if self._closed:
            raise OracleError("The study was closed before the round was answered.")

    def vote(self, x: Any, x0: Any) -> Votes:
        """Ask each rater who took part, once and blind, whether `x` or `x0` is better; wait until all have answered.

        Args:
            x: The winner, such as `search.x`.
            x0: The start, in the same structure.

        Raises:
            Rewind: An answer that the search has used was withdrawn at the last moment.
            StopRun: The researcher finished the study.
            OracleError: The study was closed.
        """
        with self.store.record() as record:
            self.store.check_rewound(record, self._seen)
        final = available(lambda: FinalVote(self.study, self.drawing, x, x0))
        while not available(lambda: final.over(self.patience)):
            self._wait()
            self._servers.beat()
        self.study.turns.final = None
        return available(final.votes)

    def _opened(self, proposal: Proposal, best: int | None) -> tuple[Round, Closed | None]:
        round_ = self._open(proposal)
        closed = self.study.closed(round_, best)
        if closed is None:
            self._known.practice(proposal)
            self.drawing.draw(round_, proposal)
            self._known.checks(proposal)
        for later in proposal.ahead:
            self.drawing.draw(self._open(later), later)
        return round_, closed

    def _look(self, round_: Round, best: int | None) -> Closed | None:
        with self.store.record() as record:
            newest = record.newest_undo()
            try:
                self.store.check_rewound(record, self._seen)
            finally:
                self._seen = newest
        self._servers.beat()
        if self.patience is not None:
            self.study.give_up(round_, self.patience)
        return self.study.closed(round_, best)

    # ------------------------------------------------------------------------------------------------- learning

    @override
    def start(self) -> RaterModel:
        return RaterModel()

    @override
    def absorb(self, state: RaterModel, evidence: Mapping[int, Any]) -> RaterModel:
        return self.weights.after(state, evidence)

    @override
    def save(self, state: RaterModel) -> dict[str, Any]:
        return {"raters": np.array(json.dumps(state.to_json()))}

    @override
    def load(self, saved: Mapping[str, Any]) -> RaterModel:
        if "raters" not in saved:
            raise ValueError("The state was not saved by a `HumanRanking`.")
        return RaterModel.from_json(json.loads(str(saved["raters"])))

    def _open(self, proposal: Proposal) -> Round:
        with self.store.record() as record:
            newest = record.newest_undo()
        try:
            round_ = self.store.rounds.open(proposal.step, proposal.points, self.n_ranked, self._seen)
        except Rewind:
            self._seen = newest
            raise
        if round_.n_ranked != self.n_ranked:
            raise StoreError(
                f"The store {self.store.name!r} asked for n_ranked={round_.n_ranked} in step {proposal.step}; now it "
                f"is {self.n_ranked}. Use the same, or another store."
            )
        return round_

    def keep(self, search: Search) -> None:
        """Keep the search's state in the store, for `restore`."""
        available(lambda: self.store.keep(search.state_dict(), self._seen, search.x))

    def restore(self, search: Search) -> None:
        """Bring a new search to where it was kept, so that it need not answer all rounds again.

        Nothing happens if no state was kept, or if an answer on which it rests was withdrawn since.

        Raises:
            ValueError: The state is of a search with other arguments.
        """
        state = self.store.kept()
        if state is not None:
            search.load_state_dict(state)

    def _finish_now(self) -> None:
        self._over = self._finished = True
        self.server.site.state = FINISHED
        self.store.notify()

    def finish(self) -> None:
        """Take no more answers, and say that the study is over, where `close` alone would say that it is paused.

        Raises:
            Rewind: An answer that the search has used was withdrawn at the last moment; the study is paused, and the
                same program continues it.
        """
        self.server.site.state = FINISHED
        with self.store.record() as record:
            if record.rewound(self._seen) is not None:
                self.server.site.state = PAUSED
            self.store.check_rewound(record, self._seen)
        self._finished = True

    @override
    def close(self) -> None:
        """Stop, and tell open pages that the study is paused, or after `finish` or all `rounds` that it is over."""
        atexit.unregister(self.close)
        if self._closed:
            return
        self._closed = True
        with suppress(StoreUnavailable):
            over = (
                self.rounds is not None
                and self.study.turns.final is None
                and self.server.site.progress.now()["progress"]["done"] >= self.rounds
            )
            self._finished = self._finished or over
            self.store.state = FINISHED if self._finished else PAUSED
        self.server.stop(self._finished)
        if self._own is not None:
            self._own.close()
        self._servers.leave()
        self.store.close()


def _best_so_far(proposal: Proposal) -> int | None:
    """The position of x itself, which some methods show in each round; None if it is not among the candidates."""
    variable = proposal.variable
    if not isinstance(variable, Vector):
        return None
    same = (proposal.points == np.asarray(variable.outside(variable.value[None, :]))).all(axis=1)
    return int(np.argmax(same)) if same.any() else None
