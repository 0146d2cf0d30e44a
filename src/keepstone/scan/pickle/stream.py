"""Pickles, bare or in a container: clean only where all that loading would do is known.

Promise: a stream in which loading imports, calls or changes anything beyond the allow-list is
flagged, wherever it breaks off; one that is not understood to its end is not clean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.pickle.joblib import Arrays, read_plainly
from keepstone.scan.pickle.machine import Machine
from keepstone.scan.pickle.opcodes import Cause, charge, could_be_name, walk
from keepstone.scan.pickle.ruling import Persistent, Ruling
from keepstone.scan.pickle.values import UNKNOWN, Value
from keepstone.scan.rules import printable
from keepstone.scan.view import View

# Pickles as byte strings within pickles, which a first one may have loaded.
MAX_DEPTH = 8
# What follows the last pickle is looked through so far, and at so many places.
_BEHIND, _MARKS = 1 << 20, 100
_MARK = re.compile(rb"\x80[\x02-\x05]")
_REFUSED = frozenset(
    f"pickle.{name}" for name in ("import", "dangerous_import", "computed_import", "extension")
)


def scan_pickle(view: View) -> Iterator[Finding]:
    """Judge a view that is a pickle, or several in a row."""
    yield from Look(view).findings()


@dataclass(slots=True)
class Look:
    """One look at the pickles of `data`, which begins at `base` in the view.

    `persistent_as` and `script` are what the pickle's own loader brings along: its objects, and
    the modules whose classes are code of the archive. `result` is what the last pickle gave.
    """

    view: View
    persistent_as: Persistent | None = None
    script: Callable[[str], bool] | None = None
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    base: int = 0
    end: int = 0
    depth: int = 0
    result: Value = UNKNOWN

    def __post_init__(self) -> None:
        self.data = self.data or self.view.data

    def findings(self) -> Iterator[Finding]:
        """Every pickle, until one breaks off: what they do, and what is left behind them."""
        data, first = self.data, True
        if not data:
            yield self.view.finding("pickle.broken", "There is no pickle here.")
        while self.end < len(data) and self.view.allowance.opcodes > 0:
            start = self.end
            cause, found = self.one(start)
            yield from found
            if cause is Cause.LIMIT:
                return
            if cause is Cause.BROKEN:
                yield from self.rest(start, first)
                return
            first = False

    def one(self, start: int) -> tuple[Cause, list[Finding]]:
        """The pickle that begins at `start`; `end` is then where it ended."""
        allowance, data = self.view.allowance, self.data
        ruling = Ruling(self.view, self.base, self.persistent_as, self.script)
        arrays = Arrays(data, ruling, allowance.opcodes)
        machine = Machine(data, ruling, arrays.after_build)
        cause = machine.run(start, allowance.opcodes)
        charge(allowance, machine.opcodes + arrays.spent)
        self.end, self.result = machine.at, machine.result
        ruling.ended()
        found = ruling.findings
        if plain := read_plainly(data, start, ruling, arrays):
            reason = "The bytes of an array are opcodes that import to a plain loader."
            found += [self.view.finding("pickle.ambiguous", reason, arrays.first), *plain]
        for begin, end in machine.nested:
            found += self._nested(begin, end)
        for number, content in enumerate(ruling.inner):
            inner = data[content.start : content.end]
            found += self.view.inside(f"(bytes {number})", inner)
        return cause, found

    def whole(self) -> list[Finding]:
        """What a pickle refuses that these bytes are from their first to its last; else nothing.

        For bytes that are something else by their place, such as weights.
        """
        if not _MARK.match(bytes(self.data[:2])):
            return []
        cause, found = self.one(0)
        worth = any(item.rule in _REFUSED and "?" not in item.message for item in found)
        return found if worth and cause is Cause.STOP else []

    def _nested(self, begin: int, end: int) -> list[Finding]:
        """A byte string that is a pickle: nobody loads it here, but somebody wrote it."""
        if self.depth >= MAX_DEPTH or self.view.allowance.opcodes <= 0:
            reason = "Pickles lie in pickles, deeper than the scanner follows."
            return [self.view.finding("scan.not_evaluated", reason, self.base + begin)]
        inner = Look(
            self.view, data=self.data[begin:end], base=self.base + begin, depth=self.depth + 1
        )
        cause, found = inner.one(0)
        worth = [item for item in found if item.rule in _REFUSED and "?" not in item.message]
        worth += [item for item in found if item.rule == "scan.not_evaluated"]
        return found if worth and cause is Cause.STOP else worth

    def _behind(self, start: int) -> Iterator[Finding]:
        """Pickles further on, for a loader that knows where to look."""
        rest = bytes(self.data[start : start + _BEHIND])
        padded = len(rest) - len(rest.lstrip(b"\x00"))
        marks = [found.start() for found in _MARK.finditer(rest)][:_MARKS]
        for at in sorted({padded, *marks} - {0}):
            yield from self._nested(start + at, len(self.data))

    def rest(self, start: int, first: bool) -> Iterator[Finding]:
        """Bytes that no loader gets through: names in them are said all the same."""
        at, data = self.end, self.data
        if first:
            reason = f"The pickle breaks off at byte {self.base + at}."
            yield self.view.finding("pickle.broken", reason, self.base + at)
        else:
            reason = f"{len(data) - start} bytes follow the last whole pickle."
            yield self.view.finding("pickle.trailing", reason, self.base + start)
            yield from self._behind(start)
        for item in walk(data, start, min(10_000, max(0, self.view.allowance.opcodes))).imports:
            if item.offset >= at and item.module and item.name and could_be_name(item):
                shown = f"{printable(item.module)}.{printable(item.name)}"
                reason = f"Beyond the break, the file names {shown}."
                yield self.view.finding("pickle.import", reason, self.base + item.offset)
