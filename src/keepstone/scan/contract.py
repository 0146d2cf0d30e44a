"""A model's contract in a file of its own: clean where it is one that every reader reads alike."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.contract.schema import MAX_DOCUMENT, SCHEMA, parse_contract
from keepstone.core.finding import Finding
from keepstone.errors import InputError
from keepstone.scan.view import View

_MARK = SCHEMA.encode()


def resembles_contract(data: memoryview) -> bool:
    """True where `data` may be a contract; `scan_contract` says whether it is one."""
    return len(data) <= MAX_DOCUMENT and bytes(data[:1]) == b"{" and _MARK in bytes(data)


def scan_contract(view: View) -> Iterator[Finding]:
    """No finding means clean: strict JSON, every member known. It names no code that is run
    without the consent of who serves the model."""
    try:
        parse_contract(bytes(view.data))
    except InputError as error:
        yield view.unseen(error.cause)
