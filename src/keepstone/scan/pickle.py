"""Pickles, bare or in a container: every import is named; nothing is called clean yet.

Promise: a file whose loading imports anything is flagged with the names, wherever the pickle
breaks off. Telling harmless imports from harmful ones is not attempted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.opcodes import Budget, Cause, Import, walk_all
from keepstone.scan.rules import MAX_FINDINGS, finding, printable
from keepstone.scan.view import FileView

# Pickles as byte strings within pickles, which a first one may have loaded.
MAX_DEPTH = 8
_EXTENSIONS = ("EXT1", "EXT2", "EXT4")


def scan_pickle(view: FileView) -> Iterator[Finding]:
    """Judge a file that is a pickle, or several in a row."""
    yield from scan_stream(view.data, view.path, None, Budget())


def scan_stream(
    data: memoryview, path: str, member: str | None, budget: Budget
) -> Iterator[Finding]:
    """Judge the pickles in `data`, which lies in `path` or in its `member`."""
    look = _Look(path, member, budget)
    yield from look.pickles(data, 0, 0)
    if look.cause is Cause.LIMIT:
        reason = "The pickle has more opcodes than the limit allows."
        yield finding("scan.not_evaluated", reason, path, look.end, member)
    elif look.cause is Cause.BROKEN:
        reason = f"The pickle breaks off at byte {look.end}."
        yield finding("pickle.broken", reason, path, look.end, member)
    if not look.named:
        yield finding(
            "pickle.data_only",
            "The pickle imports nothing; the full pickle scanner is not here yet.",
            path,
            0,
            member,
        )


@dataclass(slots=True)
class _Look:
    """One look at a stream: what was named so far, and how the stream ended."""

    path: str
    member: str | None
    budget: Budget
    named: set[tuple[str | None, str | None]] = field(default_factory=set)
    cause: Cause = Cause.BROKEN
    end: int = 0

    def pickles(self, data: memoryview, base: int, depth: int) -> Iterator[Finding]:
        """Every import of the pickles in `data`, which begins at `base` in the stream."""
        for walked in walk_all(data, self.budget):
            for item in walked.imports:
                key = (item.module, item.name)
                if key not in self.named and len(self.named) < MAX_FINDINGS:
                    self.named.add(key)
                    yield _import(item, self.path, self.member, base)
            # What follows the last whole pickle need not be one: legacy torch puts weights there.
            counts = walked.cause is not Cause.BROKEN or walked.opcodes or not self.end
            if walked.cause is Cause.LIMIT or (counts and not depth):
                self.cause, self.end = walked.cause, base + walked.end
            for start, end in walked.nested if depth < MAX_DEPTH else ():
                yield from self.pickles(data[start:end], base + start, depth + 1)


def _import(item: Import, path: str, member: str | None, base: int) -> Finding:
    offset = base + item.offset
    if item.opcode in _EXTENSIONS:
        return finding(
            "pickle.extension",
            f"Loading calls what is registered under extension code {item.name}.",
            path,
            offset,
            member,
        )
    if item.module is None or item.name is None:
        known = " ".join(printable(part) for part in (item.module, item.name) if part is not None)
        return finding(
            "pickle.computed_import",
            f"Loading imports a computed name{f' ({known})' if known else ''}.",
            path,
            offset,
            member,
        )
    return finding(
        "pickle.import",
        f"Loading imports {printable(item.module)}.{printable(item.name)}.",
        path,
        offset,
        member,
    )
