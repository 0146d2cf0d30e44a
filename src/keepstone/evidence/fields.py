"""Strict reading of one JSON object: each field is asked for by type, none may be left over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from keepstone.core.canonical import MAX_SAFE_INTEGER
from keepstone.core.digest import Digest
from keepstone.core.ports import parse_rfc3339
from keepstone.errors import InputError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_KEY_ID = re.compile(r"[0-9a-f]{64}\Z")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
MALFORMED = "statement.malformed"


class Fields:
    """A reader over one object. `done()` refuses every field that was not asked for.

    Raises InputError `statement.malformed` (or the code given), naming the object and field.
    """

    def __init__(self, value: Any, what: str, code: str = MALFORMED) -> None:
        if not isinstance(value, Mapping):
            raise InputError(code, f"The {what} is not a JSON object.")
        self._value = value
        self._what = what
        self._code = code
        self._asked: set[str] = set()

    def fault(self, name: str, problem: str) -> InputError:
        return InputError(self._code, f"Field `{name}` of the {self._what} {problem}.")

    def raw(self, name: str) -> Any:
        self._asked.add(name)
        if name not in self._value:
            raise self.fault(name, "is missing")
        return self._value[name]

    def maybe(self, name: str) -> Any:
        """The field's value, or None where it is absent."""
        self._asked.add(name)
        return self._value.get(name)

    def text(self, name: str, limit: int = 1024) -> str:
        """Any text; strict JSON holds none that UTF-8 cannot write."""
        value = self.raw(name)
        if not isinstance(value, str) or len(value) > limit:
            raise self.fault(name, f"is not a text of at most {limit} characters")
        return value

    def line(self, name: str, limit: int = 1024) -> str:
        """One non-empty line: shown to people, so nothing that moves a cursor or turns text."""
        value = self.text(name, limit)
        if not value or _CONTROL.search(value):
            raise self.fault(name, "is empty or holds a control character")
        return value

    def one_of(self, name: str, choices: frozenset[str]) -> str:
        value = self.text(name)
        if value not in choices:
            raise self.fault(name, f"is not one of {', '.join(sorted(choices))}")
        return value

    def boolean(self, name: str) -> bool:
        value = self.raw(name)
        if not isinstance(value, bool):
            raise self.fault(name, "is not true or false")
        return value

    def integer(self, name: str, low: int = 0) -> int:
        value = self.raw(name)
        if type(value) is not int or not low <= value <= MAX_SAFE_INTEGER:
            raise self.fault(name, f"is not an integer from {low}")
        return value

    def decimal(self, name: str, high: float = MAX_SAFE_INTEGER) -> float:
        """A number from 0 to `high`, written as a decimal string."""
        value = self.text(name, 64)
        number = float(value) if DECIMAL.match(value) else -1.0
        if not 0 <= number <= high:
            raise self.fault(name, f"is not a decimal from 0 to {high:g}, written as a text")
        return number

    def digest(self, name: str) -> Digest:
        """`sha256:<hex>`: the algorithm is always named."""
        value = self.text(name)
        if not value.startswith("sha256:"):
            raise self.fault(name, "is not written as sha256:<hex>")
        return Digest.parse(value)

    def key_id(self, name: str) -> str:
        value = self.text(name)
        if not _KEY_ID.match(value):
            raise self.fault(name, "is not a key id (64 lower-case hex digits)")
        return value

    def time(self, name: str) -> int:
        return parse_rfc3339(self.text(name))

    def items(self, name: str, limit: int) -> list[Any]:
        value = self.raw(name)
        if not isinstance(value, list) or len(value) > limit:
            raise self.fault(name, f"is not a list of at most {limit} items")
        return value

    def inner(self, name: str) -> Fields:
        return Fields(self.raw(name), f"{self._what}'s {name}", self._code)

    def lines(self, name: str, limit: int) -> dict[str, str]:
        """An object of at most `limit` one-line names and one-line values."""
        value = self.raw(name)
        if not isinstance(value, Mapping) or len(value) > limit:
            raise self.fault(name, f"is not an object of at most {limit} members")
        inner = self.inner(name)
        for key in value:
            if not key or len(key) > 256 or _CONTROL.search(key):
                raise self.fault(name, "has a name that is empty, too long or not one line")
        return {key: inner.line(key) for key in value}

    def done(self) -> None:
        """Unknown fails closed: a field nobody asked for may change what the rest means."""
        unknown = sorted(set(self._value) - self._asked)
        if unknown:
            raise InputError(self._code, f"The {self._what} has the unknown field {unknown[0]!r}.")
