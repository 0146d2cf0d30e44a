"""Versions of Python packages: the version specifiers of PyPA (PEP 440), by PyPA's own library."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from keepstone.scan.packages.versions.order import UnorderableError

if TYPE_CHECKING:
    from packaging.version import Version

_LONGEST = 512


def compare_pep440(one: str, other: str) -> int:
    """The order of `packaging.version.Version`. Raises UnorderableError."""
    first, second = _parsed(one), _parsed(other)
    return (first > second) - (first < second)


@lru_cache(4096)
def _parsed(text: str) -> Version:
    try:
        from packaging.version import InvalidVersion, Version
    except ImportError:
        why = "Versions of Python packages need the extra `deps` (pip install 'keepstone[deps]')."
        raise UnorderableError(why) from None
    if len(text) > _LONGEST:
        raise UnorderableError("The version is longer than any.")
    try:
        return Version(text)
    except (InvalidVersion, ValueError):
        # ValueError: more digits than Python makes a number of.
        raise UnorderableError(f"{text[:80]!r} is no version by PEP 440.") from None
