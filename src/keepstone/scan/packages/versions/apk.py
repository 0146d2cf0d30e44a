"""Versions of Alpine's packages. Source: apk-tools, apk-package(5), which defines

    number{.number}...{letter}{_suffix{number}}...{~hash}{-r#}

A suffix of `_alpha _beta _pre _rc` is before the plain version, one of `_cvs _svn _git _hg _p`
behind it. A number behind a dot is compared as text where either of the two begins with a zero,
as decimals are.
"""

from __future__ import annotations

import re
from functools import lru_cache

from keepstone.scan.packages.versions.order import UnorderableError

# The kinds of parts. Where two versions first differ in the kind, the later kind is the lower.
_FIRST, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER, _HASH, _REVISION, _END = range(8)
_BEFORE = ("alpha", "beta", "pre", "rc")
_BEHIND = ("cvs", "svn", "git", "hg", "p")
_RANK = {
    **{word: place - len(_BEFORE) for place, word in enumerate(_BEFORE)},
    **{word: place + 1 for place, word in enumerate(_BEHIND)},
}
_VERSION = re.compile(
    r"(?P<first>[0-9]+)(?P<numbers>(?:\.[0-9]+)*)(?P<letter>[a-z])?"
    r"(?P<suffixes>(?:_[a-z]+[0-9]*)*)(?:~(?P<hash>[0-9a-f]+))?(?:-r(?P<revision>[0-9]+))?"
)
_SUFFIXES = re.compile(r"_([a-z]+)([0-9]*)")
# apk keeps a number in 64 bits.
_MAX_DIGITS = 18
_Part = tuple[int, int, str]


def compare_apk(one: str, other: str) -> int:
    """The order that `apk version -t` gives. Raises UnorderableError."""
    for first, second in zip(_parsed(one), _parsed(other), strict=False):
        if first[0] != second[0]:
            return _by_kind(first, second)
        order = _same_kind(first, second)
        if order or first[0] == _END:
            return order
    raise AssertionError("every version ends in the part that says so")


def _by_kind(first: _Part, second: _Part) -> int:
    """One version goes on where the other does not: it is the higher, unless it is not out yet."""
    if first[0] == _SUFFIX and first[1] < 0:
        return -1
    if second[0] == _SUFFIX and second[1] < 0:
        return 1
    return -1 if first[0] > second[0] else 1


def _same_kind(first: _Part, second: _Part) -> int:
    as_text = first[0] == _NUMBER and "0" in (first[2][0], second[2][0])
    if as_text or first[0] == _HASH:
        return (first[2] > second[2]) - (first[2] < second[2])
    return (first[1] > second[1]) - (first[1] < second[1])


@lru_cache(4096)
def _parsed(text: str) -> tuple[_Part, ...]:
    """The parts: their kind, their value as a number, and as a text."""
    match = _VERSION.fullmatch(text) if len(text) <= 512 else None
    if match is None:
        raise UnorderableError(f"{text[:80]!r} is no version of an Alpine package.")
    parts = [_number(_FIRST, match["first"])]
    parts += [_number(_NUMBER, digits) for digits in match["numbers"].split(".")[1:]]
    if match["letter"]:
        parts.append((_LETTER, ord(match["letter"]), ""))
    for word, digits in _SUFFIXES.findall(match["suffixes"]):
        if word not in _RANK:
            raise UnorderableError(f"{text[:80]!r} has a suffix that apk does not know.")
        parts.append((_SUFFIX, _RANK[word], ""))
        if digits:
            parts.append(_number(_SUFFIX_NUMBER, digits))
    if match["hash"]:
        parts.append((_HASH, 0, match["hash"]))
    if match["revision"]:
        parts.append(_number(_REVISION, match["revision"]))
    return (*parts, (_END, 0, ""))


def _number(kind: int, digits: str) -> _Part:
    if len(digits) > _MAX_DIGITS:
        raise UnorderableError("A number in the version has more digits than apk holds.")
    return kind, int(digits), digits
