"""torch's files before 1.6: five pickles in a row, then the storages.

Promise: clean only where all five are, the storages that are named are those that follow, and
they end with the file. Weights are stepped over.

Source: torch.serialization `_legacy_save` and `_legacy_load`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.pickle.opcodes import Cause
from keepstone.scan.pickle.stream import Look, scan_pickle
from keepstone.scan.pickle.values import Box
from keepstone.scan.torch.objects import Objects
from keepstone.scan.view import View

# The magic number 0x1950a86a20f9469cfc6c, alone in the first pickle.
_MAGIC = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
_PICKLES = 5


def is_legacy(data: memoryview) -> bool:
    """True where torch's loader would take these bytes for one of its files."""
    return _MAGIC.match(bytes(data[:32])) is not None


def scan_pickle_file(view: View) -> Iterator[Finding]:
    """Judge a pickle, or a file of torch that begins as one."""
    yield from scan_legacy(view) if is_legacy(view.data) else scan_pickle(view)


def scan_legacy(view: View) -> Iterator[Finding]:
    """Judge a file of torch before 1.6."""
    objects = Objects()
    look = Look(view, objects.take)
    for _ in range(_PICKLES):
        start = look.end
        cause, found = look.one(start)
        yield from found
        if cause is Cause.BROKEN:
            yield from look.rest(start, first=True)
        if cause is not Cause.STOP:
            return
    keys = look.result.items if isinstance(look.result, Box) else None
    if keys is None or set(map(str, keys)) != set(objects.storages) or len(keys) != len(set(keys)):
        yield view.unseen("The storages that follow are not those that the pickle names.")
        return
    at = look.end
    for key in map(str, keys):
        count = int.from_bytes(view.data[at : at + 8], "little")
        at += 8 + count * objects.item_sizes[key]
        if at > len(view.data):
            yield view.unseen("The storages break off.")
            return
    if at < len(view.data):
        reason = f"{len(view.data) - at} bytes follow the last storage."
        yield view.finding("pickle.trailing", reason, at)
