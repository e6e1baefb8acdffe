"""What photographs share: the command line of this checkout, and a page as wide as a large phone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from draw._style import Theme

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-u", "-c", "from oracles.cli.main import main; raise SystemExit(main())")


def run(folder: Path, *arguments: str) -> None:
    """Run `blackbox-zo` with these arguments in a folder."""
    subprocess.run([*COMMAND, *arguments], cwd=folder, check=True)


def tab(browser: Any, theme: Theme, height: int) -> Any:
    """A new tab, 520 pixels wide, of a browser set to a theme."""
    size = {"width": 520, "height": height}
    return browser.new_context(viewport=size, color_scheme=theme.name, device_scale_factor=2).new_page()


def shot(browser: Any, theme: Theme, page: Path, height: int, wait: float = 0.3) -> bytes:
    """The beginning of a page. The path of this machine's Python is shortened to its name.

    Args:
        browser: Of Playwright.
        theme: Which theme the browser asks for.
        page: A file of HTML.
        height: In pixels of the page.
        wait: Seconds before the photograph is taken.
    """
    out = tab(browser, theme, height)
    out.set_content(page.read_text("utf-8").replace(sys.executable, "python3"))
    out.wait_for_timeout(1000 * wait)
    png: bytes = out.screenshot()
    out.context.close()
    return png
