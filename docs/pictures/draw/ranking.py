"""The page where people rank, in the middle of a round: six palettes of the demo, three of them in order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from draw._pages import COMMAND, ROOT, tab
from draw._style import Theme

RANK = ("rank", "--render", "oracles.ranking.renderers.demo:palette", "--candidates", "6", "--ranked", "3")
HEIGHT = 1110  # the whole page
PICKS = (2, 4, 5)  # in the order in which they are clicked


def photograph(browser: Any, theme: Theme, folder: Path) -> bytes:
    """Start the real command, follow its link, click three candidates."""
    command = [*COMMAND, *RANK, "--store", str(folder / f"{theme.name}.db")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        link = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        page = tab(browser, theme, HEIGHT)
        page.goto(link)
        page.get_by_role("button", name="Begin").click()
        page.wait_for_selector(".card .pick")
        page.wait_for_timeout(1500)
        for i in PICKS:
            page.locator(".card .pick").nth(i).click()
        page.wait_for_timeout(500)
        png: bytes = page.screenshot()
        page.context.close()
        server.terminate()
    return png
