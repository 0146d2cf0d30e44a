"""Files that lie together and name one another: a folder, an artifact, an archive's members.

A file alone cannot say that the module it names comes along, or that the file it names is
missing. A folder scanner is a function from a folder to findings, each about one of its files;
what the files hold is judged elsewhere, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import basename, dirname, normpath
from typing import Any, Protocol

from keepstone.core.finding import Finding
from keepstone.scan.text.decode import decode
from keepstone.scan.text.parsed import parse_json
from keepstone.scan.text.yamls import read_yaml

# What names other files is small; a larger one names none here.
MAX_READ = 8 << 20


class _View(Protocol):
    """As much of a view as says what was found about a part of it."""

    def finding(
        self, rule: str, message: str, offset: int | None = None, inside: str | None = None
    ) -> Finding: ...


class Files(Protocol):
    """Files by their paths, divided by slashes, and a way to say something about one."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> memoryview | None:
        """The content of a small file, None where it cannot be had."""
        ...

    def say(self, rule: str, reason: str, name: str) -> Finding: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """The members of an archive, as files."""

    files: Mapping[str, memoryview]
    view: _View

    def names(self) -> list[str]:
        return list(self.files)

    def read(self, name: str) -> memoryview | None:
        return self.files.get(name)

    def say(self, rule: str, reason: str, name: str) -> Finding:
        return self.view.finding(rule, reason, None, name)


@dataclass(slots=True)
class Look:
    """A folder with its names in the one spelling that `at` and `under` compare."""

    files: Files
    known: dict[str, str] = field(default_factory=dict)

    @classmethod
    def into(cls, files: Files) -> Look:
        return cls(files, {normpath(name.replace("\\", "/")): name for name in files.names()})

    def called(self, name: str) -> list[str]:
        """The paths of all files of this name, wherever they lie."""
        return [path for path in self.known if basename(path).casefold() == name.casefold()]

    def beside(self, path: str, name: str) -> str:
        """The path that a file at `path` means by `name`."""
        return normpath(f"{dirname(path) or '.'}/{name}")

    def has(self, path: str) -> bool:
        """True for a file, or a folder with files."""
        return path in self.known or any(one.startswith(f"{path}/") for one in self.known)

    def under(self, path: str) -> Iterator[str]:
        """What lies under a folder, as paths from there."""
        start = "" if path in ("", ".") else f"{path}/"
        return (one.removeprefix(start) for one in self.known if one.startswith(start))

    def text(self, path: str) -> str | None:
        data = self.files.read(self.known[path]) if path in self.known else None
        return None if data is None or len(data) > MAX_READ else decode(data)

    def json(self, path: str) -> Any:
        text = self.text(path)
        parsed = None if text is None else parse_json(text)
        return None if parsed is None else parsed.value

    def yaml(self, path: str) -> Any:
        text = self.text(path)
        documents = [] if text is None else read_yaml(text).documents
        return documents[0] if documents else None

    def say(self, rule: str, reason: str, path: str) -> Finding:
        return self.files.say(rule, reason, self.known[path])


# Looks at a folder as a whole; what it yields is about one of its files.
FolderScanner = Callable[[Look], Iterator[Finding]]
