"""Candidates rendered into the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blackbox_zo.errors import OracleError
from blackbox_zo.proposal import Proposal
from oracles.ranking.study._gallery import Candidate
from oracles.ranking.study._media import Media, rendered
from oracles.ranking.study._record import Round
from oracles.ranking.study._study import Study
from oracles.ranking.study._trouble import available

__all__ = ["Drawing"]

TOGETHER = 0.2
"""Seconds of drawing after which what is drawn is shown."""

BROKEN = 3
"""Rounds in a row of which nothing could be drawn, before the run ends."""


class Drawing:
    """Renders rounds.

    Args:
        study: The study.
        render: From a candidate in the structure of x0 to what people see.
    """

    def __init__(self, study: Study, render: Callable[[Any], Any]) -> None:
        self.study, self.gallery, self.render, self._broken = study, study.store.gallery, render, 0

    def draw(self, round_: Round, proposal: Proposal) -> None:
        """Render the candidates that are not in the store yet. A round of which nothing can be seen is closed.

        Raises:
            OracleError: That is so of three rounds in a row.
        """
        candidates = self._drawn(round_, proposal.tree, self.render)
        if any(c.kind != "error" for c in candidates):
            self._broken = 0
            return
        self._broken += 1
        media = self.gallery.media(candidates[0].id)
        if self._broken >= BROKEN and media is not None:
            raise OracleError(f"No candidate of {BROKEN} rounds could be drawn. The last error: {media.data.decode()}")
        self.study.close_without(round_)

    def draw_fixed(self, round_: Round, trees: Sequence[Any], render: Callable[[Any], Any]) -> tuple[int, str] | None:
        """Render the given candidates that are not in the store yet.

        Returns:
            The first that could not be drawn, with the error; None if all could.
        """
        candidates = self._drawn(round_, trees.__getitem__, render)
        broken = next((c for c in candidates if c.kind == "error"), None)
        return None if broken is None else (broken.position, self.gallery.texts(round_)[broken.id])

    def _drawn(self, round_: Round, tree: Callable[[int], Any], render: Callable[[Any], Any]) -> list[Candidate]:
        have = {c.position for c in self.gallery.candidates(round_)}
        drawn: dict[int, Media] = {}
        begun = time.monotonic()
        for position in (p for p in range(round_.n) if p not in have):
            drawn[position] = rendered(render, tree(position))
            if time.monotonic() - begun > TOGETHER:  # slow ones are shown as they come
                self._keep(round_, drawn)
                drawn, begun = {}, time.monotonic()
        if drawn:
            self._keep(round_, drawn)
        return self.gallery.candidates(round_)

    def _keep(self, round_: Round, drawn: Mapping[int, Media]) -> None:
        available(lambda: self.gallery.add(round_.id, drawn))
