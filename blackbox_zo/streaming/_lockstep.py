"""Several passes through a model at once, in step: each block answers all of them while it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

from blackbox_zo._typing import override
from blackbox_zo.modules import _forwards

__all__ = ["Lockstep"]


class _Ended(BaseException):
    """Unwinds a task whose run has ended."""


class _Task(threading.Thread):
    def __init__(self, lockstep: Lockstep, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.lockstep, self.work = lockstep, work
        self.turn = threading.Semaphore(0)
        self.gate: Any = None
        self.done = False
        self.error: BaseException | None = None
        self.within = _surroundings()

    @override
    def run(self) -> None:
        self.turn.acquire()
        try:
            if not self.lockstep.ended:
                self.lockstep.begin()
                with self.within():
                    self.work()
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self.lockstep.back.release()

    def wait_at(self, gate: Any) -> None:
        self.gate = gate
        lifted = _forwards.lift()
        self.lockstep.back.release()
        self.turn.acquire()
        if self.lockstep.ended:
            raise _Ended
        _forwards.put_back(lifted)


def _surroundings() -> Callable[[], AbstractContextManager[None]]:
    """What torch keeps by thread and the results depend on, as it is in this thread, for another."""
    grad, threads, kept = torch.is_grad_enabled(), torch.get_num_threads(), torch.is_autocast_cache_enabled()
    here = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
    kinds = ["cpu", *([here.type] if here is not None else [])]
    casts = {kind: torch.get_autocast_dtype(kind) for kind in kinds if torch.is_autocast_enabled(kind)}

    @contextmanager
    def entered() -> Iterator[None]:
        torch.set_num_threads(threads)  # OpenMP keeps it by thread; another number rounds otherwise
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(grad))
            for kind, dtype in casts.items():
                stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=kept))
            yield

    return entered


class Lockstep:
    """Runs tasks one at a time. A task that comes to a gate waits, until all others are at a gate or done.

    Then one of these gates is opened, and the tasks that wait there go on, one after the other, each to its next gate.
    Which tasks meet at a gate, how often and in which order may differ.

    Args:
        tasks: Functions, each of which is run in a thread of its own.
        choose: Which of the gates where tasks wait is opened next.
        open_: Opens it. It is called in the thread of `run`.
        begin: Called first in the thread of each task.
    """

    def __init__(
        self,
        tasks: Iterable[Callable[[], Any]],
        choose: Callable[[Sequence[Any]], Any],
        open_: Callable[[Any], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.back, self.ended = threading.Semaphore(0), False
        self.choose, self.open, self.begin = choose, open_, begin
        self.tasks = [_Task(self, work) for work in tasks]

    def run(self) -> None:
        """Run all tasks to their ends. The first error of one ends all, and is raised."""
        try:
            for task in self.tasks:
                task.start()
                self._go_on(task)
            while waiting := [task for task in self.tasks if not task.done]:
                gate = self.choose([task.gate for task in waiting])
                self.open(gate)
                for task in waiting:
                    if task.gate is gate:
                        self._go_on(task)
        finally:
            self.ended = True
            for task in self.tasks:
                if task.ident is not None:
                    task.turn.release()
                    task.join()

    def _go_on(self, task: _Task) -> None:
        task.turn.release()
        self.back.acquire()
        if task.error is not None:
            raise task.error

    @staticmethod
    def wait_at(gate: Any) -> bool:
        """In a task: wait until a gate is open. Elsewhere: False at once."""
        task = threading.current_thread()
        if not isinstance(task, _Task):
            return False
        task.wait_at(gate)
        return True
