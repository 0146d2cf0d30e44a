"""Durations as people write them: 90s, 15m, 12h, 30d."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Duration(click.ParamType[int]):
    """A whole number and a unit, read into milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 15m, 12h or 30d.", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


DURATION = Duration()
