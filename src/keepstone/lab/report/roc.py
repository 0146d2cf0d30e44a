"""Charts of a membership audit: its ROC by logarithms, and how the scores lie."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from keepstone.lab.report.axes import Axis, Told, colour, frame, stroke
from keepstone.lab.report.charts import Points

# What so few rows cannot show is not drawn; no axis is longer than this.
_LEAST = 1e-6
# A rate, the share told there, and the interval of that.
Mark = tuple[float, float, float, float]


def roc_chart(points: Points, marks: Sequence[Mark], members: int, others: int) -> str:
    """True against false positives, both by their logarithms, with the line of guessing.

    `points` are (false, true), ascending; nothing is drawn of a rate below one in all rows.
    """
    across = Axis.across(_low([1 / max(others, 2), *(mark[0] for mark in marks)]), 1.0, log=True)
    up = Axis.up(_low([1 / max(members, 2), across.low]), 1.0, log=True)
    guess = f"M{across.place(across.low):.1f} {up.place(across.low):.1f}"
    guess += f"L{across.place(1.0):.1f} {up.place(1.0):.1f}"
    drawn = [f'<path d="{guess}" fill="none" stroke-width="1.4" {stroke(7)}/>']
    if points:
        drawn.append(
            f'<path d="{_curve(points, across, up)}" fill="none" stroke-width="1.8" {stroke(0)}/>'
        )
    for rate, value, low, high in marks:
        place = across.place(rate)
        drawn.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{up.place(low):.1f}"'
            f' y2="{up.place(high):.1f}" stroke="{colour(1)}" stroke-width="2"/>'
            f'<circle cx="{place:.1f}" cy="{up.place(value):.1f}" r="4" fill="{colour(1)}"/>'
        )
    words = "; ".join(
        f"{value:.4f} ({low:.4f} to {high:.4f}) of the members told at a false-positive rate of"
        f" {rate:g}"
        for rate, value, low, high in marks
    )
    told = Told("false-positive rate", "true-positive rate", f"{words}. The dashed line guesses")
    return frame(across, up, "".join(drawn), told)


def histogram(edges: Sequence[float], members: Sequence[int], others: Sequence[int]) -> str:
    """The scores of both, each as the share of its own kind in each bin."""
    both = [[count / max(1, sum(kind)) for count in kind] for kind in (members, others)]
    top = max((share for kind in both for share in kind), default=1.0) or 1.0
    across, up = Axis.across(edges[0], edges[-1]), Axis.up(0.0, top)
    drawn = []
    for number, kind in enumerate(both):
        path = f"M{across.place(edges[0]):.1f} {up.place(0):.1f}"
        for left, right, share in zip(edges[:-1], edges[1:], kind, strict=True):
            height = up.place(share)
            path += f"L{across.place(left):.1f} {height:.1f}L{across.place(right):.1f} {height:.1f}"
        path += f"L{across.place(edges[-1]):.1f} {up.place(0):.1f}Z"
        drawn.append(
            f'<path d="{path}" fill="{colour(number)}" fill-opacity=".18" stroke-width="1.6"'
            f" {stroke(number)}/>"
        )
    words = f"scores from {edges[0]:.4g} to {edges[-1]:.4g}"
    told = Told("score of the attack", "share of the rows", words)
    return frame(across, up, "".join(drawn), told, names=("members", "others"))


def _low(values: Sequence[float]) -> float:
    return max(_LEAST, float(10.0 ** floor(log10(min(values)) + 1e-9)))


def _curve(points: Points, across: Axis, up: Axis) -> str:
    """Steps, for between two rules there is none."""
    parts, height = [], up.place(0.0)
    for false, true in points:
        place = f"{across.place(false):.1f}"
        parts += [f"{place} {height:.1f}", f"{place} {up.place(true):.1f}"]
        height = up.place(true)
    return "M" + "L".join(dict.fromkeys(parts))
