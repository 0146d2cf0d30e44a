"""Pickles, bare or in a container: every import is named; nothing is called clean yet.

Promise: a file whose loading imports anything is flagged with the names, wherever the pickle
breaks off. Telling harmless imports from harmful ones is not attempted here.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.opcodes import Cause, Import, walk_all
from keepstone.scan.rules import MAX_FINDINGS, finding, printable
from keepstone.scan.view import FileView

_EXTENSIONS = ("EXT1", "EXT2", "EXT4")


def scan_pickle(view: FileView) -> Iterator[Finding]:
    """Judge a file that is a pickle, or several in a row."""
    yield from scan_stream(view.data, view.path)


def scan_stream(data: memoryview, path: str, member: str | None = None) -> Iterator[Finding]:
    """Judge the pickles in `data`, which lies in `path` or in its `member`."""
    named: set[tuple[str | None, str | None]] = set()
    cause, end = Cause.BROKEN, 0
    for walked in walk_all(data):
        for item in walked.imports:
            key = (item.module, item.name)
            if key not in named and len(named) < MAX_FINDINGS:
                named.add(key)
                yield _import(item, path, member)
        # What follows the last whole pickle need not be one: legacy torch puts weights there.
        if walked.cause is not Cause.BROKEN or walked.opcodes or not end:
            cause, end = walked.cause, walked.end
    if cause is Cause.LIMIT:
        yield finding(
            "scan.not_evaluated",
            "The pickle has more opcodes than the limit allows.",
            path,
            end,
            member,
        )
    elif cause is Cause.BROKEN:
        yield finding("pickle.broken", f"The pickle breaks off at byte {end}.", path, end, member)
    if not named:
        yield finding(
            "pickle.data_only",
            "The pickle imports nothing; the full pickle scanner is not here yet.",
            path,
            0,
            member,
        )


def _import(item: Import, path: str, member: str | None) -> Finding:
    if item.opcode in _EXTENSIONS:
        return finding(
            "pickle.extension",
            f"Loading calls what is registered under extension code {item.name}.",
            path,
            item.offset,
            member,
        )
    if item.module is None or item.name is None:
        known = " ".join(printable(part) for part in (item.module, item.name) if part is not None)
        return finding(
            "pickle.computed_import",
            f"Loading imports a computed name{f' ({known})' if known else ''}.",
            path,
            item.offset,
            member,
        )
    return finding(
        "pickle.import",
        f"Loading imports {printable(item.module)}.{printable(item.name)}.",
        path,
        item.offset,
        member,
    )
