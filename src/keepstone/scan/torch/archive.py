"""torch's zip archives: which member the loader reads, and that nothing else is hidden there.

torch takes the folder of the first entry, and looks names up without regard to letter case. So
every member must lie in that folder, no two may be one in lower case, and the pickle is judged
as torch reads it. Storages are compared in length with what the pickle asks for, and their
checksums are computed (torch does not); they are never searched for anything. TorchScript's
archives hold code beside that, which has a page of its own (`script`).

Source: torch.serialization `_load`, caffe2/serialize/inline_container.cc, torch 1.6 to 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.archive.zip import members, problems
from keepstone.scan.archive.zipdir import Listing, read_zip
from keepstone.scan.pickle.stream import Look
from keepstone.scan.torch.objects import Objects
from keepstone.scan.torch.script import Script
from keepstone.scan.view import View

# Short texts about the archive itself.
_NOTES = re.compile(
    r"(version|byteorder|\.format_version|\.storage_alignment|\.?data/serialization_id)\Z"
)
_NOTE = re.compile(rb"[0-9a-z\s]{0,64}\Z")
_WEIGHTS = re.compile(r"(data|constants|tensors|xl_model_weights)/[^/]+\Z")
# TorchScript's: the constants, traced inputs, byte code; each has its storages in a folder.
_SCRIPT_PICKLE = re.compile(r"[^/]+\.pkl\Z")


def scan_torch(view: View) -> Iterator[Finding]:
    """Judge a zip archive that has a `data.pkl`."""
    listing = read_zip(view.data)
    yield from problems(view, listing)
    names = [entry.name for entry in listing.entries]
    look = _Archive(names[0].partition("/")[0] if names else "")
    look.script = any(look.inner(name).casefold() == "constants.pkl" for name in names)
    look.pickles = frozenset(look.inner(name).casefold() for name in names)
    yield from look.outside(view, listing)
    yield from members(view, listing, look.member)
    yield from look.ended(view)


@dataclass(slots=True)
class _Archive:
    folder: str
    script: bool = False
    pickles: frozenset[str] = frozenset()
    # What each pickle takes, by the folder in which its storages lie.
    objects: dict[str, Objects] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    code: Script = field(default_factory=Script)

    def inner(self, name: str) -> str:
        """The name within the archive's folder, or nothing where it lies outside of it."""
        folder, slash, rest = name.partition("/")
        return rest if slash and folder.casefold() == self.folder.casefold() else ""

    def outside(self, view: View, listing: Listing) -> Iterator[Finding]:
        for entry in listing.entries:
            if not self.inner(entry.name) and entry.name.rstrip("/") != self.folder:
                reason = "The member lies outside of the folder that torch reads."
                yield view.finding("torch.ambiguous", reason, None, entry.name)

    def member(self, view: View, name: str, data: memoryview) -> Iterator[Finding]:
        inner = self.inner(name)
        lower = inner.casefold()
        if lower == "data.pkl" or (self.script and _SCRIPT_PICKLE.match(lower)):
            folder = lower.removesuffix(".pkl")
            yield from self._pickle(view, name, data, folder)
        elif _NOTES.match(inner):
            if not _NOTE.match(bytes(data[:65])):
                yield view.finding(
                    "torch.malformed", "The note is none that torch writes.", None, name
                )
        elif _WEIGHTS.match(inner) or self._is_storage(lower):
            self.lengths[inner] = len(data)
            # Not a search: weights do not begin as a pickle, import something, and end as one.
            yield from Look(view.nested(name, data)).whole()
        elif self.script and lower.startswith("code/"):
            yield from self.code.member(view.nested(name, data), inner)
        else:
            yield from view.inside(name, data)

    def _is_storage(self, lower: str) -> bool:
        folder, _, key = lower.partition("/")
        return self.script and f"{folder}.pkl" in self.pickles and key.isalnum()

    def _pickle(self, view: View, name: str, data: memoryview, folder: str) -> Iterator[Finding]:
        objects = self.objects.setdefault(folder, Objects())
        script = self.code.names if self.script else None
        yield from Look(view.nested(name, data), objects.take, script=script).findings()

    def ended(self, view: View) -> Iterator[Finding]:
        short = [
            key
            for folder, objects in self.objects.items()
            # Of these torch keeps the shapes alone.
            if folder != "traced_inputs"
            for key, length in objects.storages.items()
            if length > max(self.lengths.get(f"{one}/{key}", -1) for one in (folder, "data"))
        ]
        if short:
            reason = f"{len(short)} storages are missing or shorter than the pickle says."
            yield view.finding("torch.malformed", reason)
        if self.script:
            yield from self.code.ended(view)
