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
from keepstone.scan.pickle.danger import why_dangerous
from keepstone.scan.pickle.opcodes import is_importing_pickle, look_as_pickle
from keepstone.scan.rules import printable
from keepstone.scan.view import View

# These may well end with an archive: as their last member, or as TFLite keeps its labels.
_ENDS_FREELY = frozenset({*ZIPS, "tar", "7z", "empty", "tflite"})

_TARS = frozenset({"tar", "empty"})
# A tar header, and where its checksum stands (POSIX.1-1988 ustar; older tars have no mark).
_BLOCK, _SUM = 512, slice(148, 156)


def find_second_format(view: View, kind: str) -> Iterator[Finding]:
    """Say where `view`, which is of `kind`, is a pickle or a zip archive as well."""
    if kind not in _ENDS_FREELY and ends_as_zip(view.data):
        reason = f"The file is {kind} to some readers and a zip archive to others."
        yield view.finding("file.polyglot", reason)
    if kind not in _TARS and _begins_as_tar(view.data):
        # torch's loader, for one, tries this before anything else that is no zip archive.
        reason = f"The file is {kind} to some readers and a tar archive to others."
        yield view.finding("file.polyglot", reason)
    if kind != "pickle":
        yield from _as_pickle(view, kind)


def _as_pickle(view: View, kind: str) -> Iterator[Finding]:
    found = look_as_pickle(view.data, view.allowance)
    if is_importing_pickle(view.data, found):
        reason = f"The file is {kind} to some readers and a pickle that imports to others."
        yield view.finding("file.polyglot", reason)
        return
    for item in found.imports:
        # Broken for what it is, or a text that happens to begin like that: nobody can say.
        if item.module and item.name and why_dangerous(item.module, item.name):
            name = printable(f"{item.module}.{item.name}")
            yield view.unseen(f"To a loader of pickles it begins with the import of {name}.")
            return


def _begins_as_tar(data: memoryview) -> bool:
    """True where the first block has the checksum of a tar header."""
    block = bytes(data[:_BLOCK])
    field = block[_SUM].strip(b" \x00")
    if len(block) < _BLOCK or not field or not all(c in b"01234567" for c in field):
        return False
    return int(field, 8) == sum(block) - sum(block[_SUM]) + 8 * 0x20
