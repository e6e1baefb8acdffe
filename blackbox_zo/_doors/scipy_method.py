"""`scipy_method`: `minimize` as a method for `scipy.optimize.minimize`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._typing import Floats
from blackbox_zo.minimize import Method, by_name, minimize

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["scipy_method"]


def scipy_method(method: Method = "auto", **options: Any) -> Callable[..., OptimizeResult]:
    """A method for `scipy.optimize.minimize(fun, x0, method=bz.scipy_method(...))`.

    Args:
        method: As for `minimize`.
        **options: Any further arguments of `minimize`; `options={...}` given to scipy override them. scipy's names mean
            what they mean there: `maxfev` and `maxfun` the most calls, `maxiter` the most iterations (`steps`; without
            a number of calls there is then no limit on these), and `disp` prints how the run ended.

    Returns:
        A function that scipy calls. It refuses `constraints`, ignores derivatives, which it has no use for, and warns
        of options that it does not know, and of `tol`.

    Raises:
        TypeError: An option is unknown.

    Example:
        >>> import scipy.optimize
        >>> import blackbox_zo as bz
        >>> r = scipy.optimize.minimize(lambda x: x @ x, [1.0, 2.0], method=bz.scipy_method(budget=300))
        >>> bool(r.fun < 1e-4)
        True
    """
    ours = inspect.signature(minimize).parameters.keys() - {"fun", "x0", "method", "args"}
    known = ours | {"maxfev", "maxfun", "maxiter", "disp"}
    if strange := sorted(options.keys() - known):
        raise TypeError(f"`scipy_method` has no option {strange[0]!r}; there are {', '.join(sorted(known))}.")

    def run(fun: Callable[..., Any], x0: Floats, args: tuple[Any, ...] = (), **given: Any) -> OptimizeResult:
        from scipy.optimize import OptimizeWarning

        for ignored in ("jac", "hess", "hessp"):
            given.pop(ignored, None)
        constraints = given.pop("constraints", ())
        if constraints is not None and constraints != () and constraints != []:
            raise ValueError("`constraints` cannot be used with blackbox_zo; add a penalty to `fun`, or use `bounds`.")
        if given.pop("tol", None) is not None:
            unused = "`tol` is not used: the run ends with its budget, or by `maxiter`, `target` or `time_limit`."
            warnings.warn(unused, OptimizeWarning, stacklevel=3)
        if strange := [name for name in given if name not in known]:
            warnings.warn(f"Unknown solver options: {', '.join(strange)}", OptimizeWarning, stacklevel=3)
        callback = given.get("callback")
        if callback is not None and not by_name(callback):
            given["callback"] = lambda so_far: callback(np.copy(so_far.x))  # as scipy's own methods call it
        given = {**options, **{k: v for k, v in given.items() if v is not None and k in known}}
        disp = given.pop("disp", False)
        for name in ("maxfun", "maxfev"):
            if name in given:
                given["budget"] = given.pop(name)
        if (most := given.pop("maxiter", None)) is not None:
            check_at_least("minimize", 1, maxiter=most)
            given = {"budget": None, **given, "steps": most}
        found = minimize(fun, x0, method, **given, args=args)
        if disp:
            print(found.message)
            print(f"         Current function value: {found.fun:f}")
            print(f"         Iterations: {found.nit}")
            print(f"         Function evaluations: {found.nfev}")
        return found

    return run
