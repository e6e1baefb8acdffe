"""Functions of nevergrad's parameters, as functions of one array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blackbox_zo._doors.packages import nevergrad
from blackbox_zo._doors.standardized import box, unit_of
from blackbox_zo._typing import Floats

__all__ = ["from_parametrization", "is_parametrization"]


def is_parametrization(x0: Any) -> bool:
    """Whether x0 is a parametrization of nevergrad; does not import it."""
    return any(kind.__module__.startswith("nevergrad.parametrization.") for kind in type(x0).__mro__)


class Called:
    """A function of nevergrad's parameters, asked by their standardized coordinates."""

    def __init__(self, fun: Callable[..., Any], parametrization: Any) -> None:
        self.fun, self.parametrization = fun, parametrization

    def at(self, z: Floats) -> Any:
        """The parameters at z, shape (d,), frozen; a choice is the most likely one."""
        child = self.parametrization.spawn_child()
        with nevergrad().p.helpers.deterministic_sampling(child):
            child.set_standardized_data(z)
            child.value  # noqa: B018  # it is drawn here
        return child

    def __call__(self, x: Any) -> Any:
        """The value of the function."""
        child = self.at(np.asarray(next(iter(x.values())), dtype=np.float64))
        return self.fun(*child.args, **child.kwargs)


def from_parametrization(minimize: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """`minimize` where x0 is a parametrization: its start is x0, and `x`, `luckiest` and `center` are its values.

    Args:
        minimize: The function.
        arguments: All of its arguments.

    Raises:
        ValueError: The parametrization cannot be represented, or an argument has no meaning with it.
    """
    fun, given = arguments.pop("fun"), arguments.pop("x0")
    check_representable(given)
    for name, why in (("bounds", "has bounds of its own"), ("unit", "has deviations of its own")):
        if arguments.pop(name) is not None:
            raise ValueError(f"`{name}` cannot be given with `{given.name}`, which {why}; set them there.")
    if arguments["vectorized"] or not callable(fun) or hasattr(fun, "answer"):
        raise ValueError(
            f"`fun` must be a function of one point where `x0` is `{given.name}`, not of many, or an oracle."
        )
    callback = arguments["callback"]
    start = given.copy()
    start.freeze()
    called, bounds = Called(fun, start), box(start)

    def translated(result: Any) -> Any:
        for name in ("x", "center"):
            result[name] = called.at(next(iter(result[name].values()))).value
        result.luckiest = result.luckiest._replace(x=called.at(next(iter(result.luckiest.x.values()))).value)
        return result

    if callback is not None:
        arguments["callback"] = lambda so_far: callback(translated(so_far))
    x0 = {start.name: np.zeros(start.dimension)}  # the name is in the journal's header
    return translated(minimize(called, x0, bounds=bounds, unit=unit_of(bounds), **arguments))


def check_representable(parametrization: Any) -> None:
    """Raise ValueError for what no point of a real space stands for."""
    p = nevergrad().p
    if parametrization._constraint_checkers:
        raise ValueError(
            f"`{parametrization.name}` has a cheap constraint, which `minimize` cannot keep; return NaN from `fun` "
            'where it is violated, or use `nevergrad.optimizers.registry["BlackboxZO"]`, where nevergrad keeps it.'
        )
    kinds = (p.Data, p.Container, p.BaseChoice, p.Constant)
    for name, part in p.helpers.flatten(parametrization, order=0):
        if not isinstance(part, kinds):
            raise ValueError(
                f"Parameter {name or part.name!r} is a `{type(part).__name__}`, which has no coordinates; use Array, "
                "Scalar, Log, Choice, TransitionChoice, Tuple, Dict or Instrumentation."
            )
    if not parametrization.dimension:
        raise ValueError(f"`{parametrization.name}` has nothing to vary; give it a parameter such as `ng.p.Scalar()`.")
