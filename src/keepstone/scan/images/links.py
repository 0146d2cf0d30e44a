"""Lists of packages that a container finds through links: one to the list, or to a folder above it.

Promise: a list that a process would open under a name by which it is known is named, whatever
links lie on the way to it; what leads nowhere under such a name is said. Bounded, also where links
lead to themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.errors import OperationalError
from keepstone.scan.archive.tarheaders import SYMBOLIC
from keepstone.scan.images.entry import MAX_NAME, Entry
from keepstone.scan.images.merge import Folder, Merged
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.readers import Reader, reader_of
from keepstone.scan.rules import printable

# No name of a list has more parts below its first: var/lib/pacman/local/NAME/desc. A link further
# up leads to a folder in which the list has its name already.
_BELOW = 5
_MAX_LOOKED = 1_000_000


@dataclass(slots=True)
class LinkedLists:
    """What is found through links beside what lies where it is named. `left_out` is filled too."""

    merged: Merged
    left_out: list[NotJudged] = field(default_factory=list)
    _known: set[tuple[int, Reader]] = field(default_factory=set)
    _looked: int = 0

    def paths(self) -> list[str]:
        """Every such list once for each manager: files that it reads by another name are left."""
        self.merged.steps = 0
        links = []
        for path, entry in self.merged.files():
            reader = reader_of(path, locks=False)
            if entry.kind == SYMBOLIC:
                links.append(path)
            elif reader is not None:
                self._known.add((id(entry), reader))
        found: list[str] = []
        try:
            for path in links:
                found.extend(self._behind(path, _BELOW))
        except OperationalError as error:
            self._leave(
                "", f"Lists of packages were not looked for behind all links: {error.cause}"
            )
        return found

    def _behind(self, path: str, below: int) -> Iterator[str]:
        """The lists under a link, of which `path` is the name that a process uses."""
        found = self.merged.leads(path)
        if isinstance(found, Folder):
            yield from self._inside(path, found, below)
        elif found is not None and found.is_file:
            yield from self._list(path, found)
        elif reader_of(path, locks=False) is not None:
            self._leave(path, "The link leads to no file in the image.")

    def _inside(self, path: str, folder: Folder, below: int) -> Iterator[str]:
        """The lists in a folder, of which `path` is a name that leads through a link."""
        for name in sorted(folder.children) if below else ():
            self._looked += 1
            if self._looked > _MAX_LOOKED:
                raise OperationalError("image.limit", "They lead to more files than the limit.")
            child, inside = folder.children[name], f"{path}/{name}"
            if isinstance(child, Folder):
                yield from self._inside(inside, child, below - 1)
            elif child.kind == SYMBOLIC:
                yield from self._behind(inside, below - 1)
            elif child.is_file:
                yield from self._list(inside, child)

    def _list(self, path: str, entry: Entry) -> Iterator[str]:
        reader = reader_of(path, locks=False)
        if reader is not None and (id(entry), reader) not in self._known:
            self._known.add((id(entry), reader))
            yield path

    def _leave(self, path: str, reason: str) -> None:
        self.left_out.append(NotJudged(printable(path, MAX_NAME), reason))
