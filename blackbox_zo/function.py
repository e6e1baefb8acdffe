"""`FunctionOracle`: any Python function as an oracle, alone, vectorised, on worker processes or on an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, Literal

import numpy as np

from blackbox_zo._checks import check_at_least, check_choice
from blackbox_zo._number import number, numbers
from blackbox_zo._typing import Tree
from blackbox_zo._workers import Workers
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Oracle, Part, gather
from blackbox_zo.proposal import Proposal
from blackbox_zo.variables._tree import like

__all__ = ["FunctionOracle"]


class FunctionOracle(Oracle):
    """Ask a Python function.

    Args:
        fun: From x, in the structure of x0, to one number. NaN or infinity is a failed query. With `vectorized`, from
            all n points (each leaf with n as first axis) to n numbers.
        vectorized: Ask all points of a step in one call.
        workers: Number of worker processes. Where processes can be forked (Linux, macOS) `fun` may be anything;
            elsewhere it must be importable. A worker that dies costs its query only, after one more try.
        executor: A `concurrent.futures.Executor` to use instead: threads, Dask, MPI. It is not shut down.
        on_error: What an exception in `fun` does: "raise" it, or "skip", a failed query.
        args: More arguments for `fun`, after x.

    Attributes:
        calls: Number of times `fun` was called (with `vectorized`, number of points).

    Raises:
        TypeError: `fun` cannot be called.
        ValueError: An argument is out of its range, or arguments exclude each other.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> s = bz.Search({"a": 1.0, "b": np.ones(2)}, bz.RandomVector(1e-3, 3), bz.SGD(0.1))
        >>> oracle = FunctionOracle(lambda x: x["a"] ** 2 + x["b"] @ x["b"])
        >>> for report in s.run(oracle, steps=100):
        ...     pass
        >>> report.best < 1e-3
        True
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        *,
        vectorized: bool = False,
        workers: int = 1,
        executor: Executor | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        args: tuple[Any, ...] = (),
    ) -> None:
        if not callable(fun):
            raise TypeError(f"`fun` must be a function of x, got {fun!r:.60}.")
        check_at_least("FunctionOracle", 1, workers=workers)
        check_choice("FunctionOracle", ("raise", "skip"), on_error=on_error)
        if vectorized and (workers > 1 or executor is not None):
            raise ValueError("`vectorized=True` asks all points in one call; leave `workers` and `executor` out.")
        if executor is not None and workers > 1:
            raise ValueError("Give either `workers` or `executor`, not both.")
        self.fun: Callable[[Tree], Any] = (lambda x: fun(x, *args)) if args else fun
        self.vectorized, self.on_error, self.calls = vectorized, on_error, 0
        self._executor = executor
        self._workers = Workers(self.fun, workers) if workers > 1 else None

    def answer(self, proposal: Proposal) -> Values:
        """See `Oracle.answer`."""
        return gather(proposal, self.parts(proposal))

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """See `Oracle.parts`: one part per call of `fun`."""
        if self.vectorized:
            yield proposal.ids, self._all(proposal)
        elif self._executor is not None or self._workers is not None:
            yield from self._spread(proposal)
        else:
            for i in range(proposal.n):
                x = proposal.tree(i)
                self.calls += 1
                try:
                    result = Values([number(self.fun(x))])
                except Exception as error:
                    result = self._failed(error)
                yield proposal.ids[i : i + 1], result

    def _failed(self, error: Exception) -> Values:
        if self.on_error == "raise":
            raise error
        return Values([np.nan], info=[{"error": f"{type(error).__name__}: {error}"}])

    def _all(self, proposal: Proposal) -> Values:
        self.calls += proposal.n
        try:
            return Values(numbers(self.fun(_writable(proposal.trees())), proposal.n))
        except Exception as error:
            if self.on_error == "raise":
                raise
            info = {"error": f"{type(error).__name__}: {error}"}
            return Values(np.full(proposal.n, np.nan), info=[info] * proposal.n)

    def _spread(self, proposal: Proposal) -> Iterator[Part]:
        """Ask on an executor, yielding answers as they come."""
        rest, suspects = list(range(proposal.n - 1, -1, -1)), list[int]()
        running: dict[Future[float], int] = {}
        most = proposal.n if self._workers is None else self._workers.n  # a kill loses only what is under way
        try:
            while rest or running or suspects:
                while rest and len(running) < most and not suspects:
                    i = rest.pop()
                    running[self._submit(proposal.tree(i))] = i
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    i = running.pop(future)
                    if isinstance(future.exception(), BrokenExecutor) and self._workers is not None:
                        suspects.append(i)  # some query killed a worker, and all under way went down with it
                    else:
                        yield proposal.ids[i : i + 1], self._result(future)
                while suspects and not running:
                    i = suspects.pop()
                    yield proposal.ids[i : i + 1], self._again(proposal.tree(i))
        finally:
            if running:
                self.calls -= sum(future.cancel() for future in running)
                if self._workers is not None:
                    self._workers.kill()

    def _submit(self, x: Tree) -> Future[float]:
        self.calls += 1
        if self._workers is not None:
            return self._workers.submit(x)
        assert self._executor is not None
        return self._executor.submit(_call, self.fun, x)

    def _again(self, x: Tree) -> Values:
        """Ask once more, alone, on a fresh worker, a query that was under way when a worker died."""
        assert self._workers is not None
        self._workers.kill()
        future = self._workers.submit(x)
        wait([future])
        if isinstance(future.exception(), BrokenExecutor):
            self._workers.kill()
            return Values([np.nan], info=[{"error": "the worker process died, and again on this query alone"}])
        return self._result(future)

    def _result(self, future: Future[float]) -> Values:
        error = future.exception()
        if error is None:
            return Values([future.result()])
        if not isinstance(error, Exception):
            raise error
        return self._failed(error)

    def close(self) -> None:
        """End the worker processes."""
        if self._workers is not None:
            self._workers.close()


def _call(fun: Callable[[Tree], Any], x: Tree) -> float:
    return number(fun(x))


def _writable(tree: Tree) -> Tree:
    """A copy of each array, for functions that write to their argument."""
    if isinstance(tree, dict):
        return {k: _writable(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return like(tree, [_writable(v) for v in tree])
    return np.array(tree)
