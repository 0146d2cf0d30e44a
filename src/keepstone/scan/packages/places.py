"""Where packages are looked for on this machine: folders, single lists, environments of Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.packages.disk import DiskTree
from keepstone.scan.packages.inventory import Inventory, inventory
from keepstone.scan.packages.readers import reader_of

_PLACES = frozenset(("site-packages", "dist-packages"))


class _OneFile:
    """A tree that shows one file; what it refers to beside it can be read."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder, self.name = DiskTree(root), name

    def paths(self) -> Iterator[str]:
        yield self.name

    def read(self, path: str, limit: int) -> bytes:
        return self.folder.read(path, limit)


def look(path: Path, *, locks: bool = True) -> Inventory:
    """What a folder, or one list of packages, names; the paths in it begin with `path`.

    Raises InputError `scan.missing`, and `deps.unknown_list` for a file of another name than
    lists of packages have.
    """
    if not path.is_file():
        tree = DiskTree(path)
        found = inventory(tree, locks=locks)
        return (found + Inventory(open=tuple(tree.left_out))).under(str(path))
    absolute = path.absolute()
    # Some lists are known by the folders they lie in, and their tree says which system it is.
    for root in absolute.parents:
        name = absolute.relative_to(root).as_posix()
        if reader_of(name) is not None:
            shown = str(path)[: -len(name)] or "."
            return inventory(_OneFile(root, name)).under(shown)
    raise InputError(
        "deps.unknown_list",
        f"{path} has no name by which a list of packages is known.",
        "Give the folder that it lies in; docs/explain/dependencies.md says which lists are read.",
    )


def look_at_running() -> Inventory:
    """What is installed for the Python that runs this."""
    places = [Path(place) for place in dict.fromkeys(sys.path) if Path(place).name in _PLACES]
    found = Inventory()
    for place in places:
        if place.is_dir():
            found += look(place, locks=False)
    return found
