"""Which request means which operation. Paths are matched byte for byte as they were sent.

A model, version or alias of a form that no name can have is answered as one that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError

MAX_JSON = 64 << 10
_MAX_QUERY = 2048
_PART = {
    "model": r"[a-z0-9._-]{1,64}",
    "alias": r"[a-z0-9._-]{1,64}",
    "stage": r"[a-z0-9._-]{1,64}",
    "version": r"[a-z0-9._:-]{1,80}",
}
PUSH, PULL = "push", "pull"


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one form of path. `takes` are the members of its query or JSON body."""

    method: str
    pattern: re.Pattern[bytes]
    operation: str
    takes: frozenset[str]

    @property
    def has_body(self) -> bool:
        return self.method in ("POST", "PUT")

    @property
    def is_transfer(self) -> bool:
        return self.operation in (PUSH, PULL)


def _route(method: str, path: str, operation: str, *takes: str) -> Route:
    pattern = re.sub(r"\{(\w+)\}", lambda part: f"(?P<{part[1]}>{_PART[part[1]]})", path)
    return Route(method, re.compile(pattern.encode("ascii") + rb"\Z"), operation, frozenset(takes))


_VERSION = "/v1/models/{model}/versions/{version}"
_ALIAS, _STAGE = "/v1/models/{model}/aliases/{alias}", "/v1/models/{model}/stages/{stage}"
ROUTES: tuple[Route, ...] = (
    _route("GET", "/v1/models", "registry.list", "model", "after", "limit"),
    _route("GET", "/v1/models/{model}", "registry.show"),
    _route("POST", "/v1/models/{model}/versions", PUSH),
    _route("GET", _VERSION, "registry.show"),
    _route("GET", f"{_VERSION}/content", PULL, "reason"),
    _route("POST", f"{_VERSION}/deprecation", "registry.deprecate", "reason", "lasts_ms"),
    _route("PUT", _ALIAS, "registry.alias", "version", "note"),
    _route("DELETE", _ALIAS, "registry.remove_alias", "note"),
    _route("POST", _STAGE, "registry.promote", "version", "note"),
    _route("DELETE", _STAGE, "registry.withdraw", "version"),
    _route("GET", "/v1/diff", "registry.diff", "a", "b"),
    _route("POST", "/v1/statements", "statement.record", "envelope"),
)


def find(method: str, path: bytes) -> tuple[Route, dict[str, str]] | frozenset[str]:
    """The route and the parts of its path; else the methods that the path has (none: unknown)."""
    others = set()
    for route in ROUTES:
        match = route.pattern.match(path)
        if match is None:
            continue
        if route.method == method:
            return route, {key: value.decode("ascii") for key, value in match.groupdict().items()}
        others.add(route.method)
    return frozenset(others)


def arguments(route: Route, parts: Mapping[str, str], query: bytes, body: bytes) -> dict[str, Any]:
    """What an operation is given: the parts of the path, and the query or the JSON body.

    Raises InputError `request.malformed` for a member that is not known here, or given twice.
    """
    given = _from_json(body) if route.has_body and not route.is_transfer else {}
    for name, value in _from_query(query).items():
        if name in given:
            raise _malformed(f"{name} is given twice")
        given[name] = value
    unknown = given.keys() - route.takes
    if unknown:
        raise _malformed(f"{sorted(unknown)[0][:40]!r} is nothing that this takes")
    return {**given, **parts}


def _from_json(body: bytes) -> dict[str, Any]:
    try:
        value = parse_json(body, limit=MAX_JSON) if body else {}
    except InputError as error:
        raise _malformed("the body is not JSON") from error
    if not isinstance(value, dict):
        raise _malformed("the body is not an object")
    return value


def _from_query(query: bytes) -> dict[str, str]:
    if len(query) > _MAX_QUERY:
        raise _malformed("the query is too long")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"
        )
    except ValueError as error:
        if query:
            raise _malformed("the query cannot be read") from error
        pairs = []
    if len({name for name, _ in pairs}) != len(pairs):
        raise _malformed("the query names something twice")
    return dict(pairs)


def _malformed(why: str) -> InputError:
    return InputError("request.malformed", f"The request cannot be used: {why}.")
