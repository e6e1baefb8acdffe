"""Draw the pictures of the documentation, each for light and for dark pages.

    python docs/pictures/make.py                     # every drawing: seconds, needs matplotlib
    python docs/pictures/make.py report ranking      # only these; photographs need Chromium and Playwright
    python docs/pictures/make.py --all               # drawings and photographs

A picture is a file in `draw/`. One that has `figure(theme)` is a drawing, kept as SVG. One that has
`photograph(browser, theme, folder)` is a photograph of a real page of a real run, kept as PNG. `DATA` names the results
in `benchmarks/` that a drawing shows. Each SVG says in its metadata what it was made from, and a test compares.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from draw._style import DARK, LIGHT, Theme, style  # noqa: E402


def pictures() -> dict[str, ModuleType]:
    """All pictures by name."""
    files = sorted(HERE.glob("draw/[a-z]*.py"))
    return {path.stem: importlib.import_module(f"draw.{path.stem}") for path in files}


def is_drawing(picture: ModuleType) -> bool:
    """Whether it is drawn, and not photographed."""
    return hasattr(picture, "figure")


def fingerprint(picture: ModuleType) -> str:
    """What a drawing is made from: its program, the shared style, and the results that it shows."""
    sources = [Path(picture.__file__ or ""), HERE / "draw" / "_style.py"]
    sources += [ROOT / "benchmarks" / name for name in getattr(picture, "DATA", ())]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def drawn(picture: ModuleType, theme: Theme) -> str:
    """The SVG of a drawing; the same text each time, with the same matplotlib."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context(style(theme)):
        figure = picture.figure(theme)
        made = {"Date": None, "Source": f"draw {fingerprint(picture)}"}
        figure.savefig(out, format="svg", metadata=made, transparent=True)
    short = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", out.getvalue())  # hundredths of a point
    return "\n".join(line.rstrip() for line in short.splitlines()) + "\n"


def squeeze(png: bytes, path: Path) -> None:
    """Keep a photograph as a PNG of at most 256 colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def photographs(names: list[str], all_pictures: dict[str, ModuleType]) -> None:
    """Take photographs, in the browser of this machine."""
    import shutil

    from playwright.sync_api import sync_playwright

    known = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in known if (path := shutil.which(name))), None)
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser: Any = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in names:
            for theme in (LIGHT, DARK):
                png = all_pictures[name].photograph(browser, theme, Path(folder))
                squeeze(png, HERE / f"{name}-{theme.name}.png")
            print(name)
        browser.close()


def main() -> None:
    """The command line."""
    known = pictures()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}")
    parser.add_argument("--all", action="store_true", help="photographs, too")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"there is no picture {', '.join(unknown)}; there are {', '.join(known)}")
    names = given.names or [name for name in known if given.all or is_drawing(known[name])]
    for name in names:
        if is_drawing(known[name]):
            for theme in (LIGHT, DARK):
                (HERE / f"{name}-{theme.name}.svg").write_text(drawn(known[name], theme), encoding="utf-8")
            print(name)
    if photos := [name for name in names if not is_drawing(known[name])]:
        photographs(photos, known)


if __name__ == "__main__":
    main()
