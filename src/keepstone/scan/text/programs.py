"""Programs: native code, compiled Python, Java classes. Flagged for being there.

Nothing that loads a model needs a program beside it, and nobody can read what one does. A model
that does bring its own operators is one to be asked about: the flag is that question.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.formats import identify
from keepstone.scan.text.scanner import scan_text
from keepstone.scan.view import View

PROGRAMS = ("elf", "pe", "macho", "java-or-macho", "wasm", "dex", "library", "pyc")


def scan_program(view: View) -> Iterator[Finding]:
    """Say that the file is one."""
    kind = identify(view.data)
    yield view.finding("file.program", f"The file is a program or a library of code ({kind}).")


def scan_html(view: View) -> Iterator[Finding]:
    """A page: its script is not judged."""
    yield view.finding("code.not_judged", "The file is a page, whose script is not judged.")
    yield from scan_text(view)
