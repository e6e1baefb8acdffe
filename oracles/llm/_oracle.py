"""`LossOracle`: a model's loss at each query of a step, by forward passes alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch.utils.data import DataLoader

from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.errors import OracleError
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.modules import Module
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._stacking import Unstackable
from blackbox_zo.oracle import Oracle
from blackbox_zo.proposal import Proposal
from blackbox_zo.ranks import Ranks
from oracles.llm._batches import NOTHING_SCORED, scores_something
from oracles.llm._divided import NOT_FINITE, Answers, Together
from oracles.llm._eager import eagerly, uncompiled
from oracles.llm._features import Features
from oracles.llm._loader import as_batches
from oracles.llm._ownership import Owned, Ownership
from oracles.llm._passes import Passes, is_out_of_memory, on_device_of
from oracles.llm._prompts import SharedPrompts, shorter
from oracles.llm._reach import Reached
from oracles.llm._reuse import FeatureCache
from oracles.llm._sweeps import Part, ScratchSweep, Sweep
from oracles.llm._trial import Disagreement, Trial

__all__ = ["Batches", "Loss", "LossOracle", "nine_digits"]

Loss: TypeAlias = Callable[[torch.nn.Module, Any], torch.Tensor]
Batches: TypeAlias = Sequence[Any] | Callable[[int], Any] | DataLoader[Any]


class Chosen(NamedTuple):
    """What a `LossOracle` learns: the sweep in use, the parameters it was tried with, and why it fell back."""

    sweep: Any
    tried: tuple[str, ...]
    reason: str = ""


class LossOracle(Oracle):
    """Answers each query with the mean loss of the step's batch, by forward passes alone.

    The batch depends on the step number only, so all queries of a step see the same examples and a replay sees the same
    batches. Answering never changes the weights.

    Args:
        model: The model whose parameters the search's `Module` holds. In evaluation mode, or without dropout.
        batches: A sequence of batches, used in turn, a function from the step number to a batch, or a `DataLoader`, of
            which a step's batch is a function of its number, too: where it shuffles it needs a generator, whose seed
            and the number of the pass over the data give the order. A batch is a dict or tuple of tensors (and lists)
            with the examples along the first axis; tensors on the CPU are moved to the model's device.
        loss: A function of (model, batch) that returns one value per example, shape (B,), each of its own row alone.
            It need not be differentiable. Only "scratch" accepts a scalar, the mean over the batch.
        sweep: "batched" evaluates all queries in one forward pass, "scratch" uses one pass per query. "auto" takes
            "batched" if the directions have low rank and a trial on two examples in the first step succeeds.
        directions_per: "step": every query sees the whole batch. "example": direction j of k sees only its own share,
            examples `j B/k` to `(j + 1) B/k`, so all k cost as many forward passes as one direction on the whole batch.
            They estimate the same gradient with less variance. k must divide B. Directions that are compared with each
            other (`RandomVector(difference="relative", group=m)`) have one share, so k / m must divide B.
        micro_batch: Maximum examples, summed over queries, in one forward pass; None lets the oracle choose. It does
            not affect the result. If memory runs out it is halved, with a warning.
        reuse: Whether to run the layers below the lowest searched one once for all queries of a step. "keep" also
            caches their output for each example from step to step (up to 2 GiB); batches then need a tensor
            "example_id" of shape (B,).
        examples: Names of the batch's tensors and lists that hold a row for each example; all others are shared by all
            rows. None finds out in the first step, by evaluating the batch in another order.
        ranks: The processes that share each step. Each answers some queries on some rows of the batch and sends their
            sums, so that none has more to do than another; `docs/language-models.md` says how much that rounds. The
            batches and the loss must be the same on all.

    Attributes:
        sweep: The sweep in use; `reason` says why "auto" fell back on "scratch".
        forwards: Forward passes of single examples so far, one per query; reused layers are not counted separately.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import torch, blackbox_zo as bz
        >>> from oracles.llm import LossOracle
        >>> model = torch.nn.Linear(3, 1)
        >>> def loss(model, batch):
        ...     return (model(batch["x"])[:, 0] - batch["y"]) ** 2
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> x = torch.randn(32, 3)
        >>> oracle = LossOracle(model, [{"x": x, "y": x.sum(1)}], loss)
        >>> search = bz.Search(bz.Module(model), bz.RandomVector(1e-3, 4, "lowrank"), bz.SGD(0.1))
        >>> reports = list(search.run(oracle, steps=100))
        >>> reports[-1].value < 1e-3 * reports[0].value
        True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Batches,
        loss: Loss,
        sweep: Literal["auto", "batched", "scratch"] = "auto",
        directions_per: Literal["step", "example"] = "step",
        *,
        micro_batch: int | None = None,
        reuse: bool | Literal["keep"] = True,
        examples: Sequence[str] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        if sweep not in ("auto", "batched", "scratch"):
            raise ValueError(f"`LossOracle(sweep=...)` must be 'auto', 'batched' or 'scratch', got {sweep!r}.")
        if directions_per not in ("step", "example"):
            raise ValueError(f"`LossOracle(directions_per=...)` must be 'step' or 'example', got {directions_per!r}.")
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"`LossOracle(micro_batch=...)` must be at least 1, got {micro_batch}.")
        if reuse not in (True, False, "keep"):
            raise ValueError(f"`LossOracle(reuse=...)` must be True, False or 'keep', got {reuse!r}.")
        batches = cast(Sequence[Any] | Callable[[int], Any], as_batches(batches))
        if not callable(batches) and not len(batches):
            raise ValueError("`LossOracle(batches=...)` is empty; give at least one batch.")
        if not callable(loss):
            raise TypeError(f"`LossOracle(loss=...)` must be a function of (model, batch), got {loss!r:.60}.")
        if ranks is not None and ranks.size > 1 and getattr(loss, "group_relative", False):
            raise ValueError(
                "Several ranks cannot share a loss with `group_relative=True`, which compares the answers to all "
                "queries with each other. Leave it out, or use one process."
            )
        self.model, self.loss = model, loss
        self.ranks = None if ranks is None or ranks.size == 1 else ranks
        self.batches: Sequence[Any] | Callable[[int], Any] = batches
        self.sweep, self.directions_per = sweep, directions_per
        self.passes = Passes(micro_batch)
        self.ownership = Ownership(model, loss, self.passes, examples)
        self.reached = Reached(model)
        generates = bool(getattr(loss, "generates", False))
        self.features = FeatureCache(model, loss, keep=reuse == "keep") if reuse and not generates else None
        self.prompts = SharedPrompts(model, loss, keep=reuse == "keep") if reuse and generates else None
        self.forwards = 0
        self.reason = ""
        self._tried: set[str] = set()
        self._proven: set[Any] = set()

    # ------------------------------------------------------------------------------------------------- answering

    @torch.no_grad()
    @override
    def answer(self, proposal: Proposal) -> Feedback:
        """The loss of each query on the step's batch: a mean in fp64, rounded to nine digits, as the journal holds it.

        Raises:
            TypeError: The search's variable is not a `Module` of this model, or the loss has the wrong shape.
            OracleError: The weights have changed since the proposal was made.
            RuntimeError: The model uses dropout or batch statistics in training mode.
        """
        self._adopt(self._chosen(proposal.state(self)))
        tried, sweep = set(self._tried), self.sweep
        displacements, batch = self._displacements(proposal), self.batch(proposal.step)
        if not scores_something(batch):
            return Values(np.full(proposal.n, np.nan), info=[{"error": NOTHING_SCORED}] * proposal.n)
        if self.ranks is None:
            values, why, *_ = self._answers(displacements, batch)
        else:
            values, why, *_ = Together(self, self.ranks)(proposal, displacements, batch)
        if self._tried != tried or self.sweep != sweep:
            found = {"tried": sorted(self._tried - tried), "sweep": self.sweep, "reason": self.reason}
            proposal.learn(self, int(proposal.ids[0]), found)
        failed = ~np.isfinite(values)
        info = [{"error": why(i)} if f else None for i, f in enumerate(failed.tolist())] if failed.any() else None
        return Values(nine_digits(values), info=info)

    def batch(self, step: int) -> Any:
        """The batch of a step, on the model's device."""
        batch = self.batches(step) if callable(self.batches) else self.batches[step % len(self.batches)]
        prepare = getattr(self.loss, "prepare", None)  # of a `Reward`
        return on_device_of(self.model, batch if prepare is None else prepare(batch, step))

    @torch.no_grad()
    def values(self, displacements: Displacements, batch: Any) -> Floats:
        """The mean loss of a batch at each query, shape (n,).

        Raises:
            OracleError: No query changes the loss, or no operation uses a searched parameter.
        """
        return self._answers(displacements, batch).values

    def _answers(self, displacements: Displacements, batch: Any) -> Answers:
        with eagerly():
            owned = self._owned(batch)
            rows, compared = self._rows(displacements, owned), self._compares(displacements)
            found = self._on_rows(displacements, batch, owned, rows, compared)
            if np.isfinite(found.values).all():
                self.reached.check(displacements)
            self._check_flat(displacements, found.values, batch, owned)
        return found

    def _owned(self, batch: Any) -> Owned:
        known = hasattr(self.loss, "prepare")  # of a `Reward`, which has given each row its own
        return Owned(len(batch["input_ids"])) if known else self.ownership.of(batch)

    def _on_rows(
        self, displacements: Displacements, batch: Any, owned: Owned, rows: torch.Tensor, compared: bool
    ) -> Answers:
        """The mean loss of the rows (n, m) that each query sees, `compared` with the loss at x or not."""
        searched = {key: hit.block.name for key, hit in displacements.of.items()}
        features, moving = None, self._moving(displacements.module)
        if self.features is not None and not owned.mixes:
            features = self.features.of(searched, batch, moving, self.passes, owned)
        if self.prompts is not None:
            batch = self.prompts.add(searched, moving, batch, self.passes)
        return self._means(displacements, batch, owned, features, rows, compared)

    def _compares(self, displacements: Displacements) -> bool:
        """Whether queries on different shares are compared with one at x, which sees all of them."""
        return self.directions_per == "example" and bool((displacements.queries.scale == 0.0).any())

    def _check_flat(self, displacements: Displacements, means: Floats, batch: Any, owned: Owned) -> None:
        """Say if the loss is flat, and end the run if it is so everywhere."""
        if not np.isfinite(means).all():
            return
        along = displacements.queries.index // displacements.queries.group
        groups = [means] if self.directions_per == "step" else [means[along == j] for j in set(along.tolist())]
        if not self.reached.changes(groups):
            part = Part(batch, owned, torch.arange(owned.size)[None])
            self.reached.look_farther(displacements, self._scratch, part)

    def _moving(self, module: Module) -> dict[int, str]:
        """Names of all searched parameters, by the id of the tensor."""
        return {id(p): name for name, p in module.parameters.items()}

    def _displacements(self, proposal: Proposal, which: Ints | None = None) -> Displacements:
        variable, queries = proposal.variable, proposal.queries
        if not isinstance(variable, Module) or uncompiled(variable.model) is not uncompiled(self.model):
            raise TypeError(
                "`LossOracle` evaluates its own model: search a `bz.Module` of that model, "
                f"not {'another model' if isinstance(variable, Module) else 'a ' + type(variable).__name__}."
            )
        try:
            return Displacements(variable, queries if which is None else queries.take(which))
        except RuntimeError as error:
            raise OracleError(str(error)) from None

    # ------------------------------------------------------------------------------------------------- learning

    @override
    def start(self) -> Any:
        # No sweep has been tried
        return Chosen(self.sweep, ())

    @override
    def absorb(self, state: Any, evidence: Mapping[int, Any]) -> Any:
        # Keep the choice of "auto", so that a resumed run does not repeat the trial
        for found in evidence.values():
            if "tried" in found:
                state = Chosen(found["sweep"], (*state.tried, *found["tried"]), found["reason"])
        return state

    @override
    def save(self, state: Any) -> dict[str, Any]:
        return {"chosen": np.array(json.dumps(state))}

    @override
    def load(self, saved: Mapping[str, Any]) -> Any:
        if "chosen" not in saved:
            raise ValueError("The state was not saved by a `LossOracle`.")
        sweep, tried, reason = json.loads(str(saved["chosen"]))
        return Chosen(sweep, tuple(tried), reason)

    def _chosen(self, state: Any) -> Chosen:
        chosen: Chosen = state
        return chosen

    def _adopt(self, chosen: Chosen) -> None:
        """Take over the run's choice, unless this object has made its own."""
        self._tried |= set(chosen.tried)
        if self.sweep == "auto":
            self.sweep, self.reason = chosen.sweep, chosen.reason or self.reason

    # ------------------------------------------------------------------------------------------------- sweeps

    def _rows(self, displacements: Displacements, owned: Owned) -> torch.Tensor:
        """The rows that each query sees, shape (n, m)."""
        size, n = owned.size, displacements.n
        if self.directions_per == "step":
            return torch.arange(size, device="cpu").expand(n, size)  # also under `torch.set_default_device`
        rows = self._shares(displacements, size)
        if getattr(self.loss, "group_relative", False) and (displacements.queries.scale == 0.0).any():
            raise ValueError(
                "`Reward(group_relative=True)` with `directions_per='example'` needs central differences: the "
                "query at x sees all prompts, the others their own. Use difference='central', or one direction for "
                "the whole batch, directions_per='step'."
            )
        return rows

    def _means(
        self,
        displacements: Displacements,
        batch: Any,
        owned: Owned,
        features: Features | None,
        rows: torch.Tensor,
        compared: bool,
    ) -> Answers:
        """The mean loss at each query, by the sweep in use; "auto" falls back on scratch at any trouble."""
        m = rows.shape[1]

        def by(sweep: Sweep) -> Answers:
            losses = self._losses(sweep, displacements, batch, rows, features, owned)
            over_queries = getattr(self.loss, "over_queries", None)  # of a `Reward`
            means: Floats = losses.mean(axis=1) if over_queries is None else over_queries(losses, rows, batch)
            sums, at = losses.sum(axis=1) if over_queries is None else means * m, 0.0
            if compared:  # one-sided differences, each on its own share
                every = rows.new_tensor(range(owned.size))[None]
                each = self._losses(self._scratch, None, batch, every, features, owned)[0]
                beyond = np.where(displacements.queries.scale == 0.0, 0.0, means - each[rows.numpy()].mean(axis=1))
                means, sums, at = beyond + each.mean(), beyond * m, float(each.sum())

            def why(i: int) -> str:
                bad, says = np.flatnonzero(~np.isfinite(losses[i])), getattr(self.loss, "trouble", None)
                return NOT_FINITE if says is None or not len(bad) else str(says(batch, int(rows[i, bad[0]])))

            return Answers(means, why, sums, at)

        if owned.mixes:
            self._refuse_parts(owned)
        reason = self._why_scratch(displacements, owned)
        if self.sweep == "batched" and owned.mixes:
            raise OracleError(f"{owned.mixes} Use sweep='scratch'.")
        if reason is not None:
            self.reason = reason
            if owned.mixes:
                self.sweep = "scratch"
            return by(self._scratch)
        try:
            return by(Trial(self))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            found = by(self._scratch)  # an error of the loss itself is raised here again
            self.reached.check(displacements)
            known = isinstance(error, Unstackable | Disagreement)
            said = "" if known else "One forward pass for all queries fails, but one pass per query succeeds: "
            if self.sweep == "batched":
                raise OracleError(f"{said}{error}") from error
            self.sweep, self.reason = "scratch", f"{said}{error}"
            return found

    def _why_scratch(self, displacements: Displacements, owned: Owned) -> str | None:
        """Why the step goes by scratch; None if it does not."""
        if self.sweep == "scratch":
            return owned.mixes or self.reason
        if self.sweep == "batched":
            return None
        if owned.mixes:
            return owned.mixes
        if not all(hit.factored or hit.small or hit.few for hit in displacements.of.values()):
            return "The directions do not have low rank, so each query needs its own weights."
        return None

    def _refuse_parts(self, owned: Owned) -> None:
        """A loss that mixes rows has one value for the whole batch, which nothing may divide."""
        if self.directions_per == "example":
            raise ValueError(f"{owned.mixes} `directions_per='example'` needs a loss of each example by itself.")
        if self.passes.limit is not None and self.passes.limit < owned.size:
            raise ValueError(
                f"{owned.mixes} The result would then depend on `micro_batch={self.passes.limit}`: give the loss the "
                f"whole batch of {owned.size} (`micro_batch=None`), or make it a loss of each example by itself."
            )

    def _losses(
        self,
        sweep: Sweep,
        displacements: Displacements | None,
        batch: Any,
        rows: torch.Tensor,
        features: Features | None,
        owned: Owned,
    ) -> Floats:
        """The losses of the rows (n, m) that each query sees, same shape; passes shrink when memory runs out."""
        n, m = rows.shape

        def one(out: Floats, which: slice, part: slice) -> None:
            taken = rows[which, part]
            out[which, part] = sweep(Part(batch, owned, taken, features), displacements, which)
            self.forwards += taken.numel()

        def work(most: int) -> Floats:
            out = np.empty((n, m))
            if owned.mixes:
                most = max(most, m) if self.passes.limit is None else most
                if most < m:
                    self._refuse_parts(owned)
            tasks = []
            for which, part in self.passes.plan(n, m, most, sweep.together):
                self.passes.used = max(self.passes.used, rows[which, part].numel())
                tasks.append(partial(one, out, which, part))
            if displacements is None:
                for task in tasks:
                    task()
            else:
                displacements.module.run_together(tasks)
            return out

        read = shorter(batch) if features is None else features.inputs(batch)
        return self.passes.fit(read, owned.size, work)

    @property
    def _scratch(self) -> Sweep:
        return ScratchSweep(self.model, self.loss)

    # ------------------------------------------------------------------------------------------------- per example

    def _shares(self, displacements: Displacements, size: int) -> torch.Tensor:
        """The rows that each query sees, shape (n, B / number of shares)."""
        queries = displacements.queries
        k, group = -(-queries.directions.k // queries.group), queries.group
        if size % k:
            each = f" in {k} groups of {group}" if group > 1 else ""
            one = f"`n_directions={group * size}`, {group}" if group > 1 else f"`n_directions={size}`, one"
            raise ValueError(
                f"`directions_per='example'` shares {size} examples among {queries.directions.k} directions{each}, but "
                f"{k} does not divide {size}. Use {one} per example, or another divisor."
            )
        return torch.arange(size, device="cpu").view(k, -1)[displacements.along(torch.device("cpu")) // group]


def nine_digits(values: Floats) -> Floats:
    """Values rounded to nine significant digits: more than fp32 has, and short in a journal."""
    return np.array([float(f"{v:.9g}") for v in values.tolist()])
