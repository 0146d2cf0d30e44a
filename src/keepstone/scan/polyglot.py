"""Files that are something else to another reader: flagged, whatever the first one is.

A loader does not ask what a file is before it reads it as what it expects. So a file counts as
a pickle as soon as a loader of pickles would import something out of it, and as an archive as
soon as a reader that begins at the end would find members.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.archive.zipdir import ends_as_zip
from keepstone.scan.formats import ZIPS
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.view import View

# These may well end with an archive: as their last member, or as TFLite keeps its labels.
_ENDS_FREELY = frozenset({*ZIPS, "tar", "7z", "empty", "tflite"})


def find_second_format(view: View, kind: str) -> Iterator[Finding]:
    """Say where `view`, which is of `kind`, is a pickle or a zip archive as well."""
    if kind not in _ENDS_FREELY and ends_as_zip(view.data):
        reason = f"The file is {kind} to some readers and a zip archive to others."
        yield view.finding("file.polyglot", reason)
    if kind != "pickle" and resembles_importing_pickle(view.data, view.allowance):
        reason = f"The file is {kind} to some readers and a pickle that imports to others."
        yield view.finding("file.polyglot", reason)
