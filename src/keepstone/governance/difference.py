"""Hold a bill of materials against the one that would be written now, field by field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.governance.bom import SPEC_VERSION
from keepstone.governance.words import NAMESPACE, plain

MAX_BOM = 64 << 20
# What makes an item of a list itself, whatever its place; the first that it has.
_NAMES = ("bom-ref", "ref", "url", "name", "type", "format", "alg")
# Of these properties there are many under one name.
_MANY = frozenset({f"{NAMESPACE}unknown", f"{NAMESPACE}refused"})
PACKAGE = "pkg:"
# No document of ours is half as deep.
_MAX_DEPTH = 32


class _Item(NamedTuple):
    """An item of a list: what it is called, and which of those that are called so."""

    name: str
    number: int = 1


# Raw names, never joined: a member called `a.b` is no member `b` of an `a`.
_Path = tuple[str | _Item, ...]
_PROPERTIES = ("metadata", "properties")
# When and by which version it was written, and how far the ledger has gone since.
_MOVES: frozenset[_Path] = frozenset(
    {
        ("serialNumber",),
        ("metadata", "timestamp"),
        ("metadata", "tools", "components", _Item("keepstone"), "version"),
        (*_PROPERTIES, _Item(f"{NAMESPACE}ledger.root"), "value"),
        (*_PROPERTIES, _Item(f"{NAMESPACE}ledger.size"), "value"),
    }
)


@dataclass(frozen=True, slots=True)
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
        (
            Difference(_shown(path), _value(found, path), _value(wanted, path))
            for path in found.keys() | wanted.keys()
            if found.get(path) != wanted.get(path)
        ),
        key=lambda one: one.path,
    )


def has_packages(document: Mapping[str, Any]) -> bool:
    return any(
        path[0] == "components" and _is_package(path[1:2]) for path, _ in _walk((), document)
    )


def _flat(document: Mapping[str, Any], packages: bool) -> dict[_Path, str]:
    return {
        path: value
        for path, value in _walk((), document)
        if not _moves(path) and (packages or not _of_packages(path, value))
    }


def _moves(path: _Path) -> bool:
    # Whether an admission was given at all is asked by who knows the ledger.
    admission = path[:2] == _PROPERTIES and path[3:] in (("name",), ("value",))
    named = path[2] if admission else ""
    return path in _MOVES or (isinstance(named, _Item) and named.name == f"{NAMESPACE}admission")


def _is_package(place: _Path) -> bool:
    return any(isinstance(step, _Item) and step.name.startswith(PACKAGE) for step in place)


def _of_packages(path: _Path, value: str) -> bool:
    if path[:1] == ("components",):
        # Where packages are all that there is, nothing else is an empty list.
        return _is_package(path[1:2]) or (len(path) == 1 and value == "[]")
    if path[:1] == ("dependencies",):
        return _is_package(path) or (path[-1:] == ("dependsOn",) and value == "[]")
    inside = path[:3] == ("metadata", "component", "properties")
    named = path[3] if inside and len(path) > 3 else ""
    return isinstance(named, _Item) and named.name in (
        f"{NAMESPACE}unknown packages",
        f"{NAMESPACE}packages.unread",
    )


def _walk(path: _Path, value: Any) -> Iterator[tuple[_Path, str]]:
    """Each plain value, and each empty one, as JSON with its path; an item goes by its name."""
    if len(path) > _MAX_DEPTH:
        raise InputError("bom.malformed", f"The document is nested more than {_MAX_DEPTH} deep.")
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _walk((*path, str(name)), item)
    elif isinstance(value, list) and value:
        seen: Counter[str] = Counter()
        # Sorted, so that of several items of one name the same are held against each other.
        for item in sorted(value, key=repr):
            name = _name(item)
            seen[name] += 1
            yield from _walk((*path, _Item(name, seen[name])), item)
    else:
        yield path, json.dumps(value)


def _name(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    named = next((str(item[key]) for key in _NAMES if key in item), "")
    return f"{named} {item.get('value')}" if named in _MANY else named


def _shown(path: _Path) -> str:
    """`metadata.component.properties[keepstone:origin].value`, for people."""
    text = ""
    for step in path:
        if isinstance(step, _Item):
            text += f"[{step.name}{'' if step.number == 1 else f'#{step.number}'}]"
        else:
            text += f".{step}" if text else step
    return plain(text)


def _value(found: Mapping[_Path, str], path: _Path) -> str | None:
    if path not in found:
        return None
    value = json.loads(found[path])
    return plain(value if isinstance(value, str) else found[path])
