"""Databases of packages in stanzas: lines of fields, an empty line between two packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

# The key and the value of a line, None for one that is not wanted.
Field = Callable[[str], tuple[str, str] | None]


def stanzas(lines: Iterator[str], field: Field) -> Iterator[tuple[dict[str, str], bool]]:
    """The wanted fields of each stanza, and whether one of them comes twice."""
    fields: dict[str, str] = {}
    repeated, begun = False, False
    for line in chain(lines, ("",)):
        if not line.strip():
            if begun:
                yield fields, repeated
            fields, repeated, begun = {}, False, False
            continue
        begun = True
        wanted = field(line)
        if wanted is not None:
            key, value = wanted
            repeated = repeated or key in fields
            fields[key] = value.strip()
