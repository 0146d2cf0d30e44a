"""Strict reading of the policy's TOML: every key is asked for by type, none may be left over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.subject import check_name
from keepstone.errors import InputError

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)\Z")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# No quote and no backslash: it is written into the file as it is. Nothing that turns text around.
_ODD = r"\x00-\x1f\"\\\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_LINE = re.compile(rf"[^ {_ODD}][^{_ODD}]{{0,1023}}\Z")
MAX_ITEMS = 256


def _line_of(text: str, header: str, number: int) -> int | None:
    """The line of the `number`-th table with this header, as far as the text shows it plainly."""
    seen = 0
    for line, content in enumerate(text.splitlines(), 1):
        if content.split("#")[0].strip() == header:
            seen += 1
            if seen == number:
                return line
    return None


@dataclass(slots=True)
class Table:
    """One table of the file. `done()` refuses every key that was not asked for.

    Raises InputError `policy.invalid`, naming the table, its line where that is plain, and the
    key.
    """

    value: Mapping[str, Any]
    header: str
    text: str
    number: int = 1
    _asked: set[str] = field(default_factory=set)

    def fault(self, problem: str, next_step: str = "") -> InputError:
        line = _line_of(self.text, self.header, self.number)
        place = f"{self.header or 'top level'}" + ("" if line is None else f" (line {line})")
        return InputError("policy.invalid", f"Policy, {place}: {problem}.", next_step)

    def raw(self, key: str) -> Any:
        self._asked.add(key)
        if key not in self.value:
            raise self.fault(f"`{key}` is missing")
        return self.value[key]

    def has(self, key: str) -> bool:
        return key in self.value

    def string(self, key: str) -> str:
        value = self.raw(key)
        if not isinstance(value, str):
            raise self.fault(f"`{key}` is not a string")
        return value

    def line(self, key: str) -> str:
        """One line that is not empty, and that a TOML string holds as it is."""
        value = self.string(key)
        if not _LINE.match(value):
            raise self.fault(f"`{key}` is empty, too long, or holds what is no plain text")
        return value

    def name(self, key: str) -> str:
        return self.named(key, self.string(key))

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.string(key)
        if value not in choices:
            raise self.fault(f"`{key}` is {value[:64]!r}, not one of {', '.join(choices)}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.raw(key)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(f"`{key}` is not an integer from {low} to {high}")
        return value

    def decimal(self, key: str, above: float, high: float) -> float:
        """A number above `above` and up to `high`."""
        value = self.raw(key)
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        # Written so that a NaN, which is neither, is refused.
        if not plain or not above < value <= high:
            raise self.fault(f"`{key}` is not a number above {above:g} and up to {high:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self.raw(key)
        if not isinstance(value, bool):
            raise self.fault(f"`{key}` is not true or false")
        return value

    def integers(self, key: str, low: int) -> tuple[int, ...]:
        """Some integers, at least one."""
        value = self.raw(key)
        if not isinstance(value, list) or not value or len(value) > MAX_ITEMS:
            raise self.fault(f"`{key}` is not a list of 1 to {MAX_ITEMS} integers")
        if any(type(item) is not int or item < low for item in value):
            raise self.fault(f"`{key}` holds what is not an integer from {low} on")
        return tuple(value)

    def duration(self, key: str, most_ms: int) -> int:
        """Milliseconds, from `45s`, `10m`, `12h` or `30d`."""
        value = self.string(key)
        match = _DURATION.match(value)
        if match is None:
            raise self.fault(f"`{key}` is {value[:32]!r}, not a time such as 45s, 10m, 12h or 30d")
        milliseconds = int(match.group(1)) * _UNIT_MS[match.group(2)]
        if milliseconds > most_ms:
            raise self.fault(f"`{key}` is more than {most_ms // 1000} seconds")
        return milliseconds

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.raw(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fault(f"`{key}` is not a list of strings")
        if len(value) > MAX_ITEMS or len(set(value)) != len(value):
            raise self.fault(f"`{key}` is too long, or lists something twice")
        return tuple(value)

    def names(self, key: str) -> tuple[str, ...]:
        return tuple(self.named(key, item) for item in self.strings(key))

    def known(self, role: str, roles: Mapping[str, frozenset[str]]) -> str:
        """`role`, if the policy defines it."""
        if role not in roles:
            raise self.fault(
                f"the role {role!r} is not defined", "Look at the names under [roles]."
            )
        return role

    def table(self, key: str) -> Table:
        value = self.raw(key)
        if not isinstance(value, dict):
            raise self.fault(f"`{key}` is not a table")
        header = f"[{self.header.strip('[]')}.{key}]" if self.header else f"[{key}]"
        return Table(value, header, self.text)

    def tables(self, key: str) -> list[Table]:
        """The tables of an array, none where it is absent."""
        self._asked.add(key)
        value = self.value.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fault(f"`{key}` is not written as [[{key}]]")
        if len(value) > MAX_ITEMS:
            raise self.fault(f"there are more than {MAX_ITEMS} of `{key}`")
        return [
            Table(item, f"[[{key}]]", self.text, number) for number, item in enumerate(value, 1)
        ]

    def done(self) -> None:
        """Unknown fails closed: a key nobody reads is a rule somebody thinks is in force."""
        unknown = sorted(self.value.keys() - self._asked)
        if unknown:
            raise self.fault(f"`{unknown[0][:64]}` is not a key that is known here")

    def named(self, key: str, value: str) -> str:
        try:
            return check_name(value)
        except InputError as error:
            raise self.fault(f"`{key}` is {value[:64]!r}, which is no name", error.next_step) from (
                error
            )
