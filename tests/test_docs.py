"""The documentation is true: every example runs, every public name has an entry, no page shows code that fails."""

from __future__ import annotations

import doctest
import importlib
import inspect
import logging
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import blackbox_zo
import oracles
from blackbox_zo.testing import check_estimator
from tests.requires import required

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
HERE = re.compile(r".*<<'END'\n(?:.*\n)*?END\n")
SKIP = re.compile(r"# not run: \S+")
NEEDS = re.compile(r"# needs (\S+)\n")


def coverage_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_check", DOCS / "_ext" / "coverage_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules() -> list[str]:
    names = []
    for package in (blackbox_zo, oracles):
        names.append(package.__name__)
        names += [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in names if not name.endswith("__main__")]


def run_doctests(text: str, namespace: dict[str, Any], name: str, line: int = 0) -> list[str]:
    """Run the examples in `text`, and return what went wrong."""
    examples = doctest.DocTestParser().get_doctest(text, namespace, name, name, line)
    examples.globs = namespace  # shared, not copied: later blocks of a page use what earlier ones made
    reports: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(examples, out=reports.append, clear_globs=False)
    return reports


def test_every_public_name_is_documented() -> None:
    check = coverage_check()
    assert check.undocumented(check.read_pages(DOCS)) == []


@pytest.mark.parametrize(
    "name",
    [
        "blackbox_zo.minimize",
        "blackbox_zo.Cache",
        "blackbox_zo.testing.check_oracle",
        "blackbox_zo.trackers.MLflow",
        "oracles.CommandOracle",
        "oracles.kind.Session",
        "oracles.page.Chart",
    ],
)
def test_the_check_names_what_is_missing(name: str) -> None:
    check = coverage_check()
    pages = [
        re.sub(rf"^(\.\. auto\w+:: ){re.escape(name)}$", r"\1gone", page, flags=re.M) for page in check.read_pages(DOCS)
    ]
    assert check.undocumented(pages) == [name]


def test_the_check_sees_all_that_is_exported() -> None:
    check = coverage_check()
    exported = {
        n
        for n, v in vars(blackbox_zo).items()
        if getattr(v, "__module__", "").startswith("blackbox_zo") and n[0] != "_"
    }
    assert {f"blackbox_zo.{name}" for name in exported} <= check.public_names("blackbox_zo")


def test_every_public_method_of_the_core_says_what_it_does_if_only_by_inheritance() -> None:
    public = [thing for name, thing in vars(blackbox_zo).items() if inspect.isclass(thing) and name[0] != "_"]
    assert len(public) > 50
    silent = [
        f"{kind.__name__}.{name}"
        for kind in public
        for name, member in inspect.getmembers(kind)
        if name[0] != "_"
        and (inspect.isfunction(member) or isinstance(member, property))
        and not inspect.getdoc(member)
    ]
    assert not silent


DOORS = {f"blackbox_zo.{name}": name for name in ("nevergrad", "optuna", "ray", "sklearn")}


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.endswith("_fused"):
        pytest.importorskip("triton", reason="Triton comes with torch for CUDA only")
    if name in DOORS:
        pytest.importorskip(DOORS[name], reason=f"needs {DOORS[name]}, the package behind {name}")
    module = importlib.import_module(name)
    failures: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=failures.append)
    assert not failures, "".join(failures)


def pages() -> list[Path]:
    return [
        path
        for path in sorted(DOCS.rglob("*.md"))
        if "_build" not in path.parts and FENCE.search(path.read_text("utf-8"))
    ]


@pytest.fixture
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the command `blackbox-zo` of this checkout, whether or not it is installed."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "blackbox-zo"
    script.write_text(f"#!{sys.executable}\nfrom oracles.cli.main import main\n\nraise SystemExit(main())\n")
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_code_on_pages(page: Path, tmp_path: Path, command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every block of a page in order, in one namespace, in a folder that holds nothing but `tutorials/`.

    A `python` block runs as a doctest if it has a prompt, else as a script. Of a `console` block the lines after `$ `
    run in a shell. A block whose first line is `# not run: <reason>` is left out; one that begins with
    `# needs <program>` is left out, and the page counted as skipped after all else has passed, where that is missing;
    where `BLACKBOX_ZO_REQUIRE` names the program, the page fails at once.
    """
    missing: set[str] = set()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join((str(command), str(Path(sys.executable).parent), os.environ["PATH"])))
    logger = logging.getLogger("blackbox_zo")  # as it was, after the page
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    (tmp_path / "tutorials").symlink_to(ROOT / "tutorials")
    text = page.read_text("utf-8")
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # so that dataclasses and pickling find their module
    namespace = vars(module)
    for block in FENCE.finditer(text):
        kind, code = block.groups()
        line = text[: block.start()].count("\n") + 1
        if SKIP.match(code):
            continue
        if (needs := NEEDS.match(code)) and shutil.which(needs[1]) is None:
            if needs[1] in required():
                pytest.fail(f"BLACKBOX_ZO_REQUIRE names {needs[1]}, and it is missing: {page.name}", pytrace=False)
            missing.add(needs[1])
            continue
        if kind == "console":
            run_console(code, tmp_path, f"{page.name}, line {line}")
        elif ">>> " in code:
            failures = run_doctests(code, namespace, page.name, line)
            assert not failures, "".join(failures)
        else:
            exec(compile("\n" * line + code, page.name, "exec"), namespace)
    if missing:
        pytest.skip(f"all of the page was run but the blocks that need {' and '.join(sorted(missing))}: not installed")


def test_python_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [code for kind, code in FENCE.findall((ROOT / "README.md").read_text("utf-8")) if kind == "python"]
    assert len(blocks) >= 3
    namespace: dict[str, Any] = {}
    for code in blocks:
        exec(code, namespace)
    assert namespace["r"].message == "The target 1e-06 is reached."


def test_the_example_in_contributing_is_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(code for kind, code in FENCE.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")) if kind == "python")
    module = ModuleType("_three_points")
    monkeypatch.setitem(sys.modules, "_three_points", module)
    exec(code, vars(module))
    check_estimator(module.ThreePoints(0.1))


def run_console(code: str, folder: Path, where: str) -> None:
    """Run each `$ command`, and compare what it prints with the lines below it, if there are any."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command = HERE.match(part) or re.match(r"(?:.*\\\n)*.*\n", part)
        assert command is not None
        want = part[command.end() :]
        done = subprocess.run(["bash", "-c", command[0]], cwd=folder, capture_output=True, text=True, timeout=120)
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{where}: {command[0]}{output}"
        assert not want or doctest.OutputChecker().check_output(want, output, FLAGS), f"{where}: {command[0]}{output}"
