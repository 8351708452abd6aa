"""How the documentation is built: ``nox -s docs``."""

from trio_hub import __version__

project = "trio_hub"
author = "The trio_hub developers"
copyright = "The trio_hub developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinxcontrib_trio",
]
html_theme = "furo"
html_title = f"trio_hub {__version__}"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_inherit_docstrings = False
default_role = "any"
nitpicky = False
intersphinx_mapping = {}
suppress_warnings = ["ref.any"]
