"""A quadratic through few points: the one whose Hessian changes least, and the inverse of its equations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["Interpolation"]

SMALL = 1e-6
"""Where the determinant of W falls below this share of itself, its inverse is computed anew."""


class Interpolation(NamedTuple):
    """`Q(u) = c + g'u + u'Hu/2` through m points, in coordinates u: `x = base + axes u`.

    Fewer points than coefficients leave Q open. Of all that interpolate, Q is the one whose Hessian differs least from
    the one before, in the Frobenius norm (Powell 2004, doi 10.1007/s10107-003-0490-7). Its change is

        `c + g'u + sum_j l_j (u_j'u)^2 / 2`,   with   `W (c, g, l) = (0, 0, values - Q(points))`,

        `W = [[0, X'], [X, A]]`,   X = [1, U],   `A_ij = (u_i'u_j)^2 / 2`.

    The inverse of W is kept: a point more, or another in its place, changes it at a cost of O((m + d)^2). Its column
    for point j holds the coefficients of the j-th Lagrange function.

    Attributes:
        base: Where u is 0, shape (d,).
        axes: One for each coordinate of u, as columns, shape (d, d).
        back: The inverse of `axes`, shape (d, d).
        points: U, shape (m, d).
        values: Those of f at the points, shape (m,).
        inverse: Of W, shape (1 + d + m, 1 + d + m).
        constant: c.
        gradient: g, shape (d,).
        hessian: H, shape (d, d).
        age: Updates since the inverse was computed anew.
    """

    base: Floats
    axes: Floats
    back: Floats
    points: Floats
    values: Floats
    inverse: Floats
    constant: float
    gradient: Floats
    hessian: Floats
    age: int

    @classmethod
    def fitted(cls, base: Floats, scale: float, points: Floats, values: Floats) -> Interpolation:
        """The quadratic of least Hessian through the points.

        Args:
            base: Where u is 0, shape (d,).
            scale: Length of a unit of u.
            points: In the coordinates of x; d + 1 of them span the space, shape (m, d).
            values: Finite, shape (m,).

        Raises:
            numpy.linalg.LinAlgError: The points do not determine it.
        """
        d = base.size
        u, none, lowest = (points - base) / scale, np.zeros((d, d)), float(values.min())
        nothing = cls(base, np.eye(d) * scale, np.eye(d) / scale, u, values, none, lowest, np.zeros(d), none, 0)
        return nothing._again()

    def _again(self) -> Interpolation:
        """With the inverse computed anew, and what Q misses at its points added to it."""
        u = self.points
        m, d = u.shape
        w = np.zeros((1 + d + m, 1 + d + m))
        w[1 + d :, 0] = w[0, 1 + d :] = 1.0
        w[1 + d :, 1 : 1 + d] = u
        w[1 : 1 + d, 1 + d :] = u.T
        np.square(u @ u.T, out=w[1 + d :, 1 + d :])
        w[1 + d :, 1 + d :] *= 0.5
        inverse: Floats = np.asarray(np.linalg.inv(w), dtype=np.float64)
        missing = self.values - self.at(u)
        change = inverse[:, 1 + d :] @ missing
        return self._plus(change, inverse=inverse, age=0)

    def _plus(self, change: Floats, **others: Any) -> Interpolation:
        """With coefficients (c, g, l) added, shape (1 + d + m,), and other fields replaced."""
        u = others.get("points", self.points)
        d = u.shape[1]
        return self._replace(
            constant=self.constant + float(change[0]),
            gradient=self.gradient + change[1 : 1 + d],
            hessian=self.hessian + (u.T * change[1 + d :]) @ u,
            **others,
        )

    def moved(self, base: Floats, turn: Floats, back: Floats) -> Interpolation:
        """The same quadratic around another base, with `turn` times u for u; here rounding is mended.

        Args:
            base: Where the new u is 0, in the coordinates of x, shape (d,).
            turn: The new axes in terms of the old ones, as columns, shape (d, d).
            back: Its inverse, shape (d, d).
        """
        shift = self.inside(base)
        slope = self.hessian @ shift
        return self._replace(
            base=base, axes=self.axes @ turn, back=back @ self.back, points=(self.points - shift) @ back.T,
            constant=self.constant + float(shift @ (self.gradient + 0.5 * slope)),
            gradient=turn.T @ (self.gradient + slope), hessian=turn.T @ self.hessian @ turn,
        )._again()  # fmt: skip

    def inside(self, x: Floats) -> Floats:
        """U of a point x, shape (d,)."""
        out: Floats = self.back @ (x - self.base)
        return out

    def at(self, u: Floats) -> Floats:
        """Q at points of shape (..., d)."""
        out: Floats = self.constant + u @ self.gradient + 0.5 * ((u @ self.hessian) * u).sum(axis=-1)
        return out

    def seen_from(self, u: Floats) -> tuple[Floats, float]:
        """What a new point u needs: `W^-1 w`, w its row of W, and `|u|^4 / 2 - w' W^-1 w` (Powell's beta)."""
        d = u.size
        w = np.empty(len(self.inverse))
        w[0] = 1.0
        w[1 : 1 + d] = u
        inner = self.points @ u
        w[1 + d :] = 0.5 * inner * inner
        v = self.inverse @ w
        square = float(u @ u)
        return v, 0.5 * square * square - float(w @ v)

    def denominators(self, v: Floats, beta: float) -> Floats:
        """By how much the determinant of W is multiplied if the new point takes the place of each, shape (m,)."""
        first = 1 + self.base.size
        alpha = self.inverse.diagonal()[first:]
        out: Floats = alpha * beta + v[first:] ** 2
        return out

    def with_point(self, u: Floats, value: float, v: Floats, beta: float) -> Interpolation:
        """One point more; v and beta are from `seen_from`."""
        n = len(self.inverse)
        inverse = np.empty((n + 1, n + 1))
        side = v / -beta
        np.multiply(v[:, None], -side, out=inverse[:n, :n])
        inverse[:n, :n] += self.inverse
        inverse[:n, n] = inverse[n, :n] = side
        inverse[n, n] = 1.0 / beta
        points, values = np.concatenate((self.points, u[None, :])), np.append(self.values, value)
        return self._told(points, values, inverse, n, u, value)

    def replaced(self, j: int, u: Floats, value: float, v: Floats, beta: float) -> Interpolation:
        """A point in the place of point j (Powell 2004, eq. (2.12)); v and beta are from `seen_from`.

        Raises:
            numpy.linalg.LinAlgError: The points determine no quadratic any more.
        """
        k = 1 + self.base.size + j
        column = self.inverse[:, k]
        alpha, tau = float(column[k]), float(v[k])
        rest = -v
        rest[k] += 1.0
        sigma = alpha * beta + tau * tau
        points, values = self.points.copy(), self.values.copy()
        points[j], values[j] = u, value
        if abs(sigma) < SMALL:
            return self._replace(points=points, values=values)._again()
        inverse = np.array((rest, column)).T @ np.array((alpha * rest + tau * column, tau * rest - beta * column))
        inverse /= sigma
        inverse += self.inverse
        return self._told(points, values, inverse, k, u, value)

    def _told(self, points: Floats, values: Floats, inverse: Floats, k: int, u: Floats, value: float) -> Interpolation:
        """With the new point's Lagrange function added, as often as Q was wrong there."""
        wrong = value - self.constant - float(u @ (self.gradient + 0.5 * (self.hessian @ u)))
        change = inverse[:, k] * wrong
        return self._plus(change, points=points, values=values, inverse=inverse, age=self.age + 1)
