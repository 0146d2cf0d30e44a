"""Charts of a share against something: as lines, as intervals, or as curves with their bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepstone.lab.report.axes import (
    LEFT,
    MOST_TICKS,
    RIGHT,
    WIDTH,
    Axis,
    Told,
    colour,
    frame,
    stroke,
)

Points = Sequence[tuple[float, float]]
# At x a value between its low and high.
Intervals = Sequence[tuple[float, float, float, float]]
# From so many times the least on, values are laid out by their logarithms.
_LOG_FROM = 8.0


@dataclass(frozen=True, slots=True)
class Line:
    """Points by x ascending, y in 0 to 1; drawn as steps, for nothing is known between them."""

    name: str
    points: Points


@dataclass(frozen=True, slots=True)
class Band:
    """Points by x ascending with their intervals: measured at each, and joined between."""

    name: str
    points: Intervals


def line_chart(lines: Sequence[Line], x: str, y: str, *, log: bool = False) -> str:
    """Lines, and above them what each is."""
    across, up = Axis.over([at for line in lines for at, _ in line.points], log), Axis.up()
    drawn = [
        f'<path d="{_steps(line.points, across, up)}" fill="none" stroke-width="1.8"'
        f" {stroke(number)}/>"
        for number, line in enumerate(lines)
    ]
    last = "; ".join(
        f"{line.name} {line.points[-1][1]:.3g} at {line.points[-1][0]:.3g}"
        for line in lines
        if line.points
    )
    names = [line.name for line in lines]
    return frame(across, up, "".join(drawn), Told(x, y, last), names=names)


def interval_chart(points: Intervals, limit: float, x: str, y: str) -> str:
    """At each x a value between its low and high, and the line of what is enough."""
    across, up = Axis.over([0.0, *(point[0] * 1.1 for point in points)], log=False), Axis.up()
    drawn = [_limit(limit, up), *(_interval(point, across, up, 0) for point in points)]
    return frame(across, up, "".join(drawn), Told(x, y, _told(points)))


def band_chart(
    bands: Sequence[Band], told: Told, *, unit: float | None = None, limit: float | None = None
) -> str:
    """A curve for each of `bands` with its intervals as a band around it.

    The axis is one of logarithms where the points span much. Places are told a second time in
    units of so many, if there is a `unit`; `limit` is the line that is not to be passed.
    """
    places = [point[0] for band in bands for point in band.points if point[0] > 0]
    log = bool(places) and max(places) >= _LOG_FROM * min(places)
    across, up = Axis.over(places, log), Axis.up()
    drawn = [] if limit is None else [_limit(limit, up)]
    for number, band in enumerate(bands):
        drawn.append(_band(band.points, across, up, number))
    words = [told.text] if told.text else []
    words += [f"{band.name}: {_told(band.points)}" for band in bands if band.points]
    measured = sorted(set(places))
    ticks = measured if 0 < len(measured) <= MOST_TICKS else across.ticks()
    under = [] if unit is None else [f"{value / unit:.3g}" for value in ticks]
    told = Told(told.x, told.y, "; ".join(words))
    names = [band.name for band in bands]
    return frame(across, up, "".join(drawn), told, names=names, ticks=ticks, under=under)


def _band(points: Intervals, across: Axis, up: Axis, number: int) -> str:
    if not points:
        return ""
    lower = [f"{across.place(at):.1f} {up.place(low):.1f}" for at, _, low, _ in points]
    upper = [f"{across.place(at):.1f} {up.place(high):.1f}" for at, _, _, high in points]
    middle = [f"{across.place(at):.1f} {up.place(value):.1f}" for at, value, _, _ in points]
    around = "L".join([*lower, *reversed(upper)])
    return (
        f'<path d="M{around}Z" fill="{colour(number)}" fill-opacity=".15"/>'
        f'<path d="M{"L".join(middle)}" fill="none" stroke-width="1.8" {stroke(number)}/>'
        + "".join(_interval(point, across, up, number) for point in points)
    )


def _interval(point: tuple[float, float, float, float], across: Axis, up: Axis, at: int) -> str:
    place = across.place(point[0])
    return (
        f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{up.place(point[2]):.1f}"'
        f' y2="{up.place(point[3]):.1f}" stroke="{colour(at)}" stroke-width="2"/>'
        f'<circle cx="{place:.1f}" cy="{up.place(point[1]):.1f}" r="3.5" fill="{colour(at)}"/>'
    )


def _limit(limit: float, up: Axis) -> str:
    height = f"{up.place(limit):.1f}"
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}"'
        ' stroke="#d1242f" stroke-dasharray="5 4"/>'
    )


def _steps(points: Points, across: Axis, up: Axis) -> str:
    parts, height = [], None
    for at, share in points:
        place = f"{across.place(at):.1f}"
        if height is None:
            parts.append(f"M{place} {up.place(share):.1f}")
        else:
            parts.append(f"L{place} {height:.1f} L{place} {up.place(share):.1f}")
        height = up.place(share)
    if height is not None:
        parts.append(f"L{WIDTH - RIGHT} {height:.1f}")
    return " ".join(parts)


def _told(points: Intervals) -> str:
    return ", ".join(
        f"{value:.3f} ({low:.3f} to {high:.3f}) at {at:.4g}" for at, value, low, high in points
    )
