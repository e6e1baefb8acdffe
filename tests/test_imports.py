"""The graph of imports: layers, no circles, and nobody reads what another module keeps to itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("blackbox_zo", "oracles")

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def imports(name: str) -> Iterator[str]:
    """The modules of ours that a module imports, wherever in it: in a function and for types alone, too."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [full if full in FILES else str(node.module) for full in found]
        else:
            continue
        yield from (module for module in found if module in FILES)


GRAPH = {name: {module for module in imports(name) if module != name} for name in FILES}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules that import each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in graph[v]:
            if w not in index:
                visit(w)
            if w in stack:
                low[v] = min(low[v], low[w])
        if low[v] == index[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for v in graph:
        if v not in index:
            visit(v)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_modules_import_each_other() -> None:
    assert circles(GRAPH) == []


def layer(name: str) -> int:
    """0 the core, 1 what oracles share, 2 families of oracles, 3 the command line."""
    parts = name.split(".")
    if parts[0] == "blackbox_zo":
        return 0
    if len(parts) > 1 and parts[1] == "cli":
        return 3
    return 2 if len(parts) == 1 or (ROOT / "oracles" / parts[1]).is_dir() else 1


@pytest.mark.parametrize("name", [name for name in FILES if name != "oracles"])
def test_imports_run_one_way(name: str) -> None:
    above = {module for module in GRAPH[name] if layer(module) > layer(name)}
    assert not above, f"{name} imports {', '.join(above)}, which is above it"


def test_families_of_oracles_stand_alone() -> None:
    """But for `function`, whose page others of numbers use, and `command`, whose parameters that page names."""
    shared = {"oracles.function", "oracles.command"}
    for name, found in GRAPH.items():
        if layer(name) == 2 and name != "oracles":
            family = ".".join(name.split(".")[:2])
            others = {".".join(m.split(".")[:2]) for m in found if layer(m) == 2 and m != "oracles"} - {family} - shared
            assert not others, f"{name} imports {others}"


def own(name: str) -> set[str]:
    """The attributes and functions that a module defines."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


NAMED_TUPLES = {"_replace", "_fields", "_asdict"}
OWN = {name: own(name) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_nobody_reads_what_another_module_keeps_to_itself(name: str) -> None:
    """Attributes with an underscore that another module of ours defines; other libraries' are their affair."""
    theirs = set().union(*(found for other, found in OWN.items() if other != name)) - OWN[name]
    read = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if node.attr in theirs and node.attr not in NAMED_TUPLES
    ]
    imported = [
        f"line {node.lineno}: {alias.name}"
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__" and f"{node.module}.{alias.name}" not in FILES
    ]
    assert read + imported == []
