"""Hold a bill of materials against the one that would be written now, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.governance.bom import SPEC_VERSION
from keepstone.governance.words import NAMESPACE, plain

MAX_BOM = 64 << 20
# What makes an item of a list itself, whatever its place; the first that it has.
_NAMES = ("bom-ref", "ref", "url", "name", "type", "format", "alg")
# When and by which version it was written, and how far the ledger and the gate have gone since.
_MOVES = (
    "$schema",
    "serialNumber",
    "metadata.timestamp",
    "metadata.tools.components[keepstone].version",
    f"metadata.properties[{NAMESPACE}admission",
    f"metadata.properties[{NAMESPACE}ledger.root]",
    f"metadata.properties[{NAMESPACE}ledger.size]",
)
PACKAGE = "pkg:"
# No document of ours is half as deep.
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One field: what the document says, and what the workspace says; None where it is absent."""

    path: str
    document: str | None
    workspace: str | None


def parse_bom(data: bytes) -> dict[str, Any]:
    """Read a document. Raises InputError `bom.malformed`, `bom.other_version`, `json.*`."""
    document = parse_json(data, limit=MAX_BOM)
    if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
        raise InputError("bom.malformed", "The file is not a CycloneDX document in JSON.")
    if document.get("specVersion") != SPEC_VERSION:
        raise InputError(
            "bom.other_version",
            f"The document follows CycloneDX {str(document.get('specVersion'))[:16]},"
            f" not {SPEC_VERSION}.",
            "Write it anew: keepstone bom MODEL.",
        )
    return document


def ledger_head(document: Mapping[str, Any]) -> tuple[str, int, str]:
    """The ledger's origin, size and root that a document was written at.

    Raises InputError `bom.malformed` for one that no Keepstone wrote.
    """
    try:
        held = {item["name"]: item["value"] for item in document["metadata"]["properties"]}
        origin = held[f"{NAMESPACE}ledger.origin"]
        root = held[f"{NAMESPACE}ledger.root"]
        return str(origin), int(held[f"{NAMESPACE}ledger.size"]), str(root)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "bom.malformed", "The document does not say which ledger it was written from."
        ) from error


def admissions(document: Mapping[str, Any]) -> list[str]:
    """The lines of the admissions that a document names; `ledger_head` read it before."""
    held = document["metadata"]["properties"]
    return [str(item["value"]) for item in held if item["name"] == f"{NAMESPACE}admission"]


def differences(
    document: Mapping[str, Any], now: Mapping[str, Any], *, packages: bool
) -> list[Difference]:
    """Every field in which `document` is not what `now` says, packages too where asked for."""
    found, wanted = _flat(document, packages), _flat(now, packages)
    return sorted(
        Difference(path, found.get(path), wanted.get(path))
        for path in found.keys() | wanted.keys()
        if found.get(path) != wanted.get(path)
    )


def has_packages(document: Mapping[str, Any]) -> bool:
    return any(path.startswith(f"components[{PACKAGE}") for path, _ in _walk("", document))


def _flat(document: Mapping[str, Any], packages: bool) -> dict[str, str]:
    return {
        path: value
        for path, value in _walk("", document)
        if not path.startswith(_MOVES) and (packages or not _of_packages(path, value))
    }


def _of_packages(path: str, value: str) -> bool:
    inside = f"[{PACKAGE}" in path and path.startswith(("components[", "dependencies["))
    listed = path.startswith("dependencies[") and value.startswith(PACKAGE)
    unknown = f"[{NAMESPACE}unknown packages]" in path
    unread = f"[{NAMESPACE}packages.unread" in path
    return inside or listed or unknown or unread


def _walk(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each plain value with its path; an item of a list goes by its name."""
    if depth > _MAX_DEPTH:
        raise InputError("bom.malformed", f"The document is nested more than {_MAX_DEPTH} deep.")
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _walk(
                f"{path}.{plain(str(name))}" if path else plain(str(name)), item, depth + 1
            )
    elif isinstance(value, list):
        seen: dict[str, int] = {}
        # Sorted, so that of several items of one name the same are held against each other.
        for item in sorted(value, key=repr):
            name = _name(item)
            seen[name] = seen.get(name, 0) + 1
            number = f"#{seen[name]}" if seen[name] > 1 else ""
            yield from _walk(f"{path}[{name}{number}]", item, depth + 1)
    else:
        yield path, plain(value if isinstance(value, str) else repr(value))


def _name(item: Any) -> str:
    if not isinstance(item, Mapping):
        return plain(str(item))
    named = next((str(item[key]) for key in _NAMES if key in item), "")
    if named == f"{NAMESPACE}unknown" or named == f"{NAMESPACE}refused":
        named = f"{named} {item.get('value')}"
    return plain(named)
