"""The BFGS matrix of the last few moves, for dimensions where d × d numbers are too many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Bools, Floats
from blackbox_zo.estimators._bfgs import damped, within

__all__ = ["Pairs"]

NEARER = 0.9
"""The diagonal is kept while the cosine of y and Ds is at least this share of that of y and s."""


class Pairs(NamedTuple):
    """B of the last moves s, along each of which the gradient changed by y: as an array the same as `Whole`.

    The diagonal D, k moves S and changes Y, each scaled so that s'y = 1, make (Byrd, Nocedal & Schnabel 1994; Nocedal &
    Wright 2006, section 7.2)

        B = D + Y Y' - Z Z',  Z = (D S + Y L') J'^-1,  J J' = S' D S + L L',

    L the part of S'Y below its diagonal. It keeps (2 k + 1) d numbers, and a step takes O(k² d) operations.

    So few moves do not mend a wrong D. Where a change y is clearly nearer in direction to its s than to D s, B begins
    anew with a multiple of the identity.

    Attributes:
        diagonal: D, positive, shape (d,); (0,) while no curvature is known.
        s: The moves, the oldest first, shape (k, d).
        y: The changes, damped and scaled with B as `updated` says, shape (k, d).
        most: Most pairs.
    """

    diagonal: Floats
    s: Floats
    y: Floats
    most: int

    @classmethod
    def of(cls, diagonal: Floats, most: int) -> Pairs:
        """From the diagonal, positive, shape (d,)."""
        none = np.zeros((0, diagonal.size))
        return cls(diagonal, none, none, most)

    @property
    def known(self) -> bool:
        """Whether a curvature is known."""
        return self.diagonal.size > 0

    def updated(self, s: Floats, y: Floats) -> Pairs:
        """After one more move; of more than `most` the oldest is forgotten. See `updated`."""
        b = Pairs.of(np.full(s.size, float(s @ y) / float(s @ s)), self.most) if self._misled(s, y) else self
        if (found := damped(s, y, b._times(s))) is None:
            return b
        scale, y, sy, _ = found
        root, older = np.sqrt(sy), slice(max(0, len(b.s) + 1 - b.most), None)
        # c B is made of c D, S / √c and √c Y
        moves = np.concatenate((b.s[older] / np.sqrt(scale), s[None, :] / root))
        changes = np.concatenate((b.y[older] * np.sqrt(scale), y[None, :] / root))
        after = Pairs(b.diagonal * scale, moves, changes, b.most)
        return after if after._factors() is not None else Pairs.of(after.diagonal, b.most)

    def _misled(self, s: Floats, y: Floats) -> bool:
        """Whether y is clearly nearer in direction to s than to Ds."""
        ds, norm = self.diagonal * s, np.linalg.norm
        along = float(s @ y) / float(norm(s))
        return along > 0 and float(ds @ y) / float(norm(ds)) < NEARER * along

    def step(self, g: Floats, low: Bools, high: Bools) -> Floats:
        """See `newton_step`."""
        v, sign = self._sum()

        def solved(free: Bools) -> Floats:
            # B in units of D^(1/2) is the identity but for the span of v, of which q is a basis
            root, part = np.sqrt(self.diagonal[free]), -g[free]
            q, r = np.linalg.qr((v[:, free] / root).T)
            w, inner = part / root, np.eye(len(r)) + (r * sign) @ r.T
            along = q.T @ w
            try:
                p: Floats = (w + q @ (np.linalg.solve(inner, along) - along)) / root
            except np.linalg.LinAlgError:
                return part / float(self.diagonal.mean())
            return p if np.isfinite(p).all() else part / float(self.diagonal.mean())

        if not (low.any() or high.any()):
            return solved(np.ones(g.size, dtype=np.bool_))
        return within(solved, g, low, high)

    def _times(self, x: Floats) -> Floats:
        """Bx, shape (d,)."""
        v, sign = self._sum()
        out: Floats = self.diagonal * x + (sign * (v @ x)) @ v
        return out

    def _sum(self) -> tuple[Floats, Floats]:
        """Rows v, shape (2 k, d), and signs with which B is D + sum of sign v v'."""
        factors = self._factors()
        assert factors is not None  # else `updated` had left the pairs out
        below, j = factors
        z = np.linalg.solve(j, self.s * self.diagonal + below @ self.y)
        return np.concatenate((self.y, z)), np.repeat((1.0, -1.0), len(self.s))

    def _factors(self) -> tuple[Floats, Floats] | None:
        """L and J, shapes (k, k); None where rounding leaves none."""
        below: Floats = np.tril(self.s @ self.y.T, -1)
        try:
            square = (self.s * self.diagonal) @ self.s.T + below @ below.T
            j = np.asarray(np.linalg.cholesky(square), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None
        return below, j
