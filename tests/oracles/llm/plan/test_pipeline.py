"""Laws of the simulation, for any tasks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles.llm.plan._pipeline import Span, Task, simulated

LANES = ("disk", "link", "compute")


@st.composite
def tasks(draw: st.DrawFn) -> list[Task]:
    """Tasks that need some of those before them."""
    found = []
    for i in range(draw(st.integers(1, 20))):
        after = tuple(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else ()
        lane, seconds = draw(st.sampled_from(LANES)), draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
        found.append(Task(lane, seconds, str(i), after, draw(st.sampled_from([0.0, 1.0, 2.0]))))
    return found


def by_lane(spans: list[Span]) -> dict[str, list[Span]]:
    return {lane: [s for s in spans if s.task.lane == lane] for lane in LANES}


@given(tasks(), st.sampled_from([0.0, 1.0, 2.0]))
def test_a_lane_works_in_order_and_a_task_waits_for_what_it_needs(given: list[Task], cores: float) -> None:
    spans = simulated(given, cores)
    for mine in by_lane(spans).values():
        assert all(a.end <= b.begin + 1e-9 for a, b in pairwise(mine))
        assert max((s.end for s in mine), default=0.0) >= sum(s.task.seconds for s in mine) - 1e-9
    for span in spans:
        assert all(spans[need].end <= span.begin + 1e-9 for need in span.task.after)
        assert span.end - span.begin >= span.task.seconds - 1e-9


@given(tasks())
def test_without_shared_cores_tasks_take_their_time_and_begin_at_once(given: list[Task]) -> None:
    """Each begins when its lane is free and all that it needs is done: no later, so the schedule is the shortest."""
    spans, free = simulated(given), dict.fromkeys(LANES, 0.0)
    for span in spans:
        ready = max([free[span.task.lane], *(spans[need].end for need in span.task.after)])
        assert span.begin == pytest.approx(ready) and span.end == pytest.approx(ready + span.task.seconds)
        assert span.waited == pytest.approx(span.begin - free[span.task.lane]) or not span.whom
        free[span.task.lane] = span.end


@given(tasks(), st.sampled_from([1.0, 2.0]))
def test_cores_do_no_more_work_than_they_can(given: list[Task], cores: float) -> None:
    ends = [s.end for s in simulated(given, cores)]
    wanted = sum(task.seconds * min(task.cores, cores) for task in given)
    assert max(ends) >= wanted / cores - 1e-9
    assert max(ends) >= max(s.end for s in simulated(given)) - 1e-9


def test_who_waits_for_whom() -> None:
    spans = simulated([Task("disk", 3.0, "a"), Task("compute", 1.0, "a", (0,)), Task("compute", 1.0, "b")])
    assert [(s.waited, s.whom) for s in spans] == [(0.0, ""), (3.0, "disk"), (0.0, "")]


def test_two_threads_on_one_core_take_twice_as_long() -> None:
    spans = simulated([Task("disk", 2.0, "a", cores=1), Task("compute", 1.0, "a", cores=1)], cores=1)
    assert [s.end for s in spans] == [3.0, 2.0]


def test_a_task_that_needs_a_later_one_is_refused() -> None:
    with pytest.raises(ValueError, match="comes after"):
        simulated([Task("disk", 1.0, "a", (1,)), Task("disk", 1.0, "b")])
