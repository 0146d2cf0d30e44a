"""How grave an advisory is: by its CVSS vectors, else by the database's own word, else unknown.

Where several vectors, or several records, speak of one weakness the gravest counts. The words of a
score are those of its version: CVSS v3.1 section 5, CVSS v4.0 section 6, and NVD's for v2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from keepstone.core.finding import Severity
from keepstone.scan.packages.osv.record import Affected, Record, Scale
from keepstone.scan.packages.vulnerability import Rating
from keepstone.scan.rules import printable

ORDER = tuple(Severity)
_CVSS_WORDS = {
    "none": Severity.INFO,
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
}
# GitHub, Debian's security tracker, Ubuntu and others, in lower case.
_WORDS = {
    **_CVSS_WORDS,
    "moderate": Severity.MEDIUM,
    "important": Severity.HIGH,
    "negligible": Severity.LOW,
    "unimportant": Severity.LOW,
}
# Where databases keep their word.
_PLACES = ("severity", "urgency", "cvss_severity")
_LONGEST = 1024


def rating_of(records: Iterable[tuple[Record, tuple[Affected, ...]]]) -> Rating:
    """The gravest of what the records, and their entries about the package, say."""
    return max((_rating(*item) for item in records), key=_gravity, default=Rating())


def _rating(record: Record, entries: tuple[Affected, ...]) -> Rating:
    vectors: list[Rating] = []
    words = list(_said(record, entries))
    for scale in (*(record.severity or ()), *(one for e in entries for one in e.severity or ())):
        rating = _vector(scale)
        if rating is not None:
            vectors.append(rating)
        else:
            words += _word(scale.score, scale.type)
    return max(vectors or words, key=_gravity, default=Rating())


def _gravity(rating: Rating) -> tuple[int, float]:
    rank = -1 if rating.severity is None else ORDER.index(rating.severity)
    return rank, rating.score or 0.0


def _vector(scale: Scale) -> Rating | None:
    """The rating of a CVSS vector; None for what is none, or where nothing can read it."""
    text = scale.score
    if not scale.type.startswith("CVSS") or len(text) > _LONGEST:
        return None
    try:
        from cvss import CVSS2, CVSS3, CVSS4
        from cvss.exceptions import CVSSError
    except ImportError:  # the extra `deps` is not installed: unknown, and so never below a limit
        return None
    try:
        if text.startswith("CVSS:4.0/"):
            four = CVSS4(text)
            score, word = float(four.base_score), str(four.severity)
        else:
            old = CVSS3(text) if text.startswith("CVSS:3") else CVSS2(text)
            score, word = float(old.scores()[0]), str(old.severities()[0])
    except (CVSSError, ArithmeticError, ValueError, KeyError, IndexError):
        return None
    severity = _CVSS_WORDS.get(word.lower())
    return None if severity is None else Rating(severity, score, text)


def _said(record: Record, entries: tuple[Affected, ...]) -> Iterator[Rating]:
    said: list[dict[str, Any] | None] = [record.database_specific]
    for entry in entries:
        said += (entry.database_specific, entry.ecosystem_specific)
    for place in (where for where in said if where):
        for key in _PLACES:
            yield from _word(place.get(key), f"the database's {key}")


def _word(word: object, place: str) -> Iterator[Rating]:
    known = _WORDS.get(word.strip().lower()) if isinstance(word, str) else None
    if known is not None:
        yield Rating(known, None, f"{printable(place, 40)}: {known}")
