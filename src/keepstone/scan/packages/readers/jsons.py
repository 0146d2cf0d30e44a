"""JSON that names packages: an object, or a coded no."""

from __future__ import annotations

from typing import Any

from keepstone.scan.packages.readers.source import BrokenListError, Source
from keepstone.scan.strictjson import read_json


def read_object(source: Source) -> dict[str, Any]:
    """The one object of the file. Raises BrokenListError, also where a name is given twice."""
    try:
        document = read_json(source.data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise BrokenListError(f"It is no JSON: {error}.") from error
    if document.repeated:
        raise BrokenListError(
            "One object gives a name twice: readers differ in which one they take."
        )
    if not isinstance(document.value, dict):
        raise BrokenListError("It is no object.")
    return document.value
