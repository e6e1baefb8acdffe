"""`Reward`: any Python function of (prompts, completions, rows) as what a model is tuned for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, final

import numpy as np
import torch

from blackbox_zo._checks import check_at_least, check_seed
from blackbox_zo._number import number
from blackbox_zo._typing import Floats
from blackbox_zo.errors import OracleError, Rewind, StopRun
from blackbox_zo.modules._stacking import take_rows
from oracles.llm._generation import Generation, exact_match
from oracles.llm._passes import batch_size
from oracles.llm._sampling import GumbelNoise, addresses_of

__all__ = ["Reward", "RewardFunction", "group_relative"]

RewardFunction: TypeAlias = Callable[[list[str], list[str], list[Any]], Sequence[float]]

_FLOOR = 1e-4
"""Added to the standard deviation of a group, as trl does."""


@final
@dataclass(frozen=True)
class Reward:
    """Minus the reward of what the model writes after each prompt; a loss for `LossOracle`, `finetune` and `evaluate`.

    A batch has `input_ids` and `attention_mask`, (B, T), padded on the left; `prompts` makes such examples. With
    temperature 0 the model writes greedily. Otherwise it samples from `softmax(z / temperature)`, z the logits, and the
    samples depend on the seed, the step, the example (`example_id`, else its place in the batch) and the number of the
    sample alone: a resumed run draws the same, and **all queries of a step share their random numbers**, so that they
    differ by what the weights do and not by luck. Outside a run, as in a validation, the step is -1, so that all
    validations share theirs.

    With `group_relative`, a query's value is minus the mean advantage of its completions. As in GRPO (Shao et al.
    2024), the advantage is `(r - mean) / (std + 1e-4)` over a group; here a group is all completions of one prompt in a
    step, of every query that sees it. Prompts on which the queries disagree then count alike, whatever the scale of
    their rewards, and the others not at all. The mean loss of the step is added to all values, which changes no
    difference between queries and keeps the shown loss on its scale.

    Args:
        function: A function of (prompts, completions, rows), lists of the same length, that returns one number for each
            completion, higher is better. Prompts and completions are text; rows are the data's, or, where the batch has
            no `row`, what else it holds of the example. NaN or infinite: the query has failed. It is called once for
            the completions of a pass, and in the first step again for a few of them.
        tokenizer: Decodes the new tokens; special tokens and surrounding white space are removed.
        max_new_tokens: Maximum number of generated tokens.
        stop: The text is cut before the first occurrence of this string. None: the text ends only at the model's
            end-of-text token.
        samples: Completions of each prompt.
        temperature: 0, or positive.
        seed: Seed of the samples.
        group_relative: Whether rewards are compared within each prompt. Not with one-sided differences of
            `directions_per="example"`.

    Raises:
        ValueError: An argument is out of its range, or there are several samples without a temperature.
        TypeError: `function` cannot be called.

    Example:
        >>> def short(prompts, completions, rows):
        ...     return [-float(len(text)) for text in completions]
        >>> from oracles.llm import Reward
        >>> Reward(short, tokenizer=None, samples=4, temperature=1.0).samples
        4
    """

    function: RewardFunction
    tokenizer: Any
    max_new_tokens: int = 16
    stop: str | None = None
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    group_relative: bool = False

    generates: ClassVar[bool] = True
    """The layers run once a token, so their output cannot be reused; prompts can (see `SharedPrompts`)."""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"`Reward(function=...)` must be a function of (prompts, completions, rows), got {self.function!r:.60}."
            )
        check_at_least("Reward", 1, max_new_tokens=self.max_new_tokens, samples=self.samples)
        check_seed(self.seed)
        warm: Any = self.temperature
        if isinstance(warm, bool) or not isinstance(warm, int | float) or not 0 <= warm < math.inf:
            raise ValueError(f"`Reward(temperature=...)` must be 0 or a positive number, got {self.temperature!r}.")
        if self.samples > 1 and not self.temperature:
            raise ValueError(
                f"`Reward(samples={self.samples})` without a temperature would write the same text "
                f"{self.samples} times; give a temperature, such as 1.0, or samples=1."
            )
        self._writer()

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Minus the rewards, fp64 on the CPU: (B,), means over the samples, or one per row if `prepare` made the batch.

        Raises:
            OracleError: The function raised an exception, or returned something other than one number for each
                completion; the message quotes the prompt.
            ValueError: The prompts are padded on the right.
        """
        if "sample" not in batch:
            losses: torch.Tensor = self(model, self.prepare(batch, -1))
            return losses.view(-1, self.samples).mean(1)
        more = {}
        if self.temperature:
            noise = GumbelNoise(addresses_of(batch, self.seed), float(self.temperature))
            more = {"logits_processor": [noise], "num_beams": 1}
        return torch.tensor([-r for r in self._rewards(batch, self.texts(model, batch, **more))], dtype=torch.float64)

    def texts(self, model: Any, batch: Mapping[str, Any], **more: Any) -> list[str]:
        """The completion of each row, without the function."""
        return self._writer().texts(model, batch, **more)

    def measures(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """`reward`, (B,), for a validation."""
        return {"reward": -self(model, batch)}

    def _writer(self) -> Generation:
        return Generation(self.tokenizer, exact_match, self.max_new_tokens, self.stop)

    # ------------------------------------------------------------------------------------------- for `LossOracle`

    def prepare(self, batch: Mapping[str, Any], step: int) -> dict[str, Any]:
        """The batch with each example once for each sample, and `step`, `sample` and `example_id`, (B samples,)."""
        size = batch_size(batch)
        ids = batch.get("example_id")
        ids = torch.arange(size) if ids is None else ids
        device = batch["input_ids"].device
        which = torch.arange(size, device="cpu").repeat_interleave(self.samples)
        rows: dict[str, Any] = take_rows({**batch, "example_id": ids}, which, size, lambda t: t)
        number = torch.arange(self.samples, device=device).repeat(size)
        return {**rows, "sample": number, "step": torch.full_like(number, step)}

    def over_queries(self, losses: Floats, rows: torch.Tensor, batch: Mapping[str, Any]) -> Floats:
        """The value of each query.

        Args:
            losses: The loss of each row that a query sees, shape (n, m), NaN where it failed.
            rows: The rows in the batch, shape (n, m).
            batch: From `prepare`.

        Returns:
            Shape (n,); NaN if one of its losses is.
        """
        if not self.group_relative:
            return np.asarray(losses.mean(axis=1))
        return group_relative(losses, batch["example_id"].cpu()[rows].numpy())

    def trouble(self, batch: Mapping[str, Any], row: int) -> str:
        """Why the query that sees this row has failed."""
        return f"the reward of the answer to {self._prompts(batch)[row]!r:.160} is NaN or infinite"

    # ------------------------------------------------------------------------------------------- the function

    def _prompts(self, batch: Mapping[str, Any]) -> list[str]:
        if "prompt" in batch:
            return list(batch["prompt"])
        pairs = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        return [self.tokenizer.decode(ids[mask == 1].tolist(), skip_special_tokens=True) for ids, mask in pairs]

    def _rewards(self, batch: Mapping[str, Any], completions: list[str]) -> list[float]:
        prompts, n = self._prompts(batch), len(completions)
        given = batch.get("row")
        if given is None:
            fields = {name: v for name, v in batch.items() if isinstance(v, list) and len(v) == n and name != "prompt"}
            given = [{name: v[i] for name, v in fields.items()} for i in range(n)]
        rows = list(given)
        try:
            found = self.function(list(prompts), list(completions), list(rows))
        except (StopRun, Rewind):
            raise
        except Exception as error:
            i = self._culprit(prompts, completions, rows)
            about = f"{n} prompts, the first {prompts[0]!r:.160}" if i is None else _about(prompts, completions, i)
            raise OracleError(f"{self._name} raised {type(error).__name__}: {error} ({about}).") from error
        return self._numbers(found, prompts, completions)

    @property
    def _name(self) -> str:
        return f"The reward `{getattr(self.function, '__name__', type(self.function).__name__)}`"

    def _culprit(self, prompts: list[str], completions: list[str], rows: list[Any]) -> int | None:
        """The first completion for which the function raises by itself."""
        for i in range(len(prompts)):
            try:
                self.function([prompts[i]], [completions[i]], [rows[i]])
            except Exception:
                return i
        return None

    def _numbers(self, found: Any, prompts: list[str], completions: list[str]) -> list[float]:
        n = len(prompts)
        shape = getattr(found, "shape", None)
        if shape is not None and len(shape) == 1 and hasattr(found, "tolist"):  # an array or a tensor, on any device
            found = found.tolist()
        if not isinstance(found, list | tuple):
            what = f"shape {tuple(shape)}" if shape is not None else f"{found!r:.60} ({type(found).__name__})"
            raise OracleError(
                f"{self._name} returned {what} for {n} completions, the first of the prompt {prompts[0]!r:.160}; it "
                f"must return a list of {n} numbers."
            )
        if len(found) != n:
            raise OracleError(
                f"{self._name} returned {len(found)} numbers for {n} completions, the first of the prompt "
                f"{prompts[0]!r:.160}; it must return one for each."
            )
        return [self._number(r, prompts, completions, i) for i, r in enumerate(found)]

    def _number(self, reward: Any, prompts: list[str], completions: list[str], i: int) -> float:
        about = _about(prompts, completions, i)
        if isinstance(reward, bool | np.bool_):
            raise OracleError(f"{self._name} returned {reward} ({about}); return a number, such as float({reward}).")
        if reward is None:
            raise OracleError(f"{self._name} returned None ({about}); return NaN if there is no answer.")
        try:
            return number(reward)
        except (TypeError, ValueError):
            shape = getattr(reward, "shape", None)
            what = f"{reward!r:.60}" if shape is None else f"shape {tuple(shape)}"
            kind = type(reward).__name__
            raise OracleError(f"{self._name} returned {what} ({kind}), not one real number ({about}).") from None


def _about(prompts: list[str], completions: list[str], i: int) -> str:
    return f"completion {completions[i]!r:.100} of the prompt {prompts[i]!r:.160}"


def group_relative(losses: Floats, groups: Any) -> Floats:
    """The value of each query from losses compared within groups: `L + mean_i z_i`, L the mean loss of all.

    `z = (loss - mean) / (std + 1e-4)`, mean and std (of a sample, with n - 1) over the finite losses of a group, as in
    trl's GRPO trainer; minus z is the advantage. Groups of one, and of equal losses, have z = 0.

    Args:
        losses: Shape (n, m), NaN where one failed.
        groups: The group of each, shape (n, m), any whole numbers.

    Returns:
        Shape (n,); NaN if one of the query's losses is.
    """
    z = np.where(np.isfinite(losses), 0.0, np.nan)
    for group in np.unique(groups):
        at = (groups == group) & np.isfinite(losses)
        found = losses[at]
        if len(found) > 1:
            z[at] = (found - found.mean()) / (found.std(ddof=1) + _FLOOR)
    finite = losses[np.isfinite(losses)]
    level = float(finite.mean()) if finite.size else 0.0
    return np.asarray(level + z.mean(axis=1))
