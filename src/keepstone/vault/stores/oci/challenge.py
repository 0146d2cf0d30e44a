"""What a server asks for before it answers: the WWW-Authenticate header (RFC 7235, section 4.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 8192
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|\s*\Z)", re.ASCII)
_PARAMETER = re.compile(
    r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?=,|\Z)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: its scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Every challenge that can be read before the first that cannot; none is no error."""
    text = header[:_LONGEST]
    found: list[Challenge] = []
    while text.strip():
        scheme = _SCHEME.match(text)
        if scheme is None:
            break
        text = text[scheme.end() :]
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text):
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            # The first one counts: a second one of the same name changes nothing.
            parameters.setdefault(name.lower(), value)
            text = text[parameter.end() :]
        found.append(Challenge(scheme[1].lower(), parameters))
    return found
