"""Minimise a function of 640 variables from its values alone: the soap film in a bent wire frame.

You learn what so many variables cost, which method does the work, and that bounds change nothing: here a table below
the film, on which a part of it comes to lie.
"""

import numpy as np

import blackbox_zo as bz

rows, columns = 20, 32  # free points of a grid over the unit square; its edge is the wire
x, y = np.meshgrid(np.linspace(0, 1, columns + 2), np.linspace(0, 1, rows + 2))
wire = 0.5 * np.cos(2 * np.pi * x) * (2 * y - 1) ** 2 - 0.3 * np.sin(np.pi * y) * (2 * x - 1) ** 2


def area(heights):
    """The area of the film, from the heights of its 640 free points."""
    film = wire.copy()
    film[1:-1, 1:-1] = heights.reshape(rows, columns)
    right, up = np.diff(film, axis=1) * (columns + 1), np.diff(film, axis=0) * (rows + 1)
    below = np.sqrt(1 + right[:-1] ** 2 + up[:, :-1] ** 2)  # two triangles a cell
    above = np.sqrt(1 + right[1:] ** 2 + up[:, 1:] ** 2)
    return (below + above).mean() / 2


flat = np.zeros(rows * columns)
print(f"{flat.size} variables; the area of a flat film with walls up to the wire is {area(flat):.4f}")

film = bz.minimize(area, flat, budget=40_000)  # a gradient by differences takes 640 of them
print(f"after {film.nfev} calls it is {film.fun:.6f}")
for run in film.trace:
    print(f"  {run.member}: {run.queries} calls, from {run.before:.6f} to {run.after:.6f}")

# On a film at rest, no point gains by a small move up or down
moves = [area(film.x + h * np.eye(640)[i]) - film.fun for i in range(0, 640, 13) for h in (-1e-3, 1e-3)]
print(f"at rest: {min(moves) > -1e-8}")

table = bz.minimize(area, flat, bounds=(-0.05, 10), budget=40_000)
touching = (table.x < -0.0499).sum()
print(
    f"with a table at -0.05: area {table.fun:.6f}, {touching} points lie on it; lower nowhere: {table.x.min() >= -0.05}"
)
