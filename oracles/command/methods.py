"""A method as it is typed: `auto`, `QuasiNewton`, or `EvolutionStrategy(radius=0.3, model=True)`."""

from __future__ import annotations

import ast
from dataclasses import MISSING, fields
from typing import Any

import blackbox_zo as bz
from blackbox_zo import estimators, rules
from blackbox_zo._replay import find_public
from oracles.command._template import did_you_mean

__all__ = ["method_of"]

RADIUS = 0.3
"""The radius where none is given: about a third of the distance from the middle of a range to its ends."""


def method_of(text: str) -> tuple[bz.Estimator, bz.Rule | None]:
    """The estimator, and the rule if one follows it: `RandomVector(radius=0.1, n_directions=3), Adam(0.05)`.

    Nothing is evaluated: only the names of estimators, rules and schedules are known, and their arguments are literals.
    An estimator without its radius has one of 0.3.

    Raises:
        ValueError: It is malformed, or a name is unknown.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(
            f"--method {text!r} cannot be read; write `auto`, or such as `EvolutionStrategy(0.3)`."
        ) from None
    parts = [_built(part, text) for part in (tree.elts if isinstance(tree, ast.Tuple) else [tree])]
    estimator, rule = parts[0], parts[1] if len(parts) > 1 else None
    if len(parts) > 2 or not isinstance(estimator, bz.Estimator) or not (rule is None or isinstance(rule, bz.Rule)):
        raise ValueError(f"--method {text!r} must be an estimator, or an estimator and a rule.")
    return estimator, rule


def _built(node: ast.AST, text: str) -> Any:
    """What a piece of the text stands for."""
    if isinstance(node, ast.Name):
        return _made(node.id, [], {}, text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        given = {str(k.arg): _built(k.value, text) for k in node.keywords}
        return _made(node.func.id, [_built(a, text) for a in node.args], given, text)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_built(part, text) for part in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"--method {text!r} holds {ast.unparse(node)!r}, which is neither a name nor a number."
        ) from None


def _made(name: str, positional: list[Any], given: dict[str, Any], text: str) -> Any:
    try:
        kind = find_public(name)
    except ValueError:
        known = [*estimators.__dict__, *rules.__dict__]
        hint = did_you_mean(name, [n for n in known if n[:1].isupper()])
        raise ValueError(f"--method {text!r} names {name!r}, which is no estimator or rule{hint}.") from None
    lacks = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacks == ["radius"] and not positional and "radius" not in given:
        given["radius"] = RADIUS
    try:
        return kind(*positional, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--method {text!r}: {error}") from None
