"""A time to come, as people write it: for so long, or until a date."""

from __future__ import annotations

import re
from typing import Any

import click

from keepstone.cli.duration import DURATION


class Moment(click.ParamType[int]):
    """`30d` from now, `2027-01-31` (its first moment, UTC) or an RFC 3339 time; read into ms."""

    name = "duration|date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from keepstone.core.ports import SystemClock, parse_rfc3339
        from keepstone.errors import InputError

        text = str(value)
        if re.fullmatch(r"[0-9]{1,9}[smhd]", text):
            return SystemClock().now_ms() + DURATION.convert(text, param, ctx)
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            text += "T00:00:00Z"
        try:
            return parse_rfc3339(text)
        except InputError as error:
            self.fail(f"{value!r} is neither 30d, 2027-01-31 nor a time: {error.cause}", param, ctx)


MOMENT = Moment()
