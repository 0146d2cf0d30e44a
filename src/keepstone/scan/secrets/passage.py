"""A text, and every secret in it: as it stands, where texts are joined, and one base64 deep.

Promise: each look is linear in the text's length (`Passage.read` counts the characters that it may
read), and one value is one hit: that of the strictest rule which saw it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from keepstone.errors import InputError
from keepstone.scan.secrets.assigned import assigned_hits
from keepstone.scan.secrets.checks import decode64
from keepstone.scan.secrets.forms import form_hits
from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.keys import key_hits
from keepstone.scan.secrets.shapes import token_hits
from keepstone.scan.text.words import words

# Between two quotes that one text goes on over: Python's, C's, JavaScript's and Java's ways.
_JOINT = re.compile(
    r"([\"'])[ \t]{0,20}(?:[+.&\\][ \t]{0,20})?(?:\r?\n[ \t]{0,80})?"
    r"(?:[+.&][ \t]{0,20})?[bBrRuUfF]?\1"
)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{24,16384}={0,2}(?![A-Za-z0-9+/_=-])")
_BASE64_HEAD = 32
_CODE = tuple(
    words(
        """
    .py .pyi .pyx .js .jsx .mjs .ts .tsx .vue .go .java .kt .scala .c .h .cc .cpp .hpp .cu .cs .rs
    .rb .php .swift .r .jl .lua .m .dart .ex .erl .hs .md .rst .html .css
    """
    )
)
_ALLOW = re.compile(r"keepstone: ?allow-secret[ \t]+([^\r\n]*?\w[^\r\n]*)")
_MOST_HITS = 10_000
# So many characters are read between two looks at the clock.
_ASK = 1 << 20
Busy = Callable[[], bool]


@dataclass(slots=True)
class Passage:
    """`text` of the file called `name`. `code` where values stand between quotes alone.

    `busy` is asked now and then whether it has taken too long.
    """

    text: str
    name: str = ""
    code: bool | None = None
    busy: Busy | None = None
    read: int = 0
    _ask_at: int = 0
    _lines: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.name.lower()
        if self.code is None:
            self.code = self.name.endswith(_CODE)

    def hits(self) -> list[Hit]:
        """Every secret, in order. Raises InputError `scan.unreadable` where it takes too long."""
        found = [*self._plain(self.text, bool(self.code)), *self._joined(), *self._decoded()]
        return strictest(found)

    def _count(self, characters: int) -> None:
        self.read += characters
        if self.busy is not None and self.read >= self._ask_at:
            self._ask_at = self.read + _ASK
            if self.busy():
                why = "The file takes longer than the limit allows."
                raise InputError("scan.unreadable", why)

    def _plain(self, text: str, code: bool) -> Iterator[Hit]:
        yield from token_hits(text, self._count)
        yield from key_hits(text, self._count)
        yield from form_hits(text, self.name, self._count)
        yield from assigned_hits(text, code, self._count)

    def _joined(self) -> Iterator[Hit]:
        """What is written as several texts: seen only where they are put together."""
        ends, starts, pieces, at = [0], [0], [], 0
        for joint in _JOINT.finditer(self.text):
            pieces.append(self.text[at : joint.start()])
            at = joint.end()
            ends.append(ends[-1] + len(pieces[-1]))
            starts.append(at)
        if not pieces:
            return
        text = "".join([*pieces, self.text[at:]])
        for hit in self._plain(text, bool(self.code)):
            first, last = (bisect_right(ends, place) - 1 for place in (hit.start, hit.end - 1))
            if first != last:
                start = starts[first] + hit.start - ends[first]
                end = starts[last] + hit.end - ends[last]
                yield replace(hit, start=start, end=end)

    def _decoded(self) -> Iterator[Hit]:
        """What is base64 of a text, looked at as that text."""
        for found in _BASE64.finditer(self.text):
            self._count(len(found[0]))
            head = decode64(found[0][:_BASE64_HEAD])
            if head is None or not _is_text(head):
                continue
            raw = decode64(found[0])
            if raw is None or not _is_text(raw):
                continue
            inner = raw.decode("ascii")
            for hit in self._plain(inner, code=False):
                yield replace(hit, start=found.start(), end=found.end(), note="It is in base64.")

    def allowed(self, hit: Hit) -> str | None:
        """The reason of a comment, on the line where the secret begins or ends, that allows it."""
        if "allow-secret" not in self.text:
            return None
        for place in (hit.start, hit.end):
            start = self.text.rfind("\n", max(0, place - 4096), place) + 1
            end = self.text.find("\n", place, place + 4096)
            line = self.text[max(start, place - 4096) : end if end >= 0 else place + 4096]
            if (found := _ALLOW.search(line)) is not None:
                return found[1].strip()[:200]
        return None

    def place(self, at: int) -> tuple[int, int]:
        """Line and column, from one."""
        if not self._lines:
            self._lines.append(0)
            self._lines += (found.end() for found in re.finditer("\n", self.text))
        line = bisect_right(self._lines, at)
        return line, at - self._lines[line - 1] + 1


def _is_text(raw: bytes) -> bool:
    return raw.isascii() and not raw.translate(None, bytes(range(32, 127)) + b"\t\r\n")


_RANK = {
    "secret.private_key": 0,
    "secret.encrypted_key": 0,
    "secret.token": 1,
    "secret.credential": 2,
    "secret.assigned": 3,
}


def strictest(found: list[Hit]) -> list[Hit]:
    """One hit for each place: of those that overlap, the one of the strictest rule."""
    kept: list[Hit] = []
    taken: list[tuple[int, int]] = []
    for hit in sorted(found, key=lambda hit: (_RANK[hit.rule], hit.start, -hit.end)):
        spot = bisect_right(taken, (hit.start, 1 << 62))
        before = taken[spot - 1][1] if spot else -1
        behind = taken[spot][0] if spot < len(taken) else 1 << 62
        if hit.start >= before and hit.end <= behind and len(kept) < _MOST_HITS:
            taken.insert(spot, (hit.start, hit.end))
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit.start)
