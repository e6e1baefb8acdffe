"""Who is let into a study: links for raters and for the researcher."""

from __future__ import annotations

from oracles.ranking.study._server import Server
from oracles.ranking.study._store import Store
from oracles.ranking.study._study import Study

__all__ = ["Inviting"]


class Inviting:
    """A study that makes links.

    Attributes:
        store: Knows who has one.
        study: Says how many people answer each round.
        server: Where links lead.
    """

    store: Store
    study: Study
    server: Server

    @property
    def url(self) -> str:
        """A new link to the page, which works once: for the one rater there is, else for a new one."""
        return self.links()[0][1] if self.study.raters == 1 else self.invite()

    def links(self) -> list[tuple[str, str]]:
        """A new link for each rater so far, and for as many new ones as answer a round; with the rater's name."""
        if self.study.raters == 1 and not self.store.people.names():
            self.store.people.add("you")
        while len(names := self.store.people.names()) < self.study.raters:
            self.store.people.add(None)
        return [(name, self._join(self.store.people.link(rater))) for rater, name in names.items()]

    def _join(self, token: str) -> str:
        return f"{self.server.site.address}/join/{token}"

    def invite(self, name: str | None = None) -> str:
        """A new link to the page, which works once, for a new rater.

        Args:
            name: Is shown; none lets them give it. It need not be unique: a rater is who has the link.
        """
        return self._join(self.store.people.link(self.store.people.add(name)))

    def renew(self, rater: int) -> str:
        """A new link for a rater who has lost theirs, or who changes browsers; it ends the one they had.

        Args:
            rater: The number in the column "rater" of `blackbox-zo answers`.

        Raises:
            KeyError: There is no such rater.
        """
        return self._join(self.store.people.renew(rater))

    def revoke(self, rater: int) -> None:
        """Shut a rater out: their link and their page end, and their answers stay."""
        self.store.people.revoke(rater)

    def lead(self) -> str:
        """A new link to the researcher's page, which works once: who takes part, links, pause, finish, export."""
        return f"{self.server.site.address}/admin/join/{self.store.people.lead()}"

    def summary(self) -> str:
        """How the study stands, in a line: who is here, how far they agree, the best so far, what is doubtful."""
        return self.server.admin.overview.line()
