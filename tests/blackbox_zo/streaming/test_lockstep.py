"""Tasks that meet at gates: one runs at a time, each gate opens for all that wait there, and errors end all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blackbox_zo.modules._forwards import instead
from blackbox_zo.streaming._lockstep import Lockstep

Gates = Sequence[int]


@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=5))
def test_every_task_passes_its_gates_in_order(routes: list[list[int]]) -> None:
    """Each gate that is opened lets all through that wait there; nobody runs while another does."""
    seen: list[list[int]] = [[] for _ in routes]
    opened: list[int] = []
    running = threading.Lock()
    gates = [object() for _ in range(5)]

    def task(i: int) -> Callable[[], None]:
        def work() -> None:
            for number in routes[i]:
                assert running.acquire(blocking=False)
                running.release()
                assert Lockstep.wait_at(gates[number])
                assert opened[-1] == number
                seen[i].append(number)

        return work

    Lockstep(map(task, range(len(routes))), min_by(gates), lambda gate: opened.append(gates.index(gate))).run()
    assert seen == routes
    assert len(opened) <= sum(map(len, routes))


def min_by(gates: Sequence[object]) -> Callable[[Sequence[object]], object]:
    """The gate that comes first."""
    return lambda waiting: min(waiting, key=gates.index)


def test_the_same_route_opens_each_gate_once() -> None:
    """However many tasks there are."""
    gates, opened = [object() for _ in range(6)], list[object]()

    def work() -> None:
        for gate in gates:
            Lockstep.wait_at(gate)

    Lockstep([work] * 7, min_by(gates), opened.append).run()
    assert opened == gates


@pytest.mark.parametrize("where", [0, 2])
def test_an_error_ends_all_and_is_raised(where: int) -> None:
    """No thread is left, and nobody goes on."""
    gate, went_on = object(), list[int]()

    def task(i: int) -> Callable[[], None]:
        def work() -> None:
            Lockstep.wait_at(gate)
            if i == where:
                raise KeyError(i)
            Lockstep.wait_at(gate)
            went_on.append(i)

        return work

    before = threading.active_count()
    with pytest.raises(KeyError):
        Lockstep([task(i) for i in range(4)], lambda gates: gates[0], lambda _: None).run()
    assert threading.active_count() == before
    assert not went_on


def test_an_error_of_opening_is_raised() -> None:
    """As where a disk fails."""

    def fail(_: object) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Lockstep([lambda: Lockstep.wait_at(1)] * 3, lambda gates: gates[0], fail).run()


def test_outside_of_tasks_nobody_waits() -> None:
    """The caller opens the gate itself."""
    assert not Lockstep.wait_at(object())


def test_each_task_has_its_own_forwards_and_modes() -> None:
    """What one gives a module while it waits, the others do not see."""
    module, gate, found = torch.nn.Identity(), object(), list[object]()

    def task(i: int) -> Callable[[], None]:
        def work() -> None:
            assert "forward" not in vars(module)
            with instead({module: lambda _: i}), torch.set_grad_enabled(bool(i % 2)):
                Lockstep.wait_at(gate)
                found.append((module(torch.ones(1)), torch.is_grad_enabled()))

        return work

    Lockstep([task(i) for i in range(4)], lambda gates: gates[0], lambda _: None).run()
    assert found == [(i, bool(i % 2)) for i in range(4)]
    assert "forward" not in vars(module)


def test_tasks_run_as_their_caller_would() -> None:
    """With its gradients, autocast and number of threads, which torch keeps by thread."""
    seen: list[tuple[bool, bool, torch.dtype, int]] = []

    def work() -> None:
        seen.append((
            torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
            torch.get_num_threads(),
        ))  # fmt: skip

    def run() -> None:
        work()
        Lockstep([work], min, lambda gate: None).run()

    run()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        run()
    assert seen[1] == seen[0] and seen[3] == seen[2]
    assert seen[2][:3] == (False, True, torch.float16)
