"""The report of the README's first run, as a browser shows it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from draw._pages import ROOT, run, shot
from draw._style import Theme

HEIGHT = 1140  # to the end of the convergence


def page(folder: Path) -> Path:
    """Run the README's own command, once, and draw its report."""
    out = folder / "report.html"
    if not out.exists():
        block = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[0]
        (folder / "tutorials").symlink_to(ROOT / "tutorials")
        run(folder, *shlex.split(block[block.index("blackbox-zo minimize") :].replace("\\\n", " "))[1:])
        run(folder, "report", "run.jsonl", "-o", out.name)
    return out


def photograph(browser: Any, theme: Theme, folder: Path) -> bytes:
    """The beginning of the page."""
    return shot(browser, theme, page(folder), HEIGHT)
