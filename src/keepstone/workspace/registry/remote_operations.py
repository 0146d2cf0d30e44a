"""The registry's commands as a server performs them: the members that the owner takes and gives.

A command says what is asked once, and it is done here or there; see `operations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keepstone.errors import InputError
from keepstone.workspace.registry.remote import RemoteRegistry


def perform_remote(
    registry: RemoteRegistry, operation: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """One operation by name. Raises InputError `registry.not_remote`, and what it raises there."""
    action = OPERATIONS.get(operation)
    if action is None:
        raise InputError(
            "registry.not_remote",
            "That is done at the registry's own workspace, not from another machine.",
            "Leave out --registry, and run it there.",
        )
    return action(registry, arguments)


def _push(registry: RemoteRegistry, given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("architecture") is not None:
        raise InputError(
            "registry.not_remote",
            "A registry imports no code of who pushes to it.",
            "Leave out --architecture.",
        )
    # Imported here: it brings every scanner along, which no other command asked of a server needs.
    from keepstone.workspace.intake import Submission

    paths = {
        name: None if given.get(name) is None else Path(str(given[name]))
        for name in ("signature", "statements", "contract")
    }
    submission = Submission(
        model=Path(str(given["path"])),
        name=str(given["model"]),
        signature=paths["signature"],
        statements=paths["statements"],
        contract=paths["contract"],
    )
    return registry.push(submission, given["attributes"], str(given.get("note") or ""))


def _pull(registry: RemoteRegistry, given: Mapping[str, Any]) -> dict[str, Any]:
    pulled = registry.pull(
        str(given["version"]), Path(str(given["target"])), examine=given.get("examine")
    )
    return {
        "model": pulled.model,
        "number": pulled.number,
        "digest": str(pulled.digest),
        "target": str(pulled.path),
        "trust": None,
        "gate_key": registry.gate_key,
        "admitted": pulled.admission is not None,
        "warnings": list(pulled.warnings),
    }


def _alias(registry: RemoteRegistry, given: Mapping[str, Any]) -> dict[str, Any]:
    version, name = str(given["version"]), str(given["alias"])
    note = str(given.get("note") or "")
    if given.get("remove"):
        return registry.remove_alias(version, name, note)
    return registry.alias(version, name, note)


def _promote(registry: RemoteRegistry, given: Mapping[str, Any]) -> dict[str, Any]:
    version, stage = str(given["version"]), str(given["stage"])
    if given.get("withdraw"):
        return registry.withdraw(version, stage)
    return registry.promote(version, stage, str(given.get("note") or ""))


OPERATIONS: Mapping[str, Callable[[RemoteRegistry, Mapping[str, Any]], dict[str, Any]]] = (
    MappingProxyType(
        {
            "registry.push": _push,
            "registry.pull": _pull,
            "registry.list": lambda registry, given: registry.list(
                model=given.get("model"), after=given.get("after"), limit=given.get("limit", 1000)
            ),
            "registry.show": lambda registry, given: registry.show(str(given["version"])),
            "registry.diff": lambda registry, given: registry.diff(
                str(given["a"]), str(given["b"])
            ),
            "registry.alias": _alias,
            "registry.promote": _promote,
            "registry.deprecate": lambda registry, given: registry.deprecate(
                str(given["version"]), str(given["reason"]), given.get("lasts_ms")
            ),
        }
    )
)
