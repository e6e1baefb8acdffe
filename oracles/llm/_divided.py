"""How ranks share a step of a `LossOracle`: each takes some queries on some rows of the batch, and sends their sums."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._stacking import take_rows
from blackbox_zo.proposal import Proposal
from blackbox_zo.ranks import Ranks
from oracles.llm._eager import eagerly
from oracles.llm._ownership import Owned
from oracles.llm._reach import Reached

__all__ = ["NOT_FINITE", "Answers", "Portion", "Together", "added", "digest", "divide", "units_of"]

NOT_FINITE = "the loss is NaN or infinite; use a smaller learning rate or radius, or fp32"


class Answers(NamedTuple):
    """What the queries gave.

    Attributes:
        values: The value of each query, shape (n,).
        why: Why a query has failed.
        sums: The sum of what each has lost on its rows; where shares are compared with x, beyond what x loses there.
        at_x: The sum of what x loses on all rows, where shares are compared with it; else 0.
    """

    values: Floats
    why: Callable[[int], str]
    sums: Floats = np.empty(0)
    at_x: float = 0.0


class Oracle(Protocol):
    """What `Together` needs of a `LossOracle`."""

    reached: Reached
    directions_per: Any
    forwards: int
    sweep: Any
    reason: str
    _tried: set[str]

    def _owned(self, batch: Any) -> Owned: ...
    def _rows(self, displacements: Displacements, owned: Owned) -> torch.Tensor: ...
    def _compares(self, displacements: Displacements) -> bool: ...
    def _why_scratch(self, displacements: Displacements, owned: Owned) -> str | None: ...
    def _displacements(self, proposal: Proposal, which: Ints | None = None) -> Displacements: ...
    def _check_flat(self, displacements: Displacements, means: Floats, batch: Any, owned: Owned) -> None: ...
    def _on_rows(
        self, displacements: Displacements, batch: Any, owned: Owned, rows: torch.Tensor, compared: bool
    ) -> Answers: ...


class Together:
    """Answers a step with the other ranks.

    Args:
        oracle: The oracle, whose passes evaluate the portion of this rank.
        ranks: The ranks.
    """

    def __init__(self, oracle: Oracle, ranks: Ranks) -> None:
        self.oracle, self.ranks = oracle, ranks

    def __call__(self, proposal: Proposal, every: Displacements, batch: Any) -> Answers:
        """The value of each query, the same bits on all ranks.

        Raises:
            ValueError: The loss mixes rows, and there are more ranks than queries.
            RankError: Another rank differs, has stopped or has died.
        """
        oracle, ranks = self.oracle, self.ranks
        with eagerly():
            owned, before = oracle._owned(batch), (set(oracle._tried), oracle.sweep)
            rows, compared = oracle._rows(every, owned), oracle._compares(every)
            parts = self._parts(every, owned, rows)
            queries, columns = parts[ranks.rank]
            sent, notes = np.zeros(max(len(part.queries) for part in parts) + compared), dict[str, Any]()
            if len(queries):
                seen = rows[queries][:, columns]
                own = self._portion(proposal, queries, batch, owned, seen, compared)
                sent[: len(queries)] = own.sums
                if compared:
                    sent[-1] = own.at_x
                if bad := np.flatnonzero(~np.isfinite(own.sums)).tolist():
                    notes["why"] = {int(queries[i]): own.why(i) for i in bad}
                others = len(rows) * rows.shape[1] - seen.numel()
                oracle.forwards += others + (owned.size - len(torch.unique(seen)) if compared else 0)
            if (oracle._tried, oracle.sweep) != before:
                notes["chosen"] = [sorted(oracle._tried), oracle.sweep, oracle.reason]
            found, said = ranks.gather(proposal, sent, notes or None, lambda: {"batch of the step": digest(batch)})
            why = self._learn_of_others(said or [])
            values = added(found, parts, len(rows)) / rows.shape[1]
            if compared:
                values += found[:, -1].sum() / owned.size
            oracle._check_flat(every, values, batch, owned)
        return Answers(values, lambda i: why.get(str(i), NOT_FINITE))

    def _parts(self, every: Displacements, owned: Owned, rows: torch.Tensor) -> list[Portion]:
        """The portion of each rank."""
        oracle, size = self.oracle, self.ranks.size
        if owned.mixes and len(rows) < size:
            raise ValueError(
                f"{owned.mixes} So {size} ranks cannot share {len(rows)} queries; use at most {len(rows)}."
            )
        units = units_of(rows, oracle.directions_per == "example")
        together = oracle._why_scratch(every, owned) is None
        return divide(units, rows.shape[1], size, rows_first=together, whole=bool(owned.mixes))

    def _portion(
        self, proposal: Proposal, which: Ints, batch: Any, owned: Owned, rows: torch.Tensor, compared: bool
    ) -> Answers:
        """What some queries lose on some rows, shape (queries, rows); nothing else of the batch is looked at."""
        displacements = self.oracle._displacements(proposal, which)
        some = torch.unique(rows)
        if len(some) < owned.size:
            batch = take_rows(batch, some, owned.size, lambda t: t, owned.shared)
            owned, rows = owned._replace(size=len(some)), torch.searchsorted(some, rows.contiguous())
        found = self.oracle._on_rows(displacements, batch, owned, rows, compared)
        if np.isfinite(found.values).all():
            self.oracle.reached.check(displacements)
        return found

    def _learn_of_others(self, said: list[Any]) -> dict[str, str]:
        """Take over what other ranks have found out of the sweeps; why queries have failed, by their positions."""
        oracle, why = self.oracle, dict[str, str]()
        for notes in said:
            why |= (notes or {}).get("why", {})
            if "chosen" in (notes or {}):
                tried, sweep, reason = notes["chosen"]
                oracle._tried |= set(tried)
                if oracle.sweep != sweep == "scratch":
                    oracle.sweep, oracle.reason = sweep, reason
        return why


class Portion(NamedTuple):
    """What one rank takes of a step.

    Attributes:
        queries: Positions of its queries.
        columns: Which of the rows that each query sees.
    """

    queries: Ints
    columns: slice


def units_of(rows: torch.Tensor, by_share: bool) -> list[Ints]:
    """The positions of queries that stay together: alone, or with those on the same rows if each sees a share.

    Args:
        rows: The rows that each query sees, shape (n, m).
        by_share: Whether each sees a share of the batch.
    """
    n = len(rows)
    if not by_share:
        return list(np.arange(n)[:, None])
    first = rows[:, 0].numpy()
    return [np.flatnonzero(first == row) for row in np.unique(first)]


def divide(units: Sequence[Ints], m: int, size: int, *, rows_first: bool, whole: bool) -> list[Portion]:
    """The portion of each rank, from a grid over units of queries and rows.

    Of all grids with as many cells as ranks, the one whose largest cell is smallest; of several, the one with the most
    parts of rows (each query's noise is then made on all ranks) or of queries (a rank then may need all rows).

    Args:
        units: The units of queries.
        m: Rows that each query sees.
        size: Number of ranks.
        rows_first: Which of several grids.
        whole: Whether rows must stay together.
    """

    def cost(a: int) -> tuple[int, int]:
        return -(-len(units) // a) * -(-m // (size // a)), a if rows_first else -a

    along = size if whole else min((a for a in range(1, size + 1) if size % a == 0), key=cost)
    across = size // along
    groups = np.array_split(np.arange(len(units)), along)
    out = []
    for rank in range(size):
        i, j = divmod(rank, across)
        queries = [units[u] for u in groups[i]]
        columns = slice(j * m // across, (j + 1) * m // across)
        empty = not queries or columns.start == columns.stop
        out.append(Portion(np.sort(np.concatenate(queries)) if not empty else np.empty(0, dtype=np.intp), columns))
    return out


def added(found: Floats, parts: Sequence[Portion], n: int) -> Floats:
    """The sum of each query over the ranks, shape (n,), in the order of the ranks on each of them.

    Args:
        found: What each rank sent: the sums of its queries first, shape (ranks, most queries or more).
        parts: The portions.
        n: Number of queries.
    """
    total = np.zeros(n)
    for sums, part in zip(found, parts, strict=True):
        total[part.queries] += sums[: len(part.queries)]
    return total


def digest(batch: Any) -> int:
    """A checksum of the tensors and lists of a batch."""
    if isinstance(batch, torch.Tensor):
        t = batch.detach().cpu().contiguous().view(-1)
        return zlib.crc32(t.view(torch.uint8).numpy().data if t.numel() else b"")
    if isinstance(batch, Mapping):
        batch = [x for name in batch for x in (name, batch[name])]
    if isinstance(batch, list | tuple):
        return zlib.crc32(repr([digest(part) for part in batch]).encode())
    inner = getattr(batch, "data", None)
    if isinstance(inner, dict):  # transformers' BatchEncoding
        return digest(inner)
    return zlib.crc32(repr(batch).encode())
