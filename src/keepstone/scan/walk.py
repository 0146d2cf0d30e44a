"""Every file under a folder, in order, and a word for whatever is not one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class NotWalked:
    """Something that is no file of the folder, or could not be listed."""

    path: str
    reason: str


def walk(root: Path, exclude: Sequence[str] = ()) -> Iterator[Path | NotWalked]:
    """Every file under `root`. No link is followed.

    `exclude` are patterns (`*`, `?`, `[...]`) that a name, or a path from `root`, must not match.
    """
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield NotWalked(str(folder), f"Cannot list it: {error.strerror}.")
            continue
        folders = []
        for entry in listed:
            path = Path(entry.path)
            if exclude and _excluded(path, root, exclude):
                continue
            if entry.is_symlink():
                yield NotWalked(entry.path, "A link inside a folder is not followed.")
            elif entry.is_dir(follow_symlinks=False):
                if depth + 1 > MAX_DEPTH:
                    yield NotWalked(entry.path, "Folders are nested too deep.")
                else:
                    folders.append((path, depth + 1))
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                yield NotWalked(entry.path, "It is not a regular file.")
        pending.extend(reversed(folders))


def _excluded(path: Path, root: Path, patterns: Sequence[str]) -> bool:
    inside = path.relative_to(root).as_posix()
    return any(fnmatchcase(path.name, one) or fnmatchcase(inside, one) for one in patterns)
