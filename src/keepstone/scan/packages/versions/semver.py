"""Semantic versions (npm, and OSV's SEMVER ranges). Source: SemVer 2.0.0, clauses 2, 9, 10, 11."""

from __future__ import annotations

import re
from functools import lru_cache

from keepstone.scan.packages.versions.order import UnorderableError

_NUMBER = r"(0|[1-9][0-9]{0,30})"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_Key = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...]]


def compare_semver(one: str, other: str) -> int:
    """Precedence by clause 11; build metadata does not count. Raises UnorderableError."""
    first, second = _parsed(one), _parsed(other)
    return (first > second) - (first < second)


@lru_cache(4096)
def _parsed(text: str) -> _Key:
    match = _VERSION.fullmatch(text) if len(text) <= 512 else None
    if match is None:
        raise UnorderableError(f"{text[:80]!r} is no semantic version.")
    before = match[4].split(".") if match[4] else []
    if any(part.isdigit() and part != "0" and part.startswith("0") for part in before):
        raise UnorderableError(f"{text[:80]!r} is no semantic version.")
    # 11.4: numbers before words, numbers as numbers, words in ASCII order, fewer before more.
    keys = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in before)
    # 11.3: what comes before a release is lower than the release.
    return (int(match[1]), int(match[2]), int(match[3])), 0 if before else 1, keys
