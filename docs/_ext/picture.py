"""The directive `picture`: one of `docs/pictures`, in its light or its dark form as the page is.

:::{picture} mezo
:alt: What it shows, for those who cannot see it.
The caption.
:::
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parent.parent / "pictures"


class Picture(SphinxDirective):
    """A figure with two images, of which furo shows one."""

    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """The figure; an error where the text for those who cannot see it, or a form, is missing."""
        name = self.arguments[0]
        if not self.options.get("alt"):
            raise self.error(
                f"The picture {name} needs `:alt:`, a text that says what it shows."
            )
        figure = nodes.figure(classes=["picture"])
        for theme in ("light", "dark"):
            found = sorted(FOLDER.glob(f"{name}-{theme}.*"))
            if not found:
                raise self.error(
                    f"There is no {name}-{theme} in docs/pictures: python docs/pictures/make.py {name}"
                )
            self.env.note_dependency(str(found[0]))
            figure += nodes.image(
                uri=f"/pictures/{found[0].name}",
                alt=self.options["alt"],
                classes=[f"only-{theme}"],
            )
        if self.content:
            text = nodes.Element()
            self.state.nested_parse(self.content, self.content_offset, text)
            figure += nodes.caption("", "", *text[0].children)
        self.set_source_info(figure)
        return [figure]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
