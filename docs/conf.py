"""Sphinx: pages of every room from the docstrings. python -m sphinx docs build/docs."""

from latex2mathml import converter

import lnl_jax

project = "lnl_jax"
author = "the lnl_jax authors"
release = lnl_jax.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
templates_path = ["templates"]
exclude_patterns = ["templates"]
# A name in backquotes is a link where there is such a function.
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
autosummary_imported_members = True
autosummary_ignore_module_all = False
napoleon_use_ivar = True
# Links of a page to files of the repository, not to pages; pages of results, to which their list
# leads; and tables that studies wrote, in pages without a title.
suppress_warnings = ["myst.xref_missing", "toc.not_included", "myst.header"]
html_math_renderer = "mathml"


def inline(writer, node):
    """A formula within a sentence, as MathML: browsers draw it without a script."""
    writer.body.append(converter.convert(node.astext()))
    raise _done()


def displayed(writer, node):
    """A formula of its own."""
    writer.body.append(converter.convert(node.astext(), display="block"))
    raise _done()


def _done():
    from docutils import nodes

    return nodes.SkipNode()


def setup(app):
    """Registers the formulas."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
