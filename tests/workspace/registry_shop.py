"""An open workspace as a registry, with people who hold different grants, and small models."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keepstone.errors import KeepstoneError
from keepstone.identity.principal import Grant, Principal, PrincipalKind
from keepstone.workspace.intake import Submission
from keepstone.workspace.opened import Workspace
from keepstone.workspace.registry.registry import Push, Registry
from keepstone.workspace.registry.requests import Pushed
from tests.workspace.observers import Silent

EVERYTHING = ("pusher", "puller", "examiner", "releaser", "keeper")
LOCAL = Principal("local:root", PrincipalKind.LOCAL, frozenset(), "local", "uid-0")
STAGES = "staging = { four_eyes = false }\nproduction = { four_eyes = false }"


def person(name: str, *grants: Grant, key: str = "key") -> Principal:
    """`user:NAME` with these grants, or with every role on every model."""
    held = grants or tuple(Grant(role) for role in EVERYTHING)
    return Principal(f"user:{name}", PrincipalKind.API_KEY, frozenset(held), "api_key", key)


def weights(value: float, count: int = 4) -> bytes:
    """A safetensors file that says one number."""
    data = struct.pack(f"<{count}f", *([value] * count))
    head = json.dumps(
        {"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, len(data)]}}
    ).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


class Shop:
    """One open registry."""

    def __init__(self, home: Any, workspace: Workspace) -> None:
        self.home = home
        self.workspace = workspace
        self.registry = Registry(workspace)

    def model(self, value: float = 1.0) -> Path:
        path: Path = self.home.root / f"w{value:g}.safetensors"
        path.write_bytes(weights(value))
        return path

    def push(
        self,
        value: float = 1.0,
        name: str = "fraud",
        who: Principal = LOCAL,
        attributes: dict[str, str] | None = None,
        **given: Any,
    ) -> Pushed:
        submission = Submission.of(self.model(value), name=name)
        asked = Push(submission, attributes or {}, **given)
        return self.registry.push(who, asked, Silent())

    def blobs(self) -> set[tuple[str, str]]:
        return {(held.name, held.digest.hex) for held in self.workspace.store.addresses()}

    def accesses(self) -> list[dict[str, object]]:
        return list(self.home.entries("access"))

    def records(self) -> list[dict[str, object]]:
        return list(self.home.entries("registry"))


@contextmanager
def opened(home: Any) -> Iterator[Shop]:
    with home.open() as workspace:
        yield Shop(home, workspace)


def four_eyes(home: Any) -> None:
    home.edit_policy("production = { four_eyes = false }", "production = { four_eyes = true }")


def with_attributes(home: Any) -> None:
    home.edit_policy("# team = []", "team = []")
    home.edit_policy("# data_class =", "data_class =")


def refused(action: Any, *given: Any, **named: Any) -> KeepstoneError:
    """What `action` raises, which it must."""
    try:
        action(*given, **named)
    except KeepstoneError as error:
        return error
    raise AssertionError("it was not refused")
