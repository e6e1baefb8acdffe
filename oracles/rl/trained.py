"""`Trained`: a policy with its parameters and statistics; act, evaluate, save and export."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._paths import expanded
from blackbox_zo._typing import Floats
from oracles._files import appearing
from oracles.rl._environment import EnvError, name_of
from oracles.rl._episodes import Failure, Rules, groups
from oracles.rl._layers import Weights, folded, layers_of
from oracles.rl._players import player
from oracles.rl._seeds import evaluation_seeds
from oracles.rl._statistics import Statistics
from oracles.rl.policies import Policy

__all__ = ["Trained", "load"]

FORMAT = 1


@dataclass
class Trained:
    """A policy with the parameters that a search found.

    Attributes:
        env: The environment, as in `EpisodeOracle`.
        policy: The policy.
        x: Its parameters, shape (size,).
        seen: Statistics to normalise observations by; None if the policy does not normalise.
    """

    env: Any
    policy: Policy
    x: Floats
    seen: Statistics | None
    _acting: Callable[[Any], Any] | None = field(default=None, init=False, repr=False, compare=False)

    def act(self, observation: Any) -> Any:
        """The action for one observation, both in the environment's own spaces."""
        if self._acting is None:
            from oracles.rl._environment import make, spaces_of
            from oracles.rl._spaces import actions_of, observations_of

            made = make(self.env)
            observations, actions = spaces_of(made)
            flat, to_action = observations_of(observations)[1], actions_of(actions, True)[1]
            made.close()
            act = self.policy.acting(self.x, self.seen)
            self._acting = lambda o: to_action(act(np.asarray(flat(o), dtype=np.float64)))
        return self._acting(observation)

    def evaluate(self, episodes: int = 10, seed: int = 0, rules: Rules | None = None) -> Floats:
        """Returns of evaluation episodes, shape (episodes,), with seeds that no training uses.

        Args:
            episodes: Number of episodes.
            seed: Determines their seeds.
            rules: How they are played; None takes the defaults.

        Raises:
            EnvError: An episode fails.
        """
        check_at_least("evaluate", 1, episodes=episodes)
        seeds, totals = evaluation_seeds(seed, episodes), np.empty(episodes)
        with contextlib.closing(player(self.env, self.policy, rules or Rules())) as playing:
            for group in groups(episodes, playing.num_envs):
                xs = np.tile(self.x, (group.stop - group.start, 1))
                for e, played in enumerate(playing.play_all(xs, self.seen, seeds[group]), group.start):
                    if isinstance(played, Failure):
                        raise EnvError(played.reason.removeprefix("EnvError: "))
                    totals[e] = played.episode_return
        return totals

    # --------------------------------------------------------------------------------------------------------- files

    def layers(self) -> list[Weights]:
        """The dense layers of the policy, from a flat observation to the outputs, with the normalisation folded in.

        Raises:
            ValueError: The policy is a torch module that is not a stack of dense layers.
        """
        shapes = self.policy.layers
        if not shapes:
            raise ValueError(
                "This policy is not a stack of dense layers, so it cannot be exported; build it as a `Sequential` "
                "of `Linear`, `Tanh` and `ReLU`."
            )
        return folded(layers_of(self.x, shapes), self.seen)

    def save(self, path: str | Path) -> None:
        """Write the layers to a .npz file, which `oracles.rl.load`, or numpy alone, can read.

        It holds "w0", "b0", "w1", … and "about", JSON with the activation of each layer. Each layer computes
        `f(w o + b)`; the first takes the flat observation o.
        """
        arrays: dict[str, Any] = {}
        layers = self.layers()
        for i, (w, b, _) in enumerate(layers):
            arrays |= {f"w{i}": w, f"b{i}": np.zeros(len(w)) if b is None else b}
        about = {"format": FORMAT, "env": name_of(self.env), "activations": [f for _, _, f in layers]}
        with appearing(path) as partial, partial.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)

    def to_torch(self) -> Any:
        """A `torch.nn.Sequential` from flat observations, shape (n, o), to outputs, shape (n, a), in float64."""
        import torch
        from torch import nn

        parts: list[nn.Module] = []
        for w, b, activation in self.layers():
            layer = nn.Linear(w.shape[1], w.shape[0]).double()
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(w))
                layer.bias.copy_(torch.zeros(len(w)) if b is None else torch.from_numpy(b))
            parts.append(layer)
            if activation:
                parts.append(nn.Tanh() if activation == "tanh" else nn.ReLU())
        return nn.Sequential(*parts)

    def to_onnx(self, path: str | Path) -> None:
        """Write an ONNX model from "observation", float32 (n, o), to "output", (n, a).

        Raises:
            ModuleNotFoundError: `onnx` is not installed.
        """
        from oracles.rl._onnx import write

        write(self.layers(), path)


class Loaded:
    """A policy loaded from a file of `Trained.save`: maps flat observations to outputs."""

    def __init__(self, layers: list[Weights], env: str) -> None:
        self.layers, self.env = layers, env

    def __call__(self, observation: Any) -> Floats:
        """The outputs, shape (a,): the action for a Box; for a Discrete its argmax."""
        h: Floats = np.ravel(np.asarray(observation, dtype=np.float64))
        for w, b, activation in self.layers:
            h = w @ h + (0.0 if b is None else b)
            h = np.tanh(h) if activation == "tanh" else np.maximum(h, 0.0) if activation else h
        return h

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file of `Trained.save`; raises as `load` does."""
        try:
            with np.load(expanded(path), allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                activations = about["activations"]
                layers = [Weights(file[f"w{i}"], file[f"b{i}"], f) for i, f in enumerate(activations)]
        except FileNotFoundError:
            raise
        except Exception as error:
            raise EnvError(f"{path} is not a file of a trained policy: {error}.") from None
        return cls(layers, about["env"])


def load(path: str | Path) -> Loaded:
    """Load a policy from a file of `Trained.save`.

    Raises:
        FileNotFoundError: The file does not exist.
        EnvError: The file was not written by `Trained.save`.
    """
    return Loaded.read(path)
