"""Sphinx: API pages from the docstrings. python -m sphinx docs build/docs."""

import lnl_jax

project = "lnl_jax"
author = "the lnl_jax authors"
release = lnl_jax.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["results"]
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
napoleon_use_ivar = True
