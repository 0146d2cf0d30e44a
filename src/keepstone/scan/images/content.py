"""A look at one file of a layer, whatever its size: its digest, its secrets, and if it is a model.

Promise: no more of it is in memory than is judged at once. A file that is a model and larger than
may be held is not evaluated; secrets are looked for in all of any file, window by window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.archive.compressed import is_bomb
from keepstone.scan.archive.tar import unfold
from keepstone.scan.archive.tarheaders import SPARSE, TarMember
from keepstone.scan.images.entry import MAX_NAME, Entry
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.models import is_archive, judge_model, may_be_model
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.rules import finding, printable
from keepstone.scan.secrets.look import find_secrets

# Up to this size a file is read before it is judged.
_WHOLE = 32 << 20
# Larger ones pass by in windows; a secret over the edge of one lies whole in the next.
_WINDOW, _OVERLAP = 4 << 20, 1 << 16
# Why a file was not looked through, in so many ways.
_REASONS = 50
# A distribution's manuals explain passwords with passwords. There, only what is a secret by its
# own structure counts.
_MANUALS = ("usr/share/doc/", "usr/share/man/", "usr/share/info/")
_CERTAIN = ("secret.private_key", "secret.encrypted_key", "secret.token")


@dataclass(slots=True)
class ContentLook:
    """Looks at the files of an image's layers, and keeps those that `wanted` names.

    `kept` has contents by layer and place in it, up to the limit. `unread` are the files in which
    secrets could not be looked for everywhere, by the reason.
    """

    limits: Limits
    wanted: Callable[[str], bool]
    allowed: tuple[Added, ...] = ()
    kept: dict[tuple[int, int], bytes] = field(default_factory=dict)
    unread: dict[str, list[Entry]] = field(default_factory=dict)

    def look(
        self, entry: Entry, member: TarMember, pieces: Iterator[memoryview]
    ) -> Iterator[Finding]:
        """What is wrong with one file; its content is read to its end. Sets its digest."""
        state = hashlib.sha256()
        hashed = _hashed(pieces, state)
        if entry.size <= _WHOLE:
            yield from self._whole(entry, member, b"".join(hashed))
        else:
            yield from self._large(entry, hashed)
        entry.sha256 = state.digest()

    def _whole(self, entry: Entry, member: TarMember, data: bytes) -> Iterator[Finding]:
        if entry.sparse:
            whole = unfold(member, memoryview(data))
            path = printable(entry.path, MAX_NAME)
            if whole is None or is_bomb(len(whole), len(data) + 1):
                claimed = _claimed(member)
                if is_bomb(claimed, len(data) + 1):
                    reason = f"The file claims {claimed} bytes, and the layer holds {len(data)}."
                    yield finding("image.bomb", reason, path)
                else:
                    yield finding("image.not_evaluated", "The sparse file is not unfolded.", path)
            else:
                data = whole
        if self.wanted(entry.path) and len(data) <= self.limits.kept:
            self.limits.kept -= len(data)
            self.kept[entry.layer, entry.start] = data
        yield from self._judge(entry, data)
        yield from self._secrets(entry, data)

    def _large(self, entry: Entry, pieces: Iterator[memoryview]) -> Iterator[Finding]:
        """What may be a model is held, up to the limit; anything else passes by."""
        window, said, decided = bytearray(), set[tuple[str, str]](), False
        held: bytearray | None = bytearray()
        for piece in pieces:
            if held is None:
                window += piece
            else:
                held += piece
                if not decided and len(held) >= _WINDOW:
                    decided = True
                    if not may_be_model(entry.path, memoryview(bytes(held))):
                        window, held = held, None
                elif len(held) > self.limits.held:
                    window, held = held, None
                    reason = f"It looks like a model and is over {self.limits.held} bytes."
                    yield finding("image.not_evaluated", reason, printable(entry.path, MAX_NAME))
            if len(window) >= _WINDOW:
                yield from self._new(entry, bytes(window), said)
                del window[:-_OVERLAP]
        if held is None:
            yield from self._new(entry, bytes(window), said)
            return
        data = bytes(held)
        yield from self._judge(entry, data)
        # What lies in an archive is seen through its directory alone.
        step = len(data) if is_archive(memoryview(data)) else _WINDOW
        for at in range(0, len(data), step):
            yield from self._new(entry, data[max(0, at - _OVERLAP) : at + step], said)

    def _new(self, entry: Entry, data: bytes, said: set[tuple[str, str]]) -> Iterator[Finding]:
        for item in self._secrets(entry, data):
            if (item.rule, item.message) not in said:
                said.add((item.rule, item.message))
                yield item

    def _judge(self, entry: Entry, data: bytes) -> Iterator[Finding]:
        view = memoryview(data)
        if may_be_model(entry.path, view):
            path = printable(entry.path, MAX_NAME)
            yield from judge_model(path, entry.path, view, self.allowed)

    def _secrets(self, entry: Entry, data: bytes) -> Iterator[Finding]:
        manual = entry.path.startswith(_MANUALS)
        for item in find_secrets(data, printable(entry.path, MAX_NAME)):
            if item.counts:
                if not manual or item.finding.rule in _CERTAIN:
                    yield item.finding
            elif not item.is_secret:
                reason = item.finding.message
                if len(self.unread) >= _REASONS and reason not in self.unread:
                    reason = "There are other reasons."
                self.unread.setdefault(reason, []).append(entry)


def _hashed(pieces: Iterator[memoryview], state: hashlib._Hash) -> Iterator[memoryview]:
    for piece in pieces:
        state.update(piece)
        yield piece


def _claimed(member: TarMember) -> int:
    """How many bytes a sparse member says that it unfolds to."""
    if member.kind == SPARSE:
        return member.unfolded
    size = member.pax.get("GNU.sparse.realsize", member.pax.get("GNU.sparse.size", ""))
    return int(size) if size.isascii() and size.isdecimal() and len(size) < 19 else 0
