"""What a layer says of one path."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.scan.archive.tarheaders import (
    FOLDER,
    HARD,
    REGULAR,
    SPARSE,
    SYMBOLIC,
    TarMember,
)

FILES = frozenset({REGULAR, "7", SPARSE})
# A pipe is nothing but a name in an image.
PIPE, DEVICES = "6", frozenset({"3", "4"})
KNOWN = FILES | DEVICES | {HARD, SYMBOLIC, FOLDER, PIPE}

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
# How archives carry the attribute: star's form, and libarchive's in base64.
_CAPABILITY = ("SCHILY.xattr.security.capability", "LIBARCHIVE.xattr.security.capability")
# Longer names are no paths to Linux.
MAX_NAME, MAX_DEPTH = 4096, 256


@dataclass(slots=True, eq=False)
class Entry:
    """One member of a layer, and in the merged view the file that it made.

    Hard links share one: `mode` is what the last of them made it. `layer` counts from zero,
    `start` is where its content lies in the layer's archive. `placed` is true where it has a
    place in the merged view at all, `live` where a container would see it.
    """

    path: str
    kind: str
    mode: int
    size: int
    link: str
    layer: int
    start: int
    capability: bool
    sha256: bytes = b""
    sparse: bool = False
    placed: bool = False
    live: bool = False

    @property
    def is_file(self) -> bool:
        return self.kind in FILES


def entry_of(member: TarMember, path: str, layer: int) -> Entry:
    """The entry that a member of the archive stands for, at a path that was checked."""
    return Entry(
        path,
        member.kind,
        member.mode & 0o7777,
        member.size,
        member.link,
        layer,
        member.start,
        any(key in member.pax for key in _CAPABILITY),
        sparse=member.kind == SPARSE or any(key.startswith("GNU.sparse") for key in member.pax),
    )


def parts_of(name: str) -> list[str]:
    """The parts of a name as Linux takes it: a backslash is a letter like others."""
    return [part for part in name.split("/") if part not in ("", ".")]
