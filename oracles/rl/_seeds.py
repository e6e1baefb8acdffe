"""Seeds of environments: functions of where an episode stands, so that any worker may play it."""

from __future__ import annotations

from blackbox_zo.randomness import Key

__all__ = ["evaluation_seeds", "seed_of"]


def seed_of(key: Key, name: str, episode: int, query: int = 0) -> int:
    """The 31-bit seed of an episode; some environments accept no larger one."""
    return int.from_bytes(key.digest(name, episode, query, size=4), "little") >> 1


def evaluation_seeds(seed: int, episodes: int) -> list[int]:
    """Seeds of evaluation episodes, which no search uses."""
    return [seed_of(Key(seed, 0), "evaluation", e) for e in range(episodes)]
