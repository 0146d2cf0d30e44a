"""The layers of an image laid over one another: what a container would see (OCI layer.md).

Promise: nothing leads out. Links are followed inside of the image alone, as a runtime follows them
that has made the image its root; `..` at the root stays there. Whiteouts take away what lower
layers have, never what their own layer brings. All of it is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keepstone.errors import OperationalError
from keepstone.scan.archive.tarheaders import FOLDER, HARD, SYMBOLIC
from keepstone.scan.images.entry import OPAQUE, WHITEOUT, Entry, parts_of

# As Linux has it: path_resolution(7).
_MAX_LINKS = 40
_MAX_TARGET = 4096
_MAX_STEPS = 50_000_000
# Folders that no entry made, but the paths below them.
_MAX_MADE = 500_000


@dataclass(slots=True, eq=False)
class Folder:
    """What lies in a folder by name, and the entry that made it; None where none did."""

    entry: Entry | None = None
    children: dict[str, Folder | Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Misplaced:
    """An entry that has no place, or one that readers would not agree on."""

    rule: str
    reason: str
    entry: Entry


@dataclass(slots=True)
class Merged:
    """The merged view so far; layers are laid over it from the lowest on."""

    root: Folder = field(default_factory=Folder)
    steps: int = 0
    made: int = 0

    def lay(self, entries: Sequence[Entry]) -> Iterator[Misplaced]:
        """Lay one layer over what is there. Raises OperationalError `image.limit`."""
        for entry in entries:
            folder, name = _split(entry)
            if name == OPAQUE:
                if (covered := self._folder(folder)) is not None:
                    covered.children.clear()
            elif name.startswith(WHITEOUT):
                yield from self._whiteout(entry, folder, name)
        for entry in entries:
            if not _split(entry)[1].startswith(WHITEOUT):
                yield from self._place(entry)

    def files(self) -> Iterator[tuple[str, Entry]]:
        """Every path that is no folder, in order."""
        for path, found in self._walk():
            if isinstance(found, Entry):
                yield path, found

    def folders(self) -> Iterator[tuple[str, Entry]]:
        """Every folder that an entry made, in order."""
        for path, found in self._walk():
            if isinstance(found, Folder) and found.entry is not None:
                yield path, found.entry

    def find(self, path: str) -> Entry | None:
        """The file that a process inside would open under `path`; links are followed."""
        # The bound is for laying; a look alone ends by itself.
        self.steps = 0
        found = self._resolve(parts_of(path), follow=True)
        return found if isinstance(found, Entry) else None

    def leads(self, path: str) -> Folder | Entry | None:
        """What lies under `path`, links followed. Raises OperationalError `image.limit`."""
        return self._resolve(parts_of(path), follow=True)

    def _walk(self) -> Iterator[tuple[str, Folder | Entry]]:
        pending: list[tuple[str, Folder | Entry]] = [("", self.root)]
        while pending:
            path, found = pending.pop()
            yield path, found
            if isinstance(found, Folder):
                start = f"{path}/" if path else ""
                names = sorted(found.children, reverse=True)
                pending += [(start + name, found.children[name]) for name in names]

    def _whiteout(self, entry: Entry, folder: list[str], name: str) -> Iterator[Misplaced]:
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            reason = "The whiteout would take away the folder it lies in, or one above."
            yield Misplaced("image.unsafe_path", reason, entry)
        elif (inside := self._folder(folder)) is not None:
            # Other names that begin so are notes that AUFS kept for itself.
            inside.children.pop(hidden, None)

    def _place(self, entry: Entry) -> Iterator[Misplaced]:
        parts = parts_of(entry.path)
        if not parts:
            # The root itself.
            self.root.entry = entry
            return
        inside = self._folder(parts[:-1], make=True)
        if inside is None:
            reason = "It lies under what is no folder, or under links that lead nowhere."
            yield Misplaced("image.ambiguous", reason, entry)
            return
        name, before = parts[-1], inside.children.get(parts[-1])
        if entry.kind == FOLDER:
            if isinstance(before, Folder):
                before.entry = entry
            else:
                inside.children[name] = Folder(entry)
        elif entry.kind == HARD:
            target = self._resolve(parts_of(entry.link), follow=False)
            if not isinstance(target, Entry) or ".." in parts_of(entry.link):
                reason = "It is one file with something that is not in the image."
                yield Misplaced("image.link", reason, entry)
                return
            # Runtimes give the file the rights that its newest name says.
            target.mode |= entry.mode
            target.capability |= entry.capability
            inside.children[name] = target
        else:
            if entry.kind == SYMBOLIC and _climbs_out(parts[:-1], entry.link):
                reason = (
                    "The link climbs out of the image: unpacked elsewhere it leads to the host."
                )
                yield Misplaced("image.link", reason, entry)
            inside.children[name] = entry

    def _folder(self, parts: list[str], make: bool = False) -> Folder | None:
        found = self._resolve(parts, follow=True, make=make)
        return found if isinstance(found, Folder) else None

    def _resolve(
        self, parts: list[str], *, follow: bool, make: bool = False
    ) -> Folder | Entry | None:
        """What lies at `parts`. With `follow` a link at the end is followed too."""
        above, pending, links = [self.root], list(reversed(parts)), 0
        while pending:
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise OperationalError("image.limit", "The image has more links than the limit.")
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(above) > 1:
                    above.pop()
                continue
            found = above[-1].children.get(name)
            if found is None:
                if not make:
                    return None
                found = above[-1].children[name] = Folder()
                self.made += 1
                if self.made > _MAX_MADE:
                    raise OperationalError("image.limit", "The folders are more than the limit.")
            if isinstance(found, Folder):
                above.append(found)
            elif found.kind == SYMBOLIC and (follow or pending):
                links += 1
                if links > _MAX_LINKS or len(found.link) > _MAX_TARGET:
                    return None
                if found.link.startswith("/"):
                    above = [self.root]
                pending += reversed(found.link.split("/"))
            else:
                return None if pending else found
        return above[-1]


def _split(entry: Entry) -> tuple[list[str], str]:
    parts = parts_of(entry.path)
    return (parts[:-1], parts[-1]) if parts else ([], "")


def _climbs_out(folder: list[str], link: str) -> bool:
    if link.startswith("/"):
        return False
    depth = len(folder)
    for part in parts_of(link):
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
