"""Texts and properties as every document of this room writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstone.scan.rules import printable

NAMESPACE = "keepstone:"
_LIMIT = 2048


def plain(text: str) -> str:
    """`text` as one line that moves no cursor and turns no text, whoever wrote it."""
    return printable(text, _LIMIT)


def prop(name: str, value: object) -> dict[str, str]:
    """One property in the namespace `keepstone:`."""
    return {"name": NAMESPACE + plain(name), "value": plain(str(value))}


def without_empty(members: Mapping[str, Any]) -> dict[str, Any]:
    """`members` without those that say nothing: an unknown fact is absent, never empty."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}
