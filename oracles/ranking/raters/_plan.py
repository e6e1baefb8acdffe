"""`plan`: which rounds of a study are new, which repeat an earlier one, and which have a known answer."""

from __future__ import annotations

from typing import Literal, NamedTuple

from blackbox_zo._checks import check_at_least
from blackbox_zo.randomness import Key

__all__ = ["Planned", "plan"]


class Planned(NamedTuple):
    """What a round of a study is for.

    Attributes:
        kind: "normal" is a new round of the search; "repeat" shows the candidates of an earlier one again, in another
            order; "check" has a known answer.
        step: The round that is repeated; None otherwise.
    """

    kind: Literal["normal", "repeat", "check"]
    step: int | None = None


def plan(step: int, seed: int, *, every: int = 8, apart: int = 3, checks: bool = True, repeats: bool = True) -> Planned:
    """What round `step` of a study is for.

    Of each `every` rounds one is a check and one a repeat, at positions drawn anew for each `every`, so that nobody can
    expect them. The first `apart` rounds are normal. A repeat is of a normal round that is at least `apart` rounds old
    and has not been repeated yet; if there is none, it is a normal round.

    The plan depends on its arguments alone: a study that was killed plans the same again.

    Args:
        step: The number of the round, from 0; checks and repeats count.
        seed: Seed of the study.
        every: At least `apart` + 2.
        apart: How many rounds old a round must be to be repeated, at least 1.
        checks: Whether there are checks; without, these rounds are normal.
        repeats: Whether rounds are repeated; likewise.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> "".join(plan(step, seed=0).kind[0] for step in range(24))
        'nnncnnrnnnnnnrcncnnnnnnr'
        >>> plan(13, seed=0)
        Planned(kind='repeat', step=7)
    """
    check_at_least("plan", 0, step=step)
    check_at_least("plan", 1, apart=apart)
    check_at_least("plan", apart + 2, every=every)
    normal: list[int] = []
    for block in range(step // every + 1):
        start = block * every
        generator = Key(seed, block).generator("plan")
        check, repeat = (start + generator.permutation(range(0 if block else apart, every))[:2]).tolist()
        for now in range(start, min(start + every, step + 1)):
            old = [t for t in normal if t <= now - apart]
            if checks and now == check:
                planned = Planned("check")
            elif repeats and now == repeat and old:
                planned = Planned("repeat", old[int(generator.integers(len(old)))])
                normal.remove(planned.step or 0)  # not to be repeated again
            else:
                planned = Planned("normal")
                normal.append(now)
    return planned
