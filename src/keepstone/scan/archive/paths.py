"""Names in an archive: where they lead when it is unpacked, and which are one to some reader."""

from __future__ import annotations

import re
import unicodedata

_DRIVE = re.compile(r"[A-Za-z]:")


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a name, without those that say nothing. A backslash divides too."""
    plain = name.replace("\\", "/")
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def is_unsafe(name: str) -> bool:
    """True where unpacking would write outside of the folder."""
    plain = name.replace("\\", "/")
    return plain.startswith("/") or ".." in parts_of(name) or _DRIVE.match(plain) is not None


def key_of(name: str) -> str:
    """What is equal for two names that some file system takes for one."""
    return unicodedata.normalize("NFC", "/".join(parts_of(name)).casefold())


def resolve(folder: tuple[str, ...], target: str) -> tuple[str, ...] | None:
    """Where a link in `folder` leads, from the archive's root; None where it leads out."""
    plain = target.replace("\\", "/")
    if plain.startswith("/") or _DRIVE.match(plain):
        return None
    found = list(folder)
    for part in plain.split("/"):
        if part == "..":
            if not found:
                return None
            found.pop()
        elif part not in ("", "."):
            found.append(part)
    return tuple(found)
