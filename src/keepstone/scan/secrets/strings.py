"""Many short texts as one passage, so that a million of them cost what one long text costs.

Each keeps its place. What is given to a name is a pair; it counts only where its value holds no
token that says itself what it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.scan.secrets.assigned import pair_hit
from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.passage import Busy, Passage

# A terminal's colours, which would make one word of a token and what stands before it.
ESCAPES = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
# Whether a value, under the name it is given to, is left out.
Skip = Callable[[str, Any], bool]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a text lies: the part of the file, and an offset in it, as far as there are any."""

    member: str | None = None
    offset: int | None = None


@dataclass(slots=True)
class Strings:
    code: bool = True
    texts: list[str] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)
    pairs: list[tuple[Spot, Hit]] = field(default_factory=list)

    def add(self, text: str, spot: Spot) -> None:
        if len(text) >= 6:
            self.texts.append(text)
            self.spots.append(spot)

    def pair(self, name: str, value: str, spot: Spot) -> None:
        if (hit := pair_hit(name, value)) is not None:
            self.pairs.append((spot, hit))

    def walk(self, value: Any, spot: Spot, name: str = "", skip: Skip | None = None) -> None:
        """Every text of a value of JSON, however deep; one that has a name is a pair as well."""
        todo = [(name, value, False)]
        while todo:
            name, value, is_member = todo.pop()
            if is_member:
                self.add(name, spot)
            if skip is not None and skip(name, value):
                continue
            if isinstance(value, str):
                text = ESCAPES.sub("", value)
                self.add(text, spot)
                if name:
                    self.pair(name, text, spot)
            elif isinstance(value, Mapping):
                todo += [(str(key), item, True) for key, item in reversed([*value.items()])]
            elif isinstance(value, list) and _is_lines(value):
                self.add(ESCAPES.sub("", "".join(value)), spot)
            elif isinstance(value, list):
                todo += [("", item, False) for item in reversed(value)]

    def hits(self, busy: Busy | None = None) -> Iterator[tuple[Spot, Hit]]:
        """Every secret and the place of the text that it is in."""
        starts, at = [], 0
        for text in self.texts:
            starts.append(at)
            at += len(text) + 1
        taken: set[str] = set()
        for hit in Passage("\n".join(self.texts), "", self.code, busy).hits():
            index = bisect_right(starts, hit.start) - 1
            text = self.texts[index]
            taken.add(text)
            yield self.spots[index], hit
        yield from ((spot, hit) for spot, hit in self.pairs if hit.value not in taken)


def _is_lines(value: list[Any]) -> bool:
    """One text, line by line, as notebooks keep theirs."""
    return all(isinstance(x, str) for x in value) and any(x.endswith("\n") for x in value)
