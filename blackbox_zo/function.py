"""`FunctionOracle`: any Python function as an oracle, alone, vectorised, on worker processes or on an executor."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np

from blackbox_zo._checks import check_at_least, check_choice, check_positive
from blackbox_zo._number import number, numbers
from blackbox_zo._typing import Floats, Ints, Tree, override
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Answered, Part, gather, queries_of
from blackbox_zo.proposal import Proposal
from blackbox_zo.retry import again, check_no_retries
from blackbox_zo.stopping import Curve, Stoppable, Stopped, Stopper, StoppingRule
from blackbox_zo.stopping._reports import during
from blackbox_zo.variables._labels import writable
from blackbox_zo.variables._tree import like
from blackbox_zo.workers._function import function_workers
from blackbox_zo.workers._outcomes import Lost, Raised
from blackbox_zo.workers._pool import Pool
from blackbox_zo.workers._remote import Call, Remote
from blackbox_zo.workers._sharing import CHUNK

__all__ = ["FunctionOracle"]


class FunctionOracle(Stoppable):
    """Ask a Python function.

    A worker process is a fresh interpreter that gets `fun` by cloudpickle, so lambdas, closures and functions of a
    notebook work, and threads in this process do no harm. What `fun` changes in a worker stays there. A worker
    that dies is replaced, and the query it was at is asked once more; if that worker dies too, the query has failed. If
    the iterator of `parts` is closed, the workers that are busy are ended at once. On Windows workers cannot be ended
    while they are busy.

    Args:
        fun: From x, in the structure of x0, to one number. NaN or infinity is a failed query. With `vectorized`, from
            all n points (each leaf with n as first axis) to n numbers.
        vectorized: Ask all points of a step in one call; with `workers=k`, in k calls of about n / k points.
        workers: Number of worker processes. 1 asks in this process, unless there is a `timeout`. Beside an `executor`,
            a number above 1 is how many calls to have on it at a time.
        executor: A `concurrent.futures.Executor` to use instead: threads, processes, Dask, MPI. It is not shut down.
        on_error: What an exception in `fun` does: "raise" it, or "skip", a failed query. A broken executor
            always raises.
        args: More arguments for `fun`, after x.
        timeout: Seconds that one call of `fun` may take. Then its worker is ended, with all that it has started, and
            the query has failed; it is asked again only with `retries`. Not on Windows.
        stopping: Decides by what `fun` reports (`report`) whether a query goes on; see `SuccessiveHalving`. Not on an
            `executor`, nor with `vectorized`; on Windows only in this process.
        memory_growth: MiB by which the memory of a worker may grow before it is replaced; none is no limit. Not on
            Windows.
        retries: How often a failed query is asked again before it has failed; see `Retry`.

    Attributes:
        calls: Number of times `fun` was called, retries included (with `vectorized`, number of points).
        raised: The exception of `fun` that was raised last; None for none. Others, such as a `WorkerError`, are not
            those of `fun`.

    Raises:
        TypeError: `fun` cannot be called, or `executor` is none, or `args` are no tuple.
        ValueError: An argument is out of its range, arguments exclude each other, or `fun` cannot be sent to workers.

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
        timeout: float | None = None,
        memory_growth: float | None = None,
        retries: int = 0,
        stopping: StoppingRule | None = None,
    ) -> None:
        if not callable(fun):
            raise TypeError(f"`fun` must be a function of x, got {fun!r:.60}.")
        check_at_least("FunctionOracle", 1, workers=workers)
        check_at_least("FunctionOracle", 0, retries=retries)
        check_choice("FunctionOracle", ("raise", "skip"), on_error=on_error)
        if vectorized and executor is not None:
            raise ValueError("`vectorized=True` asks all points in one call; use `workers` with it, not `executor`.")
        if not isinstance(args, tuple | list):
            raise TypeError(
                f"`args` must be a tuple of further arguments of `fun`, got {args!r:.60}; write `(a,)` for one."
            )
        if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
            raise TypeError(
                f"`executor` must be an executor, such as `ThreadPoolExecutor(4)`, got {executor!r:.60}."
                + (f" Say `workers={executor}` for so many processes." if isinstance(executor, int) else "")
            )
        for name, value in (("timeout", timeout), ("memory_growth", memory_growth)):
            if value is not None:
                check_positive("FunctionOracle", **{name: value})
                if executor is not None:
                    raise ValueError(f"`{name}` is for worker processes; calls on an `executor` cannot be ended.")
        if stopping is not None and (executor is not None or vectorized):
            other = "calls on an `executor` cannot be stopped; use `workers`" if executor is not None else (
                "`vectorized=True` asks all points in one call; leave one of them out"
            )  # fmt: skip
            raise ValueError(f"`stopping` ends one query early, but {other}.")
        self.stopper = None if stopping is None else Stopper(stopping, "`fun`")
        self._reporting = dict[int, Curve]()
        self.fun: Callable[[Tree], Any] = (lambda x: fun(x, *args)) if args else fun
        self.vectorized, self.on_error, self.calls, self.workers = vectorized, on_error, 0, int(workers)
        self.retries = int(retries)
        self.raised: BaseException | None = None
        self._pool: Pool | Remote | None = None
        if executor is not None:
            self._pool = Remote(Call(fun, args), executor, self.workers if self.workers > 1 else None)
        elif workers > 1 or timeout is not None or memory_growth is not None:
            self._pool = function_workers(
                fun, args, self.workers, vectorized=vectorized, timeout=timeout, growth=memory_growth,
                heard=None if self.stopper is None else self._heard,
            )  # fmt: skip

    def answer(self, proposal: Proposal) -> Values:
        """See `Oracle.answer`."""
        return gather(proposal, self.parts(proposal))

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """See `Oracle.parts`: one part per call of `fun`; of calls that are very short, several in one.

        With a journal, calls in this process are one part each, so that a process that is killed loses no answer.
        """
        return again(self._parts_once, proposal, self.retries) if self.retries else self._parts_once(proposal)

    def _parts_once(self, proposal: Proposal) -> Iterator[Part]:
        if self._pool is not None:
            yield from self._elsewhere(self._pool, proposal)
        elif self.vectorized:
            self.calls += proposal.n
            yield self._part(proposal, [(np.arange(proposal.n), _tried(lambda: self.fun(_writable(proposal.trees()))))])
        elif self.stopper is not None:
            for i in range(proposal.n):
                x = proposal.tree(i)
                self.calls += 1
                yield self._part(proposal, [(np.array([i]), self._heard_here(proposal, i, x))])
        else:
            yield from self._here(proposal)

    def _here(self, proposal: Proposal) -> Iterator[Part]:
        """Calls in this process; without a journal, which is to miss none, answers of very short ones come together."""
        ids, first, values, begun = proposal.ids, 0, list[float](), time.monotonic()
        wait = 0.0 if proposal.moment.learning.journaled else CHUNK
        for i in range(len(ids)):
            x = proposal.tree(i)
            self.calls += 1
            try:
                values.append(number(self.fun(x)))
            except BaseException as error:  # what was answered before comes first
                if values:
                    with suppress(GeneratorExit):
                        yield ids[first:i], Values.of(values)
                if not isinstance(error, Exception):
                    raise
                yield self._part(proposal, [(np.array([i]), Raised(error))])
                first, values = i + 1, []
            if values and time.monotonic() >= begun + wait:
                yield ids[first : i + 1], Values.of(values)
                first, values, begun = i + 1, [], time.monotonic()
        if values:
            yield (ids[first:] if first else ids), Values.of(values)

    @override
    def stream(self, ask: Callable[[], Proposal | None]) -> Iterator[Answered]:
        """See `Oracle.stream`.

        Raises:
            ValueError: The function takes all points of a step at once, failures are to be asked again, or nothing says
                how many calls the executor runs at a time.
        """
        check_no_retries(self.retries)
        if self.vectorized:
            raise ValueError(
                "`vectorized=True` asks all points of a step in one call, and an asynchronous step has one. Leave "
                "`asynchronous` out, or let `fun` take one point."
            )
        if self._pool is None:
            warnings.warn(
                "`asynchronous=True` asks one point at a time here, as there is one worker, this process; give "
                "`workers=` or `executor=` for more.",
                stacklevel=2,
            )
            return self._one_by_one(ask)
        return self._streamed(self._pool, ask)

    def _one_by_one(self, ask: Callable[[], Proposal | None]) -> Iterator[Answered]:
        while (proposal := ask()) is not None:
            for ids, part in self.parts(proposal):
                yield proposal, ids, part

    def _streamed(self, pool: Pool | Remote, ask: Callable[[], Proposal | None]) -> Iterator[Answered]:
        queries, open_, count, broken_off = queries_of(ask), dict[int, tuple[Proposal, int]](), 0, list[int]()

        def more() -> int | None:
            nonlocal count
            query = next(queries, None)
            if query is None:
                return None
            open_[count] = query
            count += 1
            return count - 1

        def task(k: int) -> Any:
            return self._begun(k, *open_[k])

        results = pool.stream(more, task, broken_off)
        try:
            for found in results:
                self.calls += len(found)
                for k, result in sorted(found, key=lambda one: isinstance(one[1], Raised)):  # answers come first
                    proposal, i = open_.pop(k)
                    ids, part = self._part(proposal, [(np.array([i]), self._over(k, proposal, i, result))])
                    yield proposal, ids, part
        finally:
            results.close()
            self.calls += len(broken_off)

    def _elsewhere(self, pool: Pool | Remote, proposal: Proposal) -> Iterator[Part]:
        n, broken_off = proposal.n, list[int]()
        if self.vectorized:
            shares = np.array_split(np.arange(n), min(self.workers, n))
            results = pool.run(len(shares), lambda k: proposal.take(shares[k]).trees(), broken_off)
        else:
            shares = list(np.arange(n)[:, None])
            results = pool.run(n, lambda k: self._begun(k, proposal, k), broken_off)
        try:
            for found in results:
                some = [(shares[k], self._over(k, proposal, k, result)) for k, result in found]
                self.calls += sum(len(share) for share, _ in some)
                yield from self._parts(proposal, some)
        finally:
            results.close()
            self.calls += sum(len(shares[k]) for k in broken_off)  # calls that were ended were calls too

    # ------------------------------------------------------------------------------------------------ early stopping

    def _begun(self, k: int, proposal: Proposal, i: int) -> Tree:
        """The point of task k, whose reports are listened to from now on."""
        if self.stopper is not None:
            self._reporting[k] = self.stopper.begin(self, proposal, int(proposal.ids[i]))
        return proposal.tree(i)

    def _heard(self, k: int, step: float, value: float) -> bool:
        """A report of task k; whether it is to stop."""
        assert self.stopper is not None
        return k in self._reporting and self.stopper.stops(self._reporting[k], step, value)

    def _over(self, k: int, proposal: Proposal, i: int, result: Any) -> Any:
        """The result of task k, `Noted` if it has reported."""
        curve = self._reporting.pop(k, None)
        if self.stopper is None or curve is None:
            return result
        stopped = isinstance(result, Raised) and isinstance(result.error, Stopped) and bool(curve.values)
        failed = isinstance(result, Raised | Lost) and not stopped
        query = int(proposal.ids[i])
        note = self.stopper.end(self, proposal, query, curve, stopped=stopped, failed=failed)
        return Noted(curve.values[-1] if stopped else result, note) if note else result

    def _heard_here(self, proposal: Proposal, i: int, x: Tree) -> Any:
        """The result of a call in this process."""
        assert self.stopper is not None
        self._reporting[i] = self.stopper.begin(self, proposal, int(proposal.ids[i]))
        try:
            with during(lambda step, value: self._heard(i, step, value)):
                result = self.fun(x)
        except (Exception, Stopped) as error:
            result = Raised(error)
        return self._over(i, proposal, i, result)

    # -------------------------------------------------------------------------------------------------- what came of it

    def _parts(self, proposal: Proposal, found: list[tuple[Ints, Any]]) -> Iterator[Part]:
        """What has arrived as one part; what is raised comes after the answers."""
        good = [(share, result) for share, result in found if not _raised(result)]
        bad = [(share, result) for share, result in found if _raised(result)]
        for some in (good, bad):
            if some:
                yield self._part(proposal, some)

    def _part(self, proposal: Proposal, found: list[tuple[Ints, Any]]) -> Part:
        values, info = [], list[dict[str, Any] | None]()
        for share, result in found:
            value, note = self._value(result, len(share))
            values.append(value)
            info += [note] * len(share)
        ids = proposal.ids[np.concatenate([share for share, _ in found])]
        return ids, Values(np.concatenate(values), info=info if any(info) else None)

    def _value(self, result: Any, n: int) -> tuple[Floats, dict[str, Any] | None]:
        """What came of a call about n points."""
        if isinstance(result, Noted):
            value, failure = self._value(result.result, n)
            return value, {**result.note, **(failure or {})}
        if not isinstance(result, Lost | Raised):
            try:
                return numbers(result, n) if self.vectorized else np.array([number(result)]), None
            except TypeError as error:
                result = Raised(error)
        if isinstance(result, Lost):
            return np.full(n, np.nan), {"error": result.reason}
        if self.on_error == "raise" or not isinstance(result.error, Exception):
            self.raised = result.error
            raise result.error
        return np.full(n, np.nan), {"error": f"{type(result.error).__name__}: {result.error}"}

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.close()


class Noted(NamedTuple):
    """The result of a call, with its entries for the journal."""

    result: Any
    note: dict[str, Any]


def _raised(result: Any) -> bool:
    return isinstance(result.result if isinstance(result, Noted) else result, Raised)


def _tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return Raised(error)


def _writable(tree: Tree) -> Tree:
    """A copy of each array, for functions that write to their argument."""
    if isinstance(tree, dict):
        return {k: _writable(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return like(tree, [_writable(v) for v in tree])
    return writable(tree)
