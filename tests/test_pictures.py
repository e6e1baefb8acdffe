"""The pictures of the documentation: every guide has one, in both themes, and drawings show what the results say."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FOLDER = DOCS / "pictures"
DIRECTIVE = re.compile(r"^:::\{picture\} (\w+)\n:alt: (.+)$", re.MULTILINE)
IN_README = re.compile(r'srcset="(.+?)-dark\.(\w+)">\n *<img src="(.+?)-light\.(\w+)" width="\d+" alt="(.+?)">')
MOST_BYTES = 2_000_000

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'blackbox-zo[cli]'")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE: Any = script()
PICTURES: dict[str, Any] = MAKE.pictures()
DRAWINGS = [name for name, picture in PICTURES.items() if MAKE.is_drawing(picture)]
FROM_RESULTS = [name for name in DRAWINGS if hasattr(PICTURES[name], "DATA")]
GUIDES = sorted(DOCS.glob("*.md"))


def svg(name: str, theme: str) -> str:
    return (FOLDER / f"{name}-{theme}.svg").read_text("utf-8")


def lines(name: str, axes: int = 0) -> list[Any]:
    """What a drawing has drawn: the points of each of its lines."""
    return [line.get_xydata() for line in PICTURES[name].figure(MAKE.LIGHT).axes[axes].lines]


def drawn(points: Any, among: list[Any]) -> bool:
    want = np.array(points, dtype=float)
    return any(have.shape == want.shape and np.allclose(have, want, rtol=1e-12) for have in among)


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text("utf-8"))


# ------------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_guide_shows_something(page: Path) -> None:
    shown = DIRECTIVE.findall(page.read_text("utf-8"))
    assert shown, f"{page.name} has no picture"
    for name, alt in shown:
        assert name in PICTURES and len(alt) > 40, f"{page.name}: {name}"


def test_the_readme_shows_both_themes() -> None:
    shown = IN_README.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(shown) >= 4 and (ROOT / "README.md").read_text("utf-8").count("<img") == len(shown)
    for dark, dark_kind, light, light_kind, alt in shown:
        assert (dark, dark_kind) == (light, light_kind) and len(alt) > 40
        assert (ROOT / f"{dark}-dark.{dark_kind}").is_file() and (ROOT / f"{light}-light.{light_kind}").is_file()


def test_every_picture_is_there_in_both_themes_and_no_other() -> None:
    want = {
        f"{name}-{theme}.{'svg' if name in DRAWINGS else 'png'}" for name in PICTURES for theme in ("light", "dark")
    }
    assert {path.name for path in FOLDER.glob("*.*") if path.suffix in (".svg", ".png")} == want
    assert sum((FOLDER / name).stat().st_size for name in want) < MOST_BYTES


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_can_show_it(name: str, theme: str) -> None:
    """At 360 pixels, the width of a drawing in points, no letter is smaller than 10 pixels."""
    text = svg(name, theme)
    width = re.search(r'viewBox="0 0 ([\d.]+) ', text)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*?([\d.]+)px", text)]
    assert width is not None and float(width[1]) == 360 and sizes and min(sizes) >= 10


# ----------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_drawing_is_of_its_present_program_and_results(name: str, theme: str) -> None:
    mend = f"draw it again: python docs/pictures/make.py {name}"
    assert f"draw {MAKE.fingerprint(PICTURES[name])}" in svg(name, theme), mend


@pytest.mark.parametrize("name", FROM_RESULTS)
@pytest.mark.parametrize("theme", [MAKE.LIGHT, MAKE.DARK], ids=lambda theme: theme.name)
def test_drawn_again_it_is_the_same(name: str, theme: Any) -> None:
    import matplotlib

    kept = svg(name, theme.name)
    by = re.search(r"Matplotlib v([\d.]+)", kept)
    assert by is not None
    if by[1] != matplotlib.__version__:
        pytest.skip(f"drawn by matplotlib {by[1]}, and here is {matplotlib.__version__}, whose SVG may differ")
    assert MAKE.drawn(PICTURES[name], theme) == kept


def test_mezo_shows_every_seed_at_the_chosen_rate() -> None:
    found, have = results("llm_convergence"), lines("mezo")
    for side, rate in (
        ("MeZO", "0.0001"),
        ("all parameters", "0.0003"),
        ("final norm", "0.2"),
        ("top two layers", "0.006"),
    ):
        assert found["summary"][side]["rate"] == float(rate)
        for seed in range(3):
            run = found["runs"][f"{side}, rate {rate}, seed {seed}, 100 steps"]
            ends = [i for i, (_, loss) in enumerate(run) if loss <= 3.2] or [len(run)]
            assert drawn([(2 * step, loss) for step, loss in run[: ends[0] + 1]], have), (side, seed)


def test_learning_shows_the_median_of_the_seeds() -> None:
    found, have = results("rl_learning")["HalfCheetah-v5"], lines("learning")
    for side in ("ours (auto)", "ARS V2-t", "ARS V2-t, defaults of its code"):
        medians = np.median(found[side]["curves"], axis=0)
        assert drawn([(0.05 * (i + 1), value) for i, value in enumerate(medians)], have), side
        assert medians[-1] == found[side]["median"]


def test_fashion_shows_the_share_of_runs() -> None:
    found = results("fashion")["methods"]
    for axes, case in enumerate(("(8, 8)", "(8, 3)")):
        have = lines("fashion", axes)
        for side in ("PreferenceGP", "RankBased + SGD", "EvolutionStrategy", "ZO-RankSGD, published rounds"):
            assert drawn([(i, 100 * share) for i, share in enumerate(found[side][case]["success"])], have), side


def test_surrogate_shows_the_queries_of_the_best_rule() -> None:
    found = results("surrogate")["mean of the clients"]
    axes = PICTURES["surrogate"].figure(MAKE.LIGHT).axes[0]
    bars = [round(bar.get_width()) for bar in axes.patches]
    want = [c for side in found.values() if isinstance(side, dict) for c in side["best rule"]]
    assert bars == [round(min(count, 3000)) for count in want]
    texts = [text.get_text() for text in axes.texts]
    assert texts == [f"{count:,.0f}" if np.isfinite(count) else "not in 3,000" for count in want]
