"""A person ranks episodes, shown as videos."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracles.ranking.people import Person, study

pytest.importorskip("pygame", reason="CartPole is drawn by pygame: pip install 'gymnasium[classic-control]'")


def test_candidates_are_shown_as_episodes_and_the_order_moves_the_search(tmp_path: Path) -> None:
    from PIL import Image

    from oracles.rl import LinearPolicy, video

    policy = LinearPolicy.for_env("CartPole-v1")

    def episode(x: Any) -> bytes:
        """The pole is pushed to where it leans, the more the larger x is."""
        return video("CartPole-v1", policy.acting(np.array([0, 0, x[0], x[1], 0, 0, 1, 1.0])), max_steps=40).webp

    with study(tmp_path / "study.db", 2, episode) as (oracle, search, raised):
        person = Person(oracle.url)
        for _ in range(2):
            frames = {}
            for candidate in person.round()["candidates"]:
                assert candidate["kind"] == "image"
                reply = person.request("GET", f"/{candidate['url']}")
                assert reply.status == 200 and reply.headers["content-type"] == "image/webp"
                frames[candidate["id"]] = getattr(Image.open(io.BytesIO(reply.data)), "n_frames", 1)
            assert max(frames.values()) > 1  # they move
            best = sorted(frames, key=lambda i: -frames[i])[:2]  # whose pole stands longest
            assert person.answer([[i] for i in best]).status == 200
    assert not raised and search.steps == 2 and not np.array_equal(search.x, [1.0, -2.0])
