"""Pickles, bare or in a container: every import is named; nothing is called clean yet.

Promise: a file whose loading imports anything is flagged with the names, wherever the pickle
breaks off. Telling harmless imports from harmful ones is not attempted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.pickle.opcodes import Cause, Import, walk_all
from keepstone.scan.rules import MAX_FINDINGS, printable
from keepstone.scan.view import View

# Pickles as byte strings within pickles, which a first one may have loaded.
MAX_DEPTH = 8
_EXTENSIONS = ("EXT1", "EXT2", "EXT4")


def scan_pickle(view: View) -> Iterator[Finding]:
    """Judge a view that is a pickle, or several in a row."""
    look = _Look(view)
    yield from look.pickles(view.data, 0, 0)
    if look.cause is Cause.LIMIT:
        reason = "The pickle has more opcodes than the limit allows."
        yield view.finding("scan.not_evaluated", reason, look.end)
    elif look.cause is Cause.BROKEN:
        yield view.finding("pickle.broken", f"The pickle breaks off at byte {look.end}.", look.end)
    if not look.named:
        reason = "The pickle imports nothing; the full pickle scanner is not here yet."
        yield view.finding("pickle.data_only", reason, 0)


@dataclass(slots=True)
class _Look:
    """One look at a stream: what was named so far, and how the stream ended."""

    view: View
    named: set[tuple[str | None, str | None]] = field(default_factory=set)
    cause: Cause = Cause.BROKEN
    end: int = 0

    def pickles(self, data: memoryview, base: int, depth: int) -> Iterator[Finding]:
        """Every import of the pickles in `data`, which begins at `base` in the stream."""
        for walked in walk_all(data, self.view.allowance):
            for item in walked.imports:
                key = (item.module, item.name)
                if key not in self.named and len(self.named) < MAX_FINDINGS:
                    self.named.add(key)
                    yield _import(item, self.view, base)
            # What follows the last whole pickle need not be one: legacy torch puts weights there.
            counts = walked.cause is not Cause.BROKEN or walked.opcodes or not self.end
            if walked.cause is Cause.LIMIT or (counts and not depth):
                self.cause, self.end = walked.cause, base + walked.end
            for start, end in walked.nested if depth < MAX_DEPTH else ():
                yield from self.pickles(data[start:end], base + start, depth + 1)


def _import(item: Import, view: View, base: int) -> Finding:
    offset = base + item.offset
    if item.opcode in _EXTENSIONS:
        reason = f"Loading calls what is registered under extension code {item.name}."
        return view.finding("pickle.extension", reason, offset)
    if item.module is None or item.name is None:
        known = " ".join(printable(part) for part in (item.module, item.name) if part is not None)
        reason = f"Loading imports a computed name{f' ({known})' if known else ''}."
        return view.finding("pickle.computed_import", reason, offset)
    reason = f"Loading imports {printable(item.module)}.{printable(item.name)}."
    return view.finding("pickle.import", reason, offset)
