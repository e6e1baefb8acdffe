"""`Retry`: failed queries are asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._typing import Bools, Ints, override
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.oracle import Answers, Part, gather, parts_of
from blackbox_zo.proposal import Proposal
from blackbox_zo.wrappers import Wrapper

__all__ = ["Retry"]


@final
class Retry(Wrapper):
    """Asks a failed query again, up to `n` times, before it counts as failed.

    A query fails if its value is NaN or infinite, it takes too long, or its worker is lost; an exception only where the
    oracle turns it into a failure. The answer of the last try counts. Where a query took more than one, its info says
    how many: `{"tries": 2}`. What failed is asked again once all other queries of the step have been answered.

    The budget of a search counts queries, each of which may take 1 + n calls; `calls` of the oracle counts them all.
    Retries are for failures that pass, such as a lost licence or a full disk. A query that fails for good costs 1 + n
    calls, each with its own time limit. What a failed call has changed outside, such as files that it wrote, is
    there when it is called again.

    Args:
        oracle: An oracle that answers values.
        n: Most tries after the first, at least 0.

    Raises:
        ValueError: `n` is negative or not whole.
        TypeError: There is no oracle.

    Example:
        >>> import blackbox_zo as bz
        >>> calls = 0
        >>> def flaky(x):
        ...     global calls
        ...     calls += 1
        ...     return float("nan") if calls % 3 == 1 else x @ x
        >>> r = bz.minimize(bz.Retry(bz.FunctionOracle(flaky), 5), [1.0, 2.0], budget=100)
        >>> r.nfailed, r.nfev > 100
        (0, True)
    """

    def __init__(self, oracle: Answers, n: int) -> None:
        super().__init__(oracle)
        check_at_least("Retry", 0, n=n)
        self.n = int(n)

    @override
    def answer(self, proposal: Proposal) -> Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        return again(lambda some: parts_of(self.oracle, some), proposal, self.n, self._values)


def check_no_retries(retries: int) -> None:
    """Raise ValueError where an asynchronous run is to ask failures again."""
    if retries:
        raise ValueError(
            f"`retries={retries}` asks failures again once their step is done, and an asynchronous step is one query. "
            "Leave `retries` or `asynchronous` out, or ask again within the function."
        )


def again(
    ask: Callable[[Proposal], Iterator[Part]],
    proposal: Proposal,
    n: int,
    checked: Callable[[Feedback], Values] | None = None,
) -> Iterator[Part]:
    """The parts of an answer; failures are asked again, up to n times, in a proposal of their own.

    Args:
        ask: Answers a proposal in parts.
        proposal: All queries.
        n: Most tries after the first.
        checked: Gives a part as `Values`, or raises; None where all are.
    """
    place = {int(i): position for position, i in enumerate(proposal.ids)}
    asked = proposal
    for tries in range(1, n + 2):
        failed: list[int] = []
        parts = ask(asked)
        try:
            for ids, part in parts:
                values = part if checked is None else checked(part)
                assert isinstance(values, Values)
                bad = np.isnan(values.values)
                if tries <= n and bad.any():
                    failed += [place[int(i)] for i in ids[bad]]
                    ids, values = ids[~bad], _some(values, ~bad)
                if values.n:
                    yield ids, values if tries == 1 else _noted(values, tries)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        if not failed:
            return
        asked = proposal.take(np.array(sorted(failed), dtype=np.intp))


def _some(values: Values, which: Bools) -> Values:
    kept: Ints = np.flatnonzero(which)
    info = None if values.info is None else [values.info[i] for i in kept]
    return Values(values.values[kept], None if values.stderr is None else values.stderr[kept], info)


def _noted(values: Values, tries: int) -> Values:
    """The same, with the number of tries in each info."""
    info: list[Any] = [{**(note or {}), "tries": tries} for note in values.info or [None] * values.n]
    return Values(values.values, values.stderr, info)
