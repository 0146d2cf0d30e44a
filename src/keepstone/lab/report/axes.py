"""The plane that a chart is drawn in, as SVG text: its two axes, their ticks, its frame.

No script, no style sheet, and nothing that is not a number or escaped. What is no curve has the
colour of the text around it, so that a dark page has light axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 36
# One line of the legend, which stands above the chart.
LEGEND = 14
# Seen on white and on black; told apart by their dashes too.
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#7d8590")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high`, laid out between two places of the page."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    @classmethod
    def across(cls, low: float, high: float, *, log: bool = False) -> Axis:
        """From left to right."""
        return cls(low, high, log, LEFT, WIDTH - RIGHT)

    @classmethod
    def up(cls, low: float = 0.0, high: float = 1.0, *, log: bool = False) -> Axis:
        """From bottom to top."""
        return cls(low, high, log, HEIGHT - BOTTOM, TOP)

    @classmethod
    def over(cls, values: Sequence[float], log: bool) -> Axis:
        """Across all of `values`; by their logarithms the positive ones."""
        positive = [value for value in values if value > 0 or not log]
        low = min(positive, default=1.0) if log else 0.0
        high = max(positive, default=1.0)
        return cls.across(low, high if high > low else low + 1, log=log)

    def place(self, value: float) -> float:
        """Where on the page. What lies outside is drawn at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if not self.log:
            return [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
        step = max(1, ceil((last - first + 1) / MOST_TICKS))
        found = [10.0**power for power in range(first, last + 1, step)]
        return found if len(found) > 1 else [self.low, self.high]


@dataclass(frozen=True, slots=True)
class Told:
    """What the axes are of, and what whoever cannot see the chart is told instead."""

    x: str
    y: str
    text: str = ""


def stroke(number: int) -> str:
    """How the curve of this number is drawn."""
    dash = _DASHES[number // 2 % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{colour(number)}"{dashed}'


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def legend(names: Sequence[str]) -> str:
    """A line for each curve, above the chart."""
    lines = []
    for number, name in enumerate(names):
        height = LEGEND * (number - len(names)) + 4
        lines.append(
            f'<line x1="{LEFT}" x2="{LEFT + 22}" y1="{height - 4}" y2="{height - 4}"'
            f' stroke-width="2.4" {stroke(number)}/>'
            f'<text x="{LEFT + 28}" y="{height}" fill="currentColor" font-size="11">'
            f"{escape(name)}</text>"
        )
    return "".join(lines)


def frame(
    across: Axis,
    up: Axis,
    drawn: str,
    told: Told,
    *,
    names: Sequence[str] = (),
    ticks: Sequence[float] = (),
    under: Sequence[str] = (),
) -> str:
    """The whole chart: `drawn` between its axes, with a legend of `names`.

    `ticks` are the places to mark across, else the axis's own; `under` is a second word to each.
    """
    bottom, ticks = HEIGHT - BOTTOM, ticks or across.ticks()
    marks = []
    for value in up.ticks():
        height = up.place(value)
        marks.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"'
            f' stroke="currentColor" stroke-opacity=".2"/><text x="{LEFT - 6}"'
            f' y="{height + 4:.1f}" text-anchor="end" fill="currentColor" font-size="11">'
            f"{value:.3g}</text>"
        )
    below = 14 if under else 0
    for number, value in enumerate(ticks):
        # The last would else reach beyond the page.
        anchor = "end" if number and value >= across.high else "middle"
        place = f'x="{across.place(value):.1f}" text-anchor="{anchor}" fill="currentColor"'
        marks.append(f'<text {place} y="{bottom + 15}" font-size="11">{value:.3g}</text>')
        if number < len(under):
            marks.append(
                f'<text {place} y="{bottom + 28}" font-size="10">{escape(under[number])}</text>'
            )
    above = LEGEND * len(names) + 8 if names else 0
    label = f"{told.y} by {told.x}" + (f": {told.text}" if told.text else "")
    return (
        f'<svg viewBox="0 {-above} {WIDTH} {HEIGHT + above + below}" role="img"'
        f' aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join(marks)}{drawn}{legend(names)}"
        f'<text x="{WIDTH / 2}" y="{HEIGHT + below - 4}" text-anchor="middle"'
        f' fill="currentColor" font-size="12">{escape(told.x)}</text></svg>'
    )
