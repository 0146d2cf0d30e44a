"""The registry's commands as the owner performs them: JSON members in, JSON members out.

What a file is called comes from the asking process, and the owner opens it. Both are the same
user, or the asking one is root, so nobody reads or writes with rights they lack. Who asks is not
in the request: it is the user at the other end of the socket, or the holder of the key that is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keepstone.core.ports import rfc3339
from keepstone.errors import InputError
from keepstone.files import write_atomic
from keepstone.identity.principal import Principal
from keepstone.vault.registry.catalogue import Version
from keepstone.workspace.opened import Workspace
from keepstone.workspace.registry.callers import authenticate
from keepstone.workspace.registry.collecting import CollectRules
from keepstone.workspace.registry.desk import Desk
from keepstone.workspace.registry.moving import Move
from keepstone.workspace.registry.registry import Push, Registry

Arguments = Mapping[str, Any]
TRUST_SUFFIX = ".trust"


class Listening:
    """Keeps the warnings of a push; nobody watches its steps from here."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, step: str) -> None: ...

    def copied(self, done: int, expected: int) -> None: ...

    def end(self, detail: str) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def execute_registry(
    workspace: Workspace, operation: str, arguments: Arguments, uid: int
) -> dict[str, Any] | None:
    """Perform one operation for the user `uid`; None where there is none of that name."""
    action = OPERATIONS.get(operation)
    if action is None:
        return None
    key = arguments.get("key")
    who = authenticate(workspace, None if key is None else str(key), uid)
    return action(workspace, who, arguments)


def _push(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    # Imported here: it brings every scanner and loader along.
    from keepstone.workspace.intake import Submission

    submission = Submission(
        model=_path(given, "path"),
        name=str(given["model"]),
        signature=_maybe_path(given, "signature"),
        statements=_maybe_path(given, "statements"),
        contract=_maybe_path(given, "contract"),
        architecture=_maybe(given, "architecture"),
    )
    attributes = {str(name): str(value) for name, value in given["attributes"].items()}
    told = Listening()
    asked = Push(submission, attributes, str(given.get("note") or ""))
    done = Registry(workspace).push(who, asked, told)
    return named(done.version) | {
        "size": done.version.size,
        "scan": done.version.outcome.value,
        "known": done.known,
        "entry": done.entry,
        "warnings": told.warnings,
    }


def _pull(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    target, trust_ms = _path(given, "target"), given.get("trust_ms")
    beside = target.with_name(target.name + TRUST_SUFFIX)
    for place in (target, beside):
        # Before anything is recorded; asked again when the name is given.
        if os.path.lexists(place) and (place is target or trust_ms is not None):
            raise InputError(
                "target.exists",
                f"There is something at {place} already.",
                "Choose another place with --out.",
            )
    registry = Registry(workspace)
    pulled = registry.pull(
        who,
        str(given["version"]),
        examine=_maybe(given, "examine"),
        trust_ms=None if trust_ms is None else int(trust_ms),
    )
    registry.write_out(pulled.release, target)
    if pulled.trust is not None:
        write_atomic(beside, pulled.trust)
    return named(pulled.version) | {
        "target": str(target),
        "trust": None if pulled.trust is None else str(beside),
        "gate_key": workspace.keys.gate.key_id,
        "admitted": pulled.release.reason is None,
        "warnings": list(pulled.warnings),
    }


def _admit(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    from keepstone.workspace.registry.admitting import admit_version

    return admit_version(Desk(workspace, who), str(given["version"]))


def _list(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    page = Registry(workspace).list(
        who,
        model=_maybe(given, "model"),
        after=_maybe(given, "after"),
        limit=int(given.get("limit") or 1000),
    )
    return {"versions": list(page.versions), "next": page.next}


def _show(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    return Registry(workspace).show(who, str(given["version"]))


def _diff(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    return Registry(workspace).diff(who, str(given["a"]), str(given["b"]))


def _alias(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    registry, note = Registry(workspace), str(given.get("note") or "")
    name = str(given["alias"])
    if given.get("remove"):
        return moved(registry.remove_alias(who, str(given["version"]), name, note))
    return moved(registry.alias(who, str(given["version"]), name, note))


def _promote(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    registry, version, stage = Registry(workspace), str(given["version"]), str(given["stage"])
    if given.get("withdraw"):
        return moved(registry.withdraw(who, version, stage))
    return moved(registry.promote(who, version, stage, str(given.get("note") or "")))


def _deprecate(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    lasts = given.get("lasts_ms")
    until = None if lasts is None else workspace.clock.now_ms() + int(lasts)
    version = Registry(workspace).deprecate(who, str(given["version"]), str(given["reason"]), until)
    return named(version) | {"until": None if until is None else rfc3339(until)}


def _collect(workspace: Workspace, who: Principal, given: Arguments) -> dict[str, Any]:
    keep = given.get("keep")
    rules = CollectRules(
        keep=None if keep is None else int(keep),
        older_than_ms=int(given.get("older_than_ms") or 0),
        dry_run=bool(given.get("dry_run")),
    )
    done = Registry(workspace).collect(who, rules)
    return {
        "dry_run": rules.dry_run,
        "versions": [named(version) for version in done.versions],
        "orphans": [{"model": one.name, "digest": str(one.digest)} for one in done.orphans],
        "leftovers": done.leftovers,
        "bytes": done.bytes,
        "entries": list(done.entries),
    }


def named(version: Version) -> dict[str, Any]:
    return {
        "model": version.name,
        "number": version.number,
        "digest": str(version.digest),
    }


def moved(move: Move) -> dict[str, Any]:
    return asdict(move) | {"expires": None if move.expires is None else rfc3339(move.expires)}


def _maybe(given: Arguments, name: str) -> str | None:
    value = given.get(name)
    return None if value is None else str(value)


def _path(given: Arguments, name: str) -> Path:
    """Whole, for the owner may stand in another folder."""
    path = Path(str(given[name]))
    if not path.is_absolute():
        raise InputError("control.malformed", f"The path in {name!r} is not absolute.")
    return path


def _maybe_path(given: Arguments, name: str) -> Path | None:
    return None if given.get(name) is None else _path(given, name)


OPERATIONS: Mapping[str, Callable[[Workspace, Principal, Arguments], dict[str, Any]]] = (
    MappingProxyType(
        {
            "registry.push": _push,
            "registry.pull": _pull,
            "registry.admit": _admit,
            "registry.list": _list,
            "registry.show": _show,
            "registry.diff": _diff,
            "registry.alias": _alias,
            "registry.promote": _promote,
            "registry.deprecate": _deprecate,
            "registry.collect": _collect,
        }
    )
)
