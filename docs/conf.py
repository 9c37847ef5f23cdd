"""How the guides and the docstrings become a site: `python -m sphinx -W docs site`, with the extra `docs`."""

import re

from sphinx.application import Sphinx

import jaxtl

project = "jaxtl"
copyright = "the authors of jaxtl"
version = release = jaxtl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"jaxtl {release}"
# Anchors of headings, as GitHub makes them: the guides link to some.
myst_heading_anchors = 3
# Backticks of docstrings hold code, not references.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Shown by their names, not by all that they stand for.
autodoc_type_aliases = {name: name for name in ("ArrayLike", "NDArray", "Pathlike", "Progress", "Source")}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_use_ivar = True
napoleon_attr_annotations = False

_ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def name_what_is_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """The site has the guides alone: what else of the repository they link to is named instead."""
    source[0] = _OUTSIDE.sub(r"\1 (`\2`)", source[0])


def name_aliases(
    app: Sphinx, what: str, name: str, of: object, options: object, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """In a union Sphinx shows the object that stands for a name, not the name."""
    return (signature and _ALIAS.sub(r"\1", signature)), (result and _ALIAS.sub(r"\1", result))


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("source-read", name_what_is_outside)
