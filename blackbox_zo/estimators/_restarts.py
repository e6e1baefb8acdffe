"""`Restarts`: a portfolio of one method."""

from __future__ import annotations

from blackbox_zo.estimators._base import Estimator
from blackbox_zo.estimators._portfolio import Portfolio

__all__ = ["Restarts"]


def Restarts(estimator: Estimator, growth: float | tuple[float, ...] | None = None, spread: float = 1.0) -> Portfolio:
    """An estimator that restarts at random places: a `Portfolio` of that alone, with all that a portfolio does.

    Args:
        estimator: One that makes its own moves, such as `EvolutionStrategy`.
        growth: By what the population is multiplied from restart to restart: 2 is IPOP (Auger & Hansen 2005). 1 changes
            nothing, and 0 varies the radius instead. With several, each has restarts of its own, and they share the
            budget evenly: `(2, 0)` is BIPOP (Hansen 2009). By default 2 where `estimator` has a population, else 1.
        spread: How far from x0 to restart in directions without bounds, in units of the variable.

    Raises:
        ValueError: `estimator` estimates a gradient, or has nothing that `growth` could change.

    Example:
        >>> import blackbox_zo as bz
        >>> bz.Restarts(bz.EvolutionStrategy(0.3)).growth
        (2.0,)
        >>> len(bz.Restarts(bz.EvolutionStrategy(0.3), growth=(2, 0)).members)
        2
    """
    if growth is None:
        growth = 2.0 if hasattr(estimator, "n_queries") else 1.0
    lines = growth if isinstance(growth, tuple | list) else (growth,)
    return Portfolio((estimator,) * len(lines), tuple(lines), spread)
