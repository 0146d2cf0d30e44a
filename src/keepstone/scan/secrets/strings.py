"""Many short texts as one passage, so that a million of them cost what one long text costs.

Each keeps its place. What is given to a name is a pair; it counts only where its value holds no
token that says itself what it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.scan.secrets.assigned import pair_hit
from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.passage import Busy, Passage

# Deeper values are no file of anybody's.
_MAX_NESTING = 100


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

    def walk(self, value: Any, spot: Spot, name: str = "", depth: int = 0) -> None:
        """Every text of a value of JSON; one that has a name is a pair as well."""
        if isinstance(value, str):
            self.add(value, spot)
            if name:
                self.pair(name, value, spot)
        elif depth > _MAX_NESTING:
            return
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.add(str(key), spot)
                self.walk(item, spot, str(key), depth + 1)
        elif isinstance(value, list):
            for item in value:
                self.walk(item, spot, "", depth + 1)

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
