"""Every package that a file tree names, and whatever could not be read: never silently less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers import CHECKS, BrokenListError, Reader, Source, reader_of
from keepstone.scan.packages.tree import FileTree
from keepstone.scan.rules import printable

# No list of packages is larger: dpkg's of a whole desktop has 10 MiB.
MAX_FILE = 64 << 20
MAX_PACKAGES = 500_000


@dataclass(frozen=True, slots=True)
class Inventory:
    """`packages` in order, each once per file that names it; `read` are the files they are from.

    `open` is what a file was expected to say and did not: a broken one, a version that is not
    fixed, a manager whose list is not read.
    """

    packages: tuple[Package, ...] = ()
    read: tuple[str, ...] = ()
    open: tuple[NotJudged, ...] = ()

    def __add__(self, other: Inventory) -> Inventory:
        return Inventory(
            tuple(sorted({*self.packages, *other.packages})),
            tuple(sorted({*self.read, *other.read})),
            tuple(sorted({*self.open, *other.open})),
        )

    def under(self, prefix: str) -> Inventory:
        """The same with `prefix` before every path."""
        before = "" if prefix in ("", ".") else f"{prefix.rstrip('/')}/"
        return Inventory(
            tuple(replace(one, path=before + one.path) for one in self.packages),
            tuple(before + path for path in self.read),
            tuple(replace(one, path=before + one.path) for one in self.open),
        )


def inventory(tree: FileTree, *, locks: bool = True) -> Inventory:
    """Every package that the files of `tree` name. Never raises for any content of a file.

    With `locks` false only what is installed counts (the lists of dpkg, apk, pip, conda and npm):
    for an image or an environment, where a lock file that lies about says nothing.
    """
    packages: set[Package] = set()
    told = 0
    read: list[str] = []
    left: set[NotJudged] = set()
    for path in tree.paths():
        reader = reader_of(path, locks=locks)
        if reader is None:
            continue
        shown = printable(path, 4096)
        try:
            data = tree.read(path, MAX_FILE)
        except InputError as error:
            left.add(NotJudged(shown, error.cause))
            continue
        if reader not in CHECKS:
            read.append(shown)
        for item in _read(reader, Source(path, data, tree)):
            told += 1
            if told > MAX_PACKAGES:
                left.add(NotJudged(shown, f"The tree names more than {MAX_PACKAGES} packages."))
                break
            if isinstance(item, Package):
                packages.add(item)
            else:
                left.add(item)
    return Inventory(tuple(sorted(packages)), tuple(sorted(read)), tuple(sorted(left)))


def _read(reader: Reader, source: Source) -> Iterator[Package | NotJudged]:
    try:
        yield from reader(source)
    except BrokenListError as error:
        yield source.open(str(error))
    except Exception as error:  # noqa: BLE001  # an edge: the file is an attacker's
        # A reader that fails on a file has not read it, and must not end the whole scan.
        yield source.open(f"The reader failed: {type(error).__name__}.")
