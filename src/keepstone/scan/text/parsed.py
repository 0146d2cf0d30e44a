"""JSON and the like, parsed under limits into values that remember what was said twice."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from typing import Any

# Deeper values are no configuration of anybody's.
MAX_NESTING = 200
# Parsed values take about ten times their text: a larger file is not parsed.
MAX_TOML = 4 << 20
_MAX_DOTS = 300
MAX_JSON = 192 << 20


@dataclass(slots=True)
class Parsed:
    """`value` as readers take it, `repeated` keys of one mapping, and why it is not all."""

    value: Any = None
    repeated: list[str] = field(default_factory=list)
    problem: str = ""
    deep: bool = False


def parse_json(text: str) -> Parsed | None:
    """The value of a JSON text, or None where it is no JSON.

    NaN and Infinity are taken as Python's reader and XGBoost's take them. A key that comes
    twice is noted: readers differ in which one they keep (RFC 8259 4).
    """
    found = Parsed()

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) != len(pairs) and len(found.repeated) < 100:
            names = [key for key, _ in pairs]
            found.repeated += sorted({key for key in names if names.count(key) > 1})[:10]
        return seen

    try:
        found.value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=members)
    except RecursionError:
        found.problem, found.deep = "The JSON is nested deeper than the limit.", True
    except MemoryError:
        found.problem = "The JSON needs more memory than there is."
    except json.JSONDecodeError:
        return None
    except ValueError:
        # Python refuses to read an integer of thousands of digits.
        found.problem = "The JSON holds a number that is larger than the limit."
    return found


def parse_toml(text: str) -> Parsed | None:
    """The value of a TOML text, or None where it is no TOML."""
    if len(text) > MAX_TOML or any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        # The standard reader's time grows with the square of a dotted key.
        return None
    try:
        return Parsed(tomllib.loads(text))
    except RecursionError:
        return Parsed(problem="The TOML is nested deeper than the limit.")
    except (tomllib.TOMLDecodeError, ValueError):
        return None


def parse_ini(text: str) -> Parsed | None:
    """The sections of an INI text as mappings, or None where it has none.

    Lenient, as the many readers of INI are: `=` and `:` divide, a line that is indented goes on.
    """
    found = Parsed({})
    section: dict[str, str] | None = None
    key = ""
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare[0] in "#;":
            continue
        if bare[0] == "[" and bare[-1] == "]":
            section = found.value.setdefault(bare[1:-1].strip(), {})
        elif section is None:
            return None
        elif line[0].isspace() and key in section:
            section[key] += "\n" + bare
        else:
            at = min((i for i in (bare.find("="), bare.find(":")) if i >= 0), default=-1)
            if at < 0:
                return None
            key = bare[:at].strip()
            if key in section:
                found.repeated.append(key)
            section[key] = bare[at + 1 :].strip()
    return found if found.value else None
