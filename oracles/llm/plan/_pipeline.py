"""A discrete-event simulation: lanes that work on tasks in their order, each task once what it needs is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Span", "Task", "simulated"]


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        lane: Who does it; a lane does its tasks one at a time, in the order of the list.
        seconds: How long it takes alone.
        what: What it works on.
        after: The tasks that must be done before it begins, by their place in the list.
        cores: Cores that it keeps busy; together no more are there than the machine has.
    """

    lane: str
    seconds: float
    what: str
    after: tuple[int, ...] = ()
    cores: float = 0.0


@dataclass
class Span:
    """When a task ran.

    Attributes:
        task: The task.
        begin: In seconds.
        end: In seconds.
        waited: Seconds for which its lane had nothing to do before it.
        whom: The lane of the task that it waited for; empty if it did not wait.
    """

    task: Task
    begin: float = 0.0
    end: float = 0.0
    waited: float = 0.0
    whom: str = ""


def simulated(tasks: Sequence[Task], cores: float = 0.0) -> list[Span]:
    """Run all tasks.

    Where tasks that run at the same time need more cores than there are, all that need cores are slowed alike.

    Args:
        tasks: Each needs only tasks that come before it in the list, so that none waits for ever.
        cores: Of the machine; 0 has as many as are asked for.

    Raises:
        ValueError: A task needs a later one.
    """
    if any(need >= i for i, task in enumerate(tasks) for need in task.after):
        raise ValueError("A task needs one that comes after it.")
    queues: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        queues.setdefault(task.lane, []).append(i)
    for queue in queues.values():
        queue.reverse()
    spans, done = [Span(task) for task in tasks], [False] * len(tasks)
    free = dict.fromkeys(queues, 0.0)
    running: dict[int, float] = {}
    now, left = 0.0, len(tasks)
    while left:
        for lane, queue in queues.items():
            if queue and queue[-1] not in running and all(done[need] for need in tasks[queue[-1]].after):
                running[queue[-1]] = tasks[queue[-1]].seconds
                _begin(spans, queue[-1], now, free[lane])
        wanted = sum(tasks[i].cores for i in running)
        slow = cores / wanted if cores and wanted > cores else 1.0
        rates = {i: slow if tasks[i].cores else 1.0 for i in running}
        step = min(rest / rates[i] for i, rest in running.items())
        now += step
        for i, rest in list(running.items()):
            if rest / rates[i] <= step:
                spans[i].end, done[i] = now, True
                free[tasks[i].lane] = now
                queues[tasks[i].lane].pop()
                del running[i]
                left -= 1
            else:
                running[i] = rest - step * rates[i]
    return spans


def _begin(spans: list[Span], i: int, now: float, free: float) -> None:
    span = spans[i]
    span.begin = now
    if now > free and span.task.after:
        span.waited = now - free
        span.whom = max((spans[need] for need in span.task.after), key=lambda s: s.end).task.lane
