"""Charts as SVG text: a share against something, as lines or as intervals. No script, no style
sheet, and nothing in them that is not a number or escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 36
# One line of the legend, which stands above the chart.
_LEGEND = 14
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#57606a")
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """Points by x ascending, y in 0 to 1; drawn as steps, for nothing is known between them."""

    name: str
    points: Points


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], log: bool) -> _Scale:
        positive = [value for value in values if value > 0 or not log]
        low = min(positive, default=1.0) if log else 0.0
        high = max(positive, default=1.0)
        return cls(low, high if high > low else low + 1, log)

    def place(self, value: float) -> float:
        """Where on the page, from left to right."""
        if self.log:
            value = max(value, self.low)
            share = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> list[float]:
        if not self.log:
            return [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        first, last = round(log10(self.low) - 0.5), round(log10(self.high) + 0.5)
        found = [10.0**power for power in range(first, last + 1)]
        return [value for value in found if self.low <= value <= self.high] or [self.low, self.high]


def line_chart(lines: Sequence[Line], x: str, y: str, *, log: bool = False) -> str:
    """Lines, and above them what each is."""
    scale = _Scale.over([at for line in lines for at, _ in line.points], log)
    drawn = []
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = _steps(line.points, scale)
        drawn.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        drawn.append(
            f'<text x="{_LEFT}" y="{_LEGEND * (number - len(lines)) + 4}" fill="{colour}"'
            f' font-size="11">{escape(line.name)}</text>'
        )
    return _frame(scale, "".join(drawn), x, y, above=_LEGEND * len(lines))


def interval_chart(
    points: Sequence[tuple[float, float, float, float]], limit: float, x: str, y: str
) -> str:
    """At each x a value between its low and high, and the line of what is enough."""
    scale = _Scale.over([0.0, *(point[0] * 1.1 for point in points)], log=False)
    drawn = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(limit):.1f}" y2="{_y(limit):.1f}"'
        ' stroke="#d1242f" stroke-dasharray="5 4"/>'
    ]
    for at, value, low, high in points:
        place = scale.place(at)
        drawn.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{_y(low):.1f}" y2="{_y(high):.1f}"'
            f' stroke="#1f6feb" stroke-width="2"/>'
            f'<circle cx="{place:.1f}" cy="{_y(value):.1f}" r="4" fill="#1f6feb"/>'
        )
    return _frame(scale, "".join(drawn), x, y)


def _steps(points: Points, scale: _Scale) -> str:
    parts, height = [], None
    for at, share in points:
        place = f"{scale.place(at):.1f}"
        if height is None:
            parts.append(f"M{place} {_y(share):.1f}")
        else:
            parts.append(f"L{place} {height:.1f} L{place} {_y(share):.1f}")
        height = _y(share)
    if height is not None:
        parts.append(f"L{_WIDTH - _RIGHT} {height:.1f}")
    return " ".join(parts)


def _y(share: float) -> float:
    return _TOP + (1 - min(1.0, max(0.0, share))) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(scale: _Scale, drawn: str, x: str, y: str, *, above: int = 0) -> str:
    bottom = _HEIGHT - _BOTTOM
    marks = []
    for part in range(5):
        height = _y(part / 4)
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"'
            f' stroke="#d0d7de"/><text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end"'
            f' font-size="11">{part / 4:g}</text>'
        )
    for value in scale.ticks():
        marks.append(
            f'<text x="{scale.place(value):.1f}" y="{bottom + 15}" text-anchor="middle"'
            f' font-size="11">{value:.3g}</text>'
        )
    return (
        f'<svg viewBox="0 {-above} {_WIDTH} {_HEIGHT + above}" role="img"'
        f' aria-label="{escape(y)} by {escape(x)}"'
        f' xmlns="http://www.w3.org/2000/svg">{"".join(marks)}{drawn}'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle" font-size="12">'
        f"{escape(x)}</text></svg>"
    )
