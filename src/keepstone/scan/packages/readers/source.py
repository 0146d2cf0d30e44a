"""One file that names packages, and what a reader of it may say."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.tree import FileTree
from keepstone.scan.rules import printable

# Longer than any name or version that an index takes.
_LONGEST = 256
# dpkg's list of a whole desktop has some 300,000.
_MAX_LINES = 3_000_000


class BrokenListError(Exception):
    """The file is not what its name says; the message is the reason, one sentence."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file's path in its tree and its content; the tree, for what the file refers to."""

    path: str
    data: bytes
    tree: FileTree

    @property
    def shown(self) -> str:
        return printable(self.path, 4096)

    def text(self) -> str:
        """The file as UTF-8, with or without a byte order mark. Raises BrokenListError."""
        try:
            text = self.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BrokenListError("It is not UTF-8.") from None
        if "\0" in text:
            raise BrokenListError("It holds a NUL byte.")
        return text

    def lines(self) -> Iterator[str]:
        """Line by line, where only names and versions must be readable. Raises BrokenListError.

        Other bytes are replaced: descriptions and maintainers in old encodings stand in real
        databases of packages.
        """
        if b"\0" in self.data:
            raise BrokenListError("It holds a NUL byte.")
        for count, line in enumerate(io.BytesIO(self.data)):
            if count == _MAX_LINES:
                raise BrokenListError(f"It has more than {_MAX_LINES} lines.")
            yield line.decode("utf-8", "replace").rstrip("\r\n")

    def beside(self, name: str) -> bool:
        """Whether a file of this name can be read in the same folder."""
        folder = self.path[: self.path.rfind("/") + 1]
        try:
            self.tree.read(folder + name, 64 << 20)
        except InputError:
            return False
        return True

    def open(self, reason: str, name: str = "") -> NotJudged:
        return NotJudged(self.shown, reason, printable(name, _LONGEST))

    def package(
        self, ecosystem: str, name: object, version: object, source: str = "", at: str = ""
    ) -> Package | NotJudged:
        """The package, or why what the file says is none. `at` is the source package's version."""
        if not isinstance(name, str) or not _plausible(name):
            shown = name if isinstance(name, str) else ""
            return self.open("A package has no name, or one that no index takes.", shown)
        if not isinstance(version, str) or not _plausible(version):
            return self.open("The package has no version, or none that can be one.", name)
        if (source and not _plausible(source)) or (at and not _plausible(at)):
            return self.open("The source package's name or version cannot be one.", name)
        return Package(
            ecosystem,
            name,
            version,
            self.shown,
            source or name,
            (at or version) if source else version,
        )


def _plausible(word: str) -> bool:
    return (
        0 < len(word) <= _LONGEST
        and word.isprintable()
        and "�" not in word
        and not any(character.isspace() for character in word)
    )


Reader = Callable[[Source], Iterator[Package | NotJudged]]
