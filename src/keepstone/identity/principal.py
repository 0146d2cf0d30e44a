"""Who acts, how that was shown, and what it was granted.

A principal is a value: whoever holds one has already authenticated it. What its grants allow is
the policy's business, not this room's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from keepstone.core.subject import check_name
from keepstone.errors import InputError

EVERY_MODEL = "*"
_MAX_MODELS = 256
_MAX_GRANTS = 64
_ID = re.compile(r"[a-z][a-z0-9]{0,15}:[A-Za-z0-9][A-Za-z0-9._@+-]{0,126}\Z")


class PrincipalKind(StrEnum):
    """What stood behind the principal when it authenticated."""

    API_KEY = "api_key"
    TOKEN = "token"  # noqa: S105  # a word, not a secret
    SIGNER = "signer"
    LOCAL = "local"


def check_principal_id(text: str) -> str:
    """Return `text` if it may name a principal (`user:alice`), else raise `principal.invalid`.

    A kind of at most 16 lower-case letters and digits, a colon, then at most 127 of
    A-Z a-z 0-9 . _ @ + - beginning with a letter or digit.
    """
    if not _ID.match(text):
        raise InputError(
            "principal.invalid",
            f"{text[:64]!r} is not a principal's id.",
            "Write it as kind:name, for example user:alice or service:checkout.",
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One role on some models; `*` alone stands for every model and for the system itself."""

    role: str
    models: tuple[str, ...] = (EVERY_MODEL,)

    def __post_init__(self) -> None:
        check_name(self.role)
        if not self.models or len(self.models) > _MAX_MODELS:
            raise InputError(
                "grant.invalid", f"A grant names 1 to {_MAX_MODELS} models, or `*` alone."
            )
        if self.models != (EVERY_MODEL,):
            for model in self.models:
                check_name(model)
        if list(self.models) != sorted(set(self.models)):
            object.__setattr__(self, "models", tuple(sorted(set(self.models))))

    def covers(self, model: str | None) -> bool:
        """Whether the grant reaches `model`; None is the system, which only `*` reaches."""
        return self.models == (EVERY_MODEL,) or model in self.models

    def to_dict(self) -> dict[str, Any]:
        return {"role": self.role, "models": list(self.models)}


def parse_grants(value: Any) -> frozenset[Grant]:
    """Read a JSON list of `{"role", "models"}`. Raises `grant.invalid`, `name.invalid`."""
    if not isinstance(value, list) or len(value) > _MAX_GRANTS:
        raise InputError("grant.invalid", f"Grants are a list of at most {_MAX_GRANTS}.")
    return frozenset(_parse_grant(item) for item in value)


def _parse_grant(item: Any) -> Grant:
    if not isinstance(item, dict) or item.keys() != {"role", "models"}:
        raise InputError("grant.invalid", "A grant holds exactly `role` and `models`.")
    role, models = item["role"], item["models"]
    if not isinstance(role, str) or not isinstance(models, list):
        raise InputError("grant.invalid", "A grant's role is a string, its models are a list.")
    if not all(isinstance(model, str) for model in models):
        raise InputError("grant.invalid", "A grant's models are strings.")
    return Grant(role, tuple(models))


def grants_to_list(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """The grants in one order, so that equal sets give equal bytes."""
    return [grant.to_dict() for grant in sorted(grants)]


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated principal: `id`, how it authenticated, and with which key.

    `grants` are those of the credential it came with. `attributes` are for people and records;
    nothing decides on them.
    """

    id: str
    kind: PrincipalKind
    grants: frozenset[Grant]
    method: str
    key_id: str
    attributes: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_principal_id(self.id)
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
