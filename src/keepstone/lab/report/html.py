"""The HTML report: what was found, how surely, and what was not looked at, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.lab.domain import Domain
from keepstone.lab.report.charts import Line, interval_chart, line_chart
from keepstone.lab.report.curves import page_of
from keepstone.lab.report.documents import Document
from keepstone.lab.report.page import render
from keepstone.lab.report.pictures import difference, picture, picture_shape
from keepstone.lab.suites.result import SuiteResult, Worst

MAX_CASES = 12
# Features that changed most, for rows that are no pictures.
_FEATURES = 5


@dataclass(frozen=True, slots=True)
class Case:
    """One sample that was broken by little: what it is, what it was called, and what changed."""

    right: str
    served: str
    distance: float
    attack: str
    before: str | None
    after: str | None
    change: str | None
    features: tuple[tuple[str, float, float], ...]


def write_html(
    outcome: SuiteResult,
    domain: Domain,
    about: Mapping[str, str],
    features: tuple[str, ...] = (),
    others: Sequence[Document] = (),
) -> bytes:
    """The report as one file in UTF-8: no script, nothing from elsewhere.

    `about` is what stands above it, line by line: the target, its digest, the samples' digest.
    `others` are an extraction or a membership audit of the same model, shown below.
    """
    found = outcome.to_dict()
    return render(
        "report.html.j2",
        found=found,
        about=about,
        norm=outcome.question.norm.name,
        robust_chart=_robust_chart(outcome),
        distortion_chart=_distortion_chart(outcome, found),
        budget_chart=_budget_chart(outcome),
        cases=cases(outcome, domain, features),
        pictures=picture_shape(domain.shape) is not None,
        others=[page_of(one) for one in others],
    )


def cases(outcome: SuiteResult, domain: Domain, features: tuple[str, ...] = ()) -> list[Case]:
    """The samples that the smallest perturbations broke, nearest first."""
    worst = outcome.worst
    order = np.argsort(worst.distance, kind="stable")[:MAX_CASES]
    return [
        _case(worst, int(at), outcome, domain, features)
        for at in order
        if np.isfinite(worst.distance[at])
    ]


def _case(
    worst: Worst, at: int, outcome: SuiteResult, domain: Domain, features: tuple[str, ...]
) -> Case:
    x, row = worst.x[at], worst.rows[at]
    seen = picture_shape(domain.shape) is not None
    changed = np.argsort(-np.abs(row - x), kind="stable")[:_FEATURES]
    return Case(
        right=outcome.names[worst.y[at]],
        served=outcome.names[worst.label[at]] if worst.label[at] >= 0 else "no answer",
        distance=float(worst.distance[at]),
        attack=outcome.attacks[worst.attack[at]].name,
        before=picture(x, domain.shape, domain.low, domain.high),
        after=picture(row, domain.shape, domain.low, domain.high),
        change=difference(x, row, domain.shape),
        features=()
        if seen
        else tuple(
            (_feature(features, int(place)), float(x[place]), float(row[place]))
            for place in changed
            if x[place] != row[place]
        ),
    )


def _feature(features: tuple[str, ...], place: int) -> str:
    return features[place] if place < len(features) else f"feature {place}"


def _robust_chart(outcome: SuiteResult) -> str:
    points = [
        (one.eps, one.robust.value, one.robust.low, one.robust.high) for one in outcome.robust
    ]
    return interval_chart(
        points, outcome.question.at_least, f"eps ({outcome.question.norm.name})", "robust accuracy"
    )


def _distortion_chart(outcome: SuiteResult, found: Mapping[str, Any]) -> str:
    begin = (0.0, outcome.clean.value)
    points = [begin, *((at, share) for at, share in found["distortion"])]
    return line_chart(
        [Line("worst over all attacks", points)],
        f"size of the perturbation ({outcome.question.norm.name})",
        "accuracy",
    )


def _budget_chart(outcome: SuiteResult) -> str:
    lines = [
        Line(
            one.name if one.eps is None else f"{one.name} at eps {one.eps:g}",
            [(at, share) for at, share in one.curve()],
        )
        for one in outcome.attacks
        if one.first
    ]
    return line_chart(lines[:8], "queries for a sample", "share broken", log=True)
