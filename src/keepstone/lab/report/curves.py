"""What a report shows of an extraction and of a membership audit: its curves and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from keepstone.lab.problem import Problem
from keepstone.lab.report.axes import Told
from keepstone.lab.report.charts import Band, band_chart
from keepstone.lab.report.documents import (
    Copies,
    Document,
    Extraction,
    Interval,
    Membership,
    Point,
)
from keepstone.lab.report.page import render
from keepstone.lab.report.roc import histogram, roc_chart

# More curves than colours tell nothing.
_CURVES = 8


@dataclass(frozen=True, slots=True)
class ExtractionPage:
    """`accuracy` is None where nobody knows the right labels; `unit` is d + 1."""

    kind: ClassVar[str] = "extraction"
    title: ClassVar[str] = "Extraction"
    found: Extraction
    unit: float | None
    agreement: str
    accuracy: str | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class MembershipPage:
    kind: ClassVar[str] = "membership"
    title: ClassVar[str] = "Membership"
    found: Membership
    measured: bool
    roc: str | None
    histogram: str | None


Page = ExtractionPage | MembershipPage


def write_curves(documents: Sequence[Document], about: Mapping[str, str]) -> bytes:
    """A report of these alone, as one file. `about` stands above it, line by line."""
    return render("curves.html.j2", pages=[page_of(one) for one in documents], about=about)


def page_of(document: Document) -> Page:
    """What the template shows of it."""
    if isinstance(document, Extraction):
        return _extraction_page(document)
    return _membership_page(document)


def _extraction_page(found: Extraction) -> ExtractionPage:
    points = [point for one in found.attacks for point in one.curve]
    some = (point for point in points if point.queries and point.units > 1e-6)
    unit = next((point.queries / point.units for point in some), None)
    agreement = _bands(found.attacks, lambda point: point.agreement)
    accuracy = _bands(found.attacks, lambda point: point.accuracy)
    known = any(band.points for band in accuracy)
    queries = "queries" if unit is None else "queries, and below in units of d + 1"
    return ExtractionPage(
        found,
        unit,
        band_chart(agreement, Told(queries, "agreement"), unit=unit, limit=found.at_most),
        band_chart(accuracy, Told(queries, "accuracy"), unit=unit) if known else None,
        tuple(_problems(found.attacks)),
    )


def _bands(attacks: Sequence[Copies], read: Callable[[Point], Interval | None]) -> list[Band]:
    bands = []
    for one in attacks[:_CURVES]:
        seen = [(float(point.queries), read(point)) for point in one.curve]
        drawn = [(at, told.value, told.low, told.high) for at, told in seen if told is not None]
        bands.append(Band(one.name, drawn))
    return bands


def _problems(attacks: Sequence[Copies]) -> Iterator[Problem]:
    for one in attacks:
        for point in one.curve:
            for problem in point.problems:
                where = f"{one.name}, {point.queries} queries: {problem.message}"
                yield Problem(problem.code, problem.effect, where)


def _membership_page(found: Membership) -> MembershipPage:
    measured = bool(found.roc)
    marks = [(one.fpr, one.told.value, one.told.low, one.told.high) for one in found.rates]
    counts = [(one.members, one.others) for one in found.rates] or [(1, 1)]
    drawn = found.histogram
    return MembershipPage(
        found,
        measured,
        roc_chart(found.roc, marks, *counts[0]) if measured else None,
        None if drawn is None else histogram(drawn.edges, drawn.members, drawn.others),
    )
