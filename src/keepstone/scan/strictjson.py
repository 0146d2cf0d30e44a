"""JSON that has one meaning: what readers take differently is told apart from what is read.

RFC 8259 leaves open which of two equal names counts and what to do with numbers that no float
holds; Python's reader takes constants that JSON does not have. A document that leans on any of
these shows one thing to a checker and another to a loader.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_KEPT = 10


@dataclass(frozen=True, slots=True)
class Document:
    """What the text holds, and the names that one object gives twice (the first ten)."""

    value: Any
    repeated: tuple[str, ...]


def read_json(data: bytes) -> Document:
    """Read one JSON text in UTF-8. Raises ValueError, with the reason in words, where it is none.

    It is none where it nests deeper than Python follows (some 1,000 levels), too.
    """
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items) and len(repeated) < _KEPT:
            seen: set[str] = set()
            for name, _ in items:
                if name in seen and name not in repeated:
                    repeated.append(name)
                seen.add(name)
        return found

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
        # A half of a surrogate pair, which other readers refuse or replace.
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return Document(value, tuple(repeated))
