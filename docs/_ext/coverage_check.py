"""Fail the build when a public name has no entry on an API page.

Public is what a package's `__init__.py` re-exports as itself: `from … import name as name`, for type checkers alone
too, where it is imported when it is first used; and what a module lists in `__all__`. What `oracles` re-exports from
`blackbox_zo` is documented there. Documented is what an `autoclass`, `autofunction`, `autoexception`, `autodata` or
`automodule` directive on a page of `docs/api` names.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = (
    "blackbox_zo",
    "blackbox_zo.nevergrad",
    "blackbox_zo.optuna",
    "blackbox_zo.ray",
    "blackbox_zo.sklearn",
    "blackbox_zo.tally",
    "blackbox_zo.testing",
    "blackbox_zo.trackers",
    "oracles",
    "oracles.kind",
    "oracles.llm",
    "oracles.page",
    "oracles.llm.plan",
    "oracles.ranking",
    "oracles.rl",
)

_DIRECTIVE = re.compile(
    r"^[ \t]*\.\. (?:auto(?:class|function|exception|data|module)|py:data):: +([\w.]+)[ \t]*$",
    re.MULTILINE,
)


def public_names(package: str) -> set[str]:
    """Full names of what a package re-exports, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"There is no package {package!r} to document.")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            core = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "blackbox_zo"
            )
            home = "blackbox_zo" if core and package.startswith("oracles") else package
            names = [
                a.name for a in node.names if a.asname == a.name and not a.name.startswith("_")
            ]
            found |= {f"{home}.{name}" for name in names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            found |= {f"{package}.{name}" for name in ast.literal_eval(node.value)}
    return found


def documented_names(pages: Iterable[str]) -> set[str]:
    """Full names that the text of some pages documents."""
    return {name for page in pages for name in _DIRECTIVE.findall(page)}


def undocumented(pages: Iterable[str], packages: Iterable[str] = PACKAGES) -> list[str]:
    """Public names that no page documents, sorted."""
    public = {name for package in packages for name in public_names(package)}
    return sorted(public - documented_names(pages))


def read_pages(folder: Path) -> list[str]:
    """The text of all API pages below `folder`."""
    return [path.read_text(encoding="utf-8") for path in sorted((folder / "api").glob("*.md"))]


def _check(app: Any) -> None:
    from sphinx.util import logging

    for name in undocumented(read_pages(Path(app.srcdir))):
        logging.getLogger(__name__).error(
            "%s is public, but has no entry on a page of docs/api", name
        )
        app.statuscode = 1


def setup(app: Any) -> dict[str, Any]:
    """Register the check with Sphinx."""
    app.connect("builder-inited", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
