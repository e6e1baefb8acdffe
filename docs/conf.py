"""Sphinx configuration. Build with `python -m sphinx -W --keep-going -b html docs docs/_build/html`."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from blackbox_zo import __version__
from sphinx.domains.python import PyObject

project = "blackbox_zo"
author = "The blackbox_zo authors"
project_copyright = "the blackbox_zo authors"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "coverage_check",
    "mathml",
    "picture",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
default_role = "py:obj"  # `name` in a docstring links where it can, and is plain code elsewhere
nitpicky = False

autodoc_mock_imports = [name for name in ("ray",) if find_spec(name) is None]  # it is large
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"
autodoc_type_aliases = {
    name: name for name in ("Bools", "Floats", "Ints", "Part", "Schedule", "Tree", "Value")
}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"blackbox_zo {version}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False


def _plain_aliases(app, what, name, thing, options, arguments, returned):
    """In a union, Sphinx writes an alias such as `Tree` as `TypeAliasForwardRef('Tree')`."""
    del app, what, name, thing, options

    def plain(text):
        return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)

    return plain(arguments), plain(returned)


def setup(app):
    app.connect("autodoc-process-signature", _plain_aliases)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # what our docstrings call them
