"""A folder on a disk as a file tree: no link is followed out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.rules import printable
from keepstone.scan.walk import MAX_DEPTH

_METADATA = (".dist-info", ".egg-info", "/EGG-INFO", "/conda-meta")
# More parts than any path with links has.
_MAX_STEPS = 1_000


class DiskTree:
    """The files under `root`. A link to a file inside counts as one. A link to a folder inside does
    not, as the folder has a name of its own; but the metadata of an installed package is known by
    the folder's name, so that is read under the link's.

    A link's absolute target is also looked for under `root`, as the system would whose root it is.
    `left_out` is what the last walk could not look into, filled as `paths` is read: a folder that
    cannot be listed, and a link to a folder outside.
    """

    def __init__(self, root: Path) -> None:
        """Raises InputError `scan.missing` where `root` is no folder."""
        try:
            self.root = root.resolve(strict=True)
            if not self.root.is_dir():
                raise NotADirectoryError("not a folder")
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError("scan.missing", f"Cannot read {root}: {error}.") from error
        self.left_out: list[NotJudged] = []

    def paths(self) -> Iterator[str]:
        self.left_out = []
        pending = [("", 0)]
        while pending:
            folder, depth = pending.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._leave(folder, f"The folder cannot be listed: {error.strerror}.")
                continue
            folders = []
            for entry in listed:
                inside = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if depth + 1 > MAX_DEPTH:
                        self._leave(inside, "Folders are nested too deep.")
                    else:
                        folders.append((inside, depth + 1))
                elif entry.is_symlink() and not self._is_file(entry):
                    yield from self._through(inside, self._is_folder(entry))
                else:
                    # What is no regular file is refused by name where it would be read.
                    yield inside
            pending.extend(reversed(folders))

    def read(self, path: str, limit: int) -> bytes:
        shown = printable(path, 4096)
        try:
            target = None if path.startswith("/") else self._located(path)
            if target is None:
                raise InputError("scan.unreadable", f"{shown} is, or links to, a file outside.")
            # Non-blocking: a pipe in a file's place must not hang us before it is refused.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
            descriptor = os.open(target, flags)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise InputError("scan.unreadable", f"{shown} is not a regular file.")
                data = file.read(limit + 1)
        except (OSError, ValueError, RuntimeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "not a path"
            raise InputError("scan.unreadable", f"Cannot read {shown}: {why}.") from error
        if len(data) > limit:
            raise InputError("scan.too_large", f"{shown} is larger than {limit} bytes.")
        return data

    def _located(self, path: str) -> Path | None:
        """Where `path` leads under `root`, through no link; None where it leads out."""
        real = (self.root / path).resolve()
        if real.is_relative_to(self.root):
            return real
        found, pending = self.root, path.split("/")[::-1]
        for _ in range(_MAX_STEPS):
            if not pending:
                return found
            part = pending.pop()
            if part == "..":
                found = found if found == self.root else found.parent
            elif part not in ("", "."):
                step = found / part
                if step.is_symlink():
                    target = str(step.readlink())
                    found = self.root if target.startswith("/") else found
                    pending += target.split("/")[::-1]
                elif step.exists():
                    found = step
                else:
                    return None
        return None

    @staticmethod
    def _is_file(entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_file()
        except OSError:
            return False

    @staticmethod
    def _is_folder(entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir()
        except OSError:
            return False

    def _through(self, link: str, led: bool) -> Iterator[str]:
        """What to look at behind a link that the system does not lead to a file."""
        try:
            target = self._located(link)
        except (OSError, RuntimeError):
            target = None
        metadata = link.endswith(_METADATA)
        if target is not None and target.is_dir():
            if metadata:
                yield from self._files(link, target)
            else:
                # Where a list should be: it is refused by name.
                yield link
        elif (target is not None and target.exists()) or not (led or metadata):
            yield link
        elif led:
            self._leave(link, "A link to a folder outside is not followed.")
        else:
            self._leave(link, "A link that leads nowhere inside.")

    def _files(self, link: str, folder: Path) -> Iterator[str]:
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError as error:
            self._leave(link, f"The folder cannot be listed: {error.strerror}.")
            return
        yield from (f"{link}/{name}" for name in names)

    def _leave(self, path: str, reason: str) -> None:
        self.left_out.append(NotJudged(printable(path, 4096) or ".", reason))
