"""The JSON of an extraction and of a membership audit, read for a report.

It may come out of a file: each part is held against its type before anything is drawn of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, TypeVar

from keepstone.core.canonical import parse_json
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.evidence.fields import Fields
from keepstone.lab.problem import Problem, Verdict

MAX_FILE = 4 << 20
EXTRACTION = "keepstone.extraction/v1"
MEMBERSHIP = "keepstone.membership/v1"
_BAD = "report.bad_document"
_MOST = 4096
_VERDICTS = frozenset(one.value for one in Verdict)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """A copy after so many queries; without an interval nothing was measured."""

    queries: int
    units: float
    unanswered: int
    agreement: Interval | None
    accuracy: Interval | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """What one extraction attack made, by its budget."""

    name: str
    parameters: str
    paper: str
    atlas: str
    seed: int
    budget: int
    asked: int
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Extraction:
    target: str
    model: Digest | None
    data: str
    verdict: Verdict
    at_most: float | None
    attacks: tuple[Copies, ...]
    not_evaluated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AtRate:
    """The members told at a rate; `at_most` is None where no limit was set for it."""

    fpr: float
    told: Interval
    members: int
    others: int
    sufficient: bool
    at_most: float | None


@dataclass(frozen=True, slots=True)
class Histogram:
    edges: tuple[float, ...]
    members: tuple[int, ...]
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """`roc` and `histogram` are empty where nothing was measured."""

    model: Digest | None
    verdict: Verdict
    attack: str
    parameters: str
    paper: str
    atlas: str
    signal: str
    shadows: int
    seed: int | None
    queries: int
    rows: str
    auc: float | None
    rates: tuple[AtRate, ...]
    roc: tuple[tuple[float, float], ...]
    histogram: Histogram | None
    problems: tuple[Problem, ...]
    not_evaluated: tuple[str, ...]


Document = Extraction | Membership


def read_document(data: bytes) -> Document:
    """Raises InputError `report.bad_document`, `json.*`."""
    return read_found(parse_json(data, limit=MAX_FILE))


def read_found(found: Any) -> Document:
    """What `keepstone attack extract` or `membership` told. Raises as `read_document`."""
    fields = Fields(found, "document", _BAD)
    readers: dict[str, Callable[[Fields], Document]] = {
        EXTRACTION: _extraction,
        MEMBERSHIP: _membership,
    }
    schema = fields.maybe("schema")
    if not isinstance(schema, str) or schema not in readers:
        raise InputError(
            _BAD,
            "The document is no result of an extraction or of a membership audit.",
            "Give the JSON of `keepstone attack extract` or `keepstone attack membership`.",
        )
    return readers[schema](fields)


def same_model(document: Document, model: Digest | None) -> Document:
    """The document, if it is of the model with this digest.

    Raises InputError `report.other_model`: also where nobody knows of which model one is.
    """
    if model is None or document.model != model:
        told = "none that is known" if document.model is None else str(document.model)
        raise InputError(
            "report.other_model",
            f"The document is of another model ({told}) than the one that is attacked here.",
            "One report is about one model file, by its digest.",
        )
    return document


def _extraction(fields: Fields) -> Extraction:
    return Extraction(
        fields.text("target"),
        _digest(fields),
        fields.text("data"),
        Verdict(fields.one_of("verdict", _VERDICTS)),
        _maybe_number(fields, "at_most", 0, 1),
        _all(fields, "attacks", "attack", _copies, 64),
        _lines(fields, "not_evaluated"),
    )


def _copies(fields: Fields) -> Copies:
    return Copies(
        fields.text("name"),
        fields.text("attack", 65_536),
        fields.text("paper"),
        fields.text("atlas"),
        fields.integer("seed"),
        fields.integer("budget"),
        fields.integer("asked"),
        _all(fields, "curve", "point of a curve", _point),
    )


def _point(fields: Fields) -> Point:
    return Point(
        fields.integer("queries"),
        _number(fields, "units", 0),
        fields.integer("unanswered"),
        _maybe_interval(fields, "agreement"),
        _maybe_interval(fields, "accuracy"),
        _problems(fields),
    )


def _membership(fields: Fields) -> Membership:
    seed = fields.maybe("seed")
    limits = dict(_all(fields, "limits", "limit", _limit, 64))
    drawn = fields.maybe("histogram")
    return Membership(
        model=_digest(fields),
        verdict=Verdict(fields.one_of("verdict", _VERDICTS)),
        attack=fields.text("attack"),
        parameters=fields.text("parameters", 65_536),
        paper=fields.text("paper"),
        atlas=fields.text("atlas"),
        signal=fields.text("signal"),
        shadows=fields.integer("shadows"),
        seed=None if seed is None else fields.integer("seed"),
        queries=fields.integer("queries"),
        rows=fields.text("rows"),
        auc=_maybe_number(fields, "auc", 0, 1),
        rates=_all(fields, "tpr_at", "rate", lambda one: _rate(one, limits), 64),
        roc=tuple(_pair(fields, pair) for pair in fields.items("roc", _MOST)),
        histogram=None if drawn is None else _histogram(fields.inner("histogram")),
        problems=_problems(fields),
        not_evaluated=_lines(fields, "not_evaluated"),
    )


def _limit(fields: Fields) -> tuple[float, float]:
    return _number(fields, "fpr", 0, 1), _number(fields, "at_most", 0, 1)


def _rate(fields: Fields, limits: Mapping[float, float]) -> AtRate:
    fpr = _number(fields, "fpr", 0, 1)
    if not fpr:
        raise fields.fault("fpr", "is no rate")
    return AtRate(
        fpr,
        _interval(fields),
        fields.integer("members"),
        fields.integer("nonmembers"),
        fields.boolean("sufficient"),
        limits.get(fpr),
    )


def _histogram(fields: Fields) -> Histogram:
    edges = tuple(_is_number(fields, "edges", one) for one in fields.items("edges", _MOST))
    members, others = (_counts(fields, name) for name in ("members", "nonmembers"))
    rising = all(left < right for left, right in pairwise(edges))
    if not rising or not len(members) == len(others) == len(edges) - 1 or len(edges) < 2:
        raise fields.fault("edges", "are not rising, one more than the counts")
    return Histogram(edges, members, others)


def _counts(fields: Fields, name: str) -> tuple[int, ...]:
    found = fields.items(name, _MOST)
    if any(type(one) is not int or not 0 <= one < 2**53 for one in found):
        raise fields.fault(name, "are not counts")
    return tuple(found)


def _pair(fields: Fields, pair: object) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise fields.fault("roc", "is not a list of pairs")
    false, true = (_is_number(fields, "roc", one, 0, 1) for one in pair)
    return false, true


def _problems(fields: Fields) -> tuple[Problem, ...]:
    return _all(fields, "problems", "problem", _problem, 256)


def _problem(fields: Fields) -> Problem:
    effect = Verdict(fields.one_of("effect", _VERDICTS))
    return Problem(fields.text("code"), effect, fields.text("message", 4096))


def _digest(fields: Fields) -> Digest | None:
    return None if fields.maybe("digest") is None else fields.digest("digest")


def _maybe_interval(fields: Fields, name: str) -> Interval | None:
    return None if fields.maybe(name) is None else _interval(fields.inner(name))


def _interval(fields: Fields) -> Interval:
    value, low, high = (_number(fields, name, 0, 1) for name in ("value", "low", "high"))
    # Who wrote it may have rounded both.
    if not low - 1e-6 <= value <= high + 1e-6:
        raise fields.fault("value", "lies outside its own interval")
    return Interval(value, low, high)


def _maybe_number(fields: Fields, name: str, low: float, high: float) -> float | None:
    return None if fields.maybe(name) is None else _number(fields, name, low, high)


def _number(fields: Fields, name: str, low: float, high: float = 1e15) -> float:
    return _is_number(fields, name, fields.raw(name), low, high)


def _is_number(
    fields: Fields, name: str, value: object, low: float = -1e300, high: float = 1e300
) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.fault(name, "is no number")
    # An integer of JSON may be longer than any float.
    if not low <= value <= high or not isfinite(value):
        raise fields.fault(name, f"is no number from {low:g} to {high:g}")
    return float(value)


def _lines(fields: Fields, name: str) -> tuple[str, ...]:
    found = fields.items(name, 256)
    if any(not isinstance(one, str) for one in found):
        raise fields.fault(name, "is not a list of texts")
    return tuple(found)


def _all(
    fields: Fields, name: str, what: str, read: Callable[[Fields], T], most: int = _MOST
) -> tuple[T, ...]:
    return tuple(read(Fields(one, what, _BAD)) for one in fields.items(name, most))
