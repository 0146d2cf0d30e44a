"""Versions of Debian's packages. Source: deb-version(7), Debian Policy 5.6.12.

`[epoch:]upstream[-revision]`: the epochs as numbers, then upstream and revision each as runs of
other characters and of digits in turn. In a run of others `~` is before the end, the end before
letters, and letters before everything else.
"""

from __future__ import annotations

import re
from functools import lru_cache

from keepstone.scan.packages.versions.order import UnorderableError

# dpkg reads it as C does: a sign may stand before it.
_EPOCH = re.compile(r"[+]?[0-9]+")
_UPSTREAM = re.compile(r"[A-Za-z0-9.+~:-]+")
_REVISION = re.compile(r"[A-Za-z0-9.+~]+")
_RUNS = re.compile(r"([^0-9]*)([0-9]*)")
# dpkg keeps the epoch in an int.
_MAX_EPOCH = 2**31 - 1
_Part = tuple[tuple[tuple[int, ...], int], ...]


def compare_dpkg(one: str, other: str) -> int:
    """The order that `dpkg --compare-versions` gives. Raises UnorderableError."""
    first, second = _parsed(one), _parsed(other)
    return (first > second) - (first < second)


@lru_cache(4096)
def _parsed(text: str) -> tuple[int, _Part, _Part]:
    """A key whose order is the order of versions."""
    epoch, upstream, revision = "0", text.strip(), "0"
    if ":" in upstream:
        epoch, _, upstream = upstream.partition(":")
    if "-" in upstream:
        upstream, _, revision = upstream.rpartition("-")
    if not (_EPOCH.fullmatch(epoch) and _UPSTREAM.fullmatch(upstream)):
        raise UnorderableError(f"{text!r} is no version of a Debian package.")
    if not _REVISION.fullmatch(revision) or len(text) > 512 or int(epoch) > _MAX_EPOCH:
        raise UnorderableError(f"{text!r} is no version of a Debian package.")
    return int(epoch), _part(upstream), _part(revision)


def _part(text: str) -> _Part:
    """Runs of characters and of digits in turn, closed by an empty one.

    Each run of characters ends in 0, which stands for its end: behind `~`, before all else.
    """
    return tuple(
        ((*map(_weight, others), 0), int(digits or "0")) for others, digits in _RUNS.findall(text)
    )


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
