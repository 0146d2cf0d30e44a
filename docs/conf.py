"""How the documentation is built. Warnings are errors: see the target `docs` of the Makefile."""

from __future__ import annotations

from keepstone import __version__

project = "Keepstone"
copyright = "the Keepstone contributors"
version = release = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
# Links to a heading of another page are checked like any other.
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"Keepstone {__version__}"
html_copy_source = False
html_show_sphinx = False
# The pages read the same from a folder, without a network.
html_theme_options = {"source_edit_link": "", "top_of_page_buttons": []}
