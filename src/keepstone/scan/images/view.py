"""What the merged view of an image shows: rights, devices and capabilities that are in force."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.images.entry import DEVICES, MAX_NAME, Entry
from keepstone.scan.images.merge import Merged
from keepstone.scan.rules import finding, printable

_SETUID, _SETGID, _STICKY, _EVERYBODY = 0o4000, 0o2000, 0o1000, 0o0002


def mark_live(merged: Merged) -> None:
    """Mark every entry that a container would see."""
    for _, entry in merged.files():
        entry.live = True
    for _, entry in merged.folders():
        entry.live = True


def view_findings(merged: Merged) -> Iterator[tuple[Finding, Entry]]:
    """What is wrong with the files and folders of the view, by path."""
    for path, entry in merged.files():
        shown = printable(path, MAX_NAME)
        if entry.kind in DEVICES:
            kind = "block" if entry.kind == "4" else "character"
            yield finding("image.device", f"It is a {kind} device.", shown), entry
        elif entry.is_file:
            yield from ((item, entry) for item in _file(entry, shown))
    for path, entry in merged.folders():
        # With the sticky bit, only who owns a file in it takes the file away.
        if entry.mode & _EVERYBODY and not entry.mode & _STICKY:
            reason = f"Everybody may put files into the folder (mode {entry.mode:04o})."
            yield finding("image.world_writable", reason, printable(path or "/", MAX_NAME)), entry


def _file(entry: Entry, path: str) -> Iterator[Finding]:
    mode = entry.mode
    if mode & _SETUID:
        reason = f"The file runs with its owner's rights (mode {mode:04o})."
        yield finding("image.setuid", reason, path)
    elif mode & _SETGID:
        reason = f"The file runs with its group's rights (mode {mode:04o})."
        yield finding("image.setuid", reason, path)
    if mode & _EVERYBODY:
        reason = f"Everybody may change the file (mode {mode:04o})."
        yield finding("image.world_writable", reason, path)
    if entry.capability:
        yield finding("image.capability", "The file has capabilities.", path)
