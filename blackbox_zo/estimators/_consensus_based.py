"""`ConsensusBased`: consensus-based optimisation and consensus hopping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._buffers import empty
from blackbox_zo._checks import check_at_least, check_choice, check_positive
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Dense, Gaussian
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["ConsensusBased"]


class ConsensusState(NamedTuple):
    """What the next particles of "cbo" are drawn around.

    Attributes:
        centers: Particle positions before their noise, shape (n, d); shape (1, d) while all share one.
        spread: Standard deviation of the noise: shape (1, 1) for all, (n, 1) isotropic, (n, d) anisotropic.
    """

    centers: Floats
    spread: Floats


@final
@dataclass(frozen=True)
class ConsensusBased(Estimator):
    """Particles that drift to their consensus `v = sum_i w_i V_i / sum_i w_i`, `w_i = exp(-alpha (f(V_i) - min f))`.

    - scheme "cbo" (Pinnau et al. 2017; Carrillo et al. 2021 for the anisotropic noise): one Euler step of
      `V_i <- V_i - lambda dt (V_i - v) + sigma sqrt(dt) s_i xi_i`, `s_i = ||V_i - v||`, or `|V_i - v|` per component;
    - scheme "hopping" (Riedl et al. 2023, "Gradient is all you need?", the CH scheme): fresh particles each step,
      `V_i = v + radius xi_i`. For a small radius the mean step is `-alpha radius² grad f`.

    x is the consensus point; the estimate is minus its move, for `SGD(1.0)`.

    Args:
        radius: Standard deviation of the first particles around x0; in "hopping" of the particles of every step.
        n_queries: Number of particles.
        alpha: Inverse temperature, positive; it has the unit of 1 / f.
        scheme: "cbo" or "hopping".
        noise: "anisotropic" or "isotropic"; only for "cbo".
        drift: lambda, positive; only for "cbo".
        diffusion: sigma, positive; only for "cbo".
        dt: Time step, positive; only for "cbo".

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int
    alpha: float = 100.0
    scheme: Literal["cbo", "hopping"] = "cbo"
    noise: Literal["anisotropic", "isotropic"] = "anisotropic"
    drift: float = 1.0
    diffusion: float = 3.0
    dt: float = 0.02

    def __post_init__(self) -> None:
        check_positive(
            "ConsensusBased",
            radius=self.radius,
            alpha=self.alpha,
            drift=self.drift,
            diffusion=self.diffusion,
            dt=self.dt,
        )
        check_at_least("ConsensusBased", 2, n_queries=self.n_queries)
        check_choice("ConsensusBased", ("cbo", "hopping"), scheme=self.scheme)
        check_choice("ConsensusBased", ("anisotropic", "isotropic"), noise=self.noise)

    @override
    def start(self, variable: Variable) -> ConsensusState:
        variable = vector_of(self, variable)
        if self.scheme == "hopping":  # nothing to remember: the particles are always around x
            return ConsensusState(np.empty((0, variable.size)), np.empty((0, 1)))
        return ConsensusState(variable.value[None, :], np.array([[float(self.radius)]]))

    @override
    def sample(self, state: ConsensusState, variable: Variable, key: Key) -> Queries:
        # The noise of the move is drawn here, with the points
        variable = vector_of(self, variable)
        n = self.n_queries
        if self.scheme == "hopping":
            return Queries(
                Gaussian(variable.blocks, n, key), np.arange(n), np.full(n, float(self.radius)), variable.value
            )
        offsets = randomness.normals(key, "particles", n, variable.size)
        offsets *= state.spread
        offsets += state.centers - variable.value
        return Queries(Dense(variable.blocks, offsets), np.arange(n), np.ones(n), variable.value)

    @override
    def estimate(
        self, state: ConsensusState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[ConsensusState, Step]:
        # A failed particle has weight 0; without any answer x stays
        variable = vector_of(self, variable)
        assert isinstance(feedback, Values)
        f, directions = feedback.values, queries.directions
        w = np.zeros(directions.k)  # a budget that ends may leave the last particles unasked
        if feedback.n_failed == feedback.n:
            return state, Step(directions, w)
        w[: len(f)] = np.exp(-self.alpha * (np.where(np.isnan(f), np.inf, f) - np.fmin.reduce(f)))
        w /= w.sum()
        if self.scheme == "hopping":
            return state, Step(directions, -self.radius * w)
        particles = np.add(queries.origin, directions.rows, out=empty(directions.rows.shape))
        consensus = randomness.combine(w, particles)
        away = np.subtract(particles, consensus, out=empty(particles.shape))
        scale = self.diffusion * np.sqrt(self.dt)
        if self.noise == "anisotropic":
            spread = np.abs(away, out=empty(away.shape))
            spread *= scale
        else:
            spread = scale * np.sqrt(np.einsum("ij,ij->i", away, away))[:, None]
        away *= self.drift * self.dt
        particles -= away
        move = Dense(variable.blocks, (variable.value - consensus)[None, :])
        return ConsensusState(particles, spread), Step(move, np.ones(1))
