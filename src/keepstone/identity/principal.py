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
LOCAL_PREFIX = "local:"
_MAX_MODELS = 256
_MAX_GRANTS = 64
_MAX_CONDITIONS = 16
_REQUIRED = frozenset({"role", "models"})
_OPTIONAL = frozenset({"versions", "where"})
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
class VersionFacts:
    """What a grant's conditions look at in one version of a model.

    `attributes` are pairs such as ("team", "risk"); a version has the pair ("stage", NAME) for
    each stage that points at it.
    """

    number: int
    attributes: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One role on some models; `*` alone stands for every model and for the system itself.

    `versions` narrows it to versions by number, `where` to those whose attributes have one of
    the values it lists, each attribute of it. What has no version is out of a narrowed grant's
    reach, and so is a version that lacks the attribute.
    """

    role: str
    models: tuple[str, ...] = (EVERY_MODEL,)
    versions: tuple[int, ...] = ()
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        check_name(self.role)
        if not self.models or len(self.models) > _MAX_MODELS:
            raise InputError(
                "grant.invalid", f"A grant names 1 to {_MAX_MODELS} models, or `*` alone."
            )
        if self.models != (EVERY_MODEL,):
            for model in self.models:
                check_name(model)
        self._check_conditions()
        # In one order: equal grants are equal values, and give equal bytes.
        object.__setattr__(self, "models", tuple(sorted(set(self.models))))
        object.__setattr__(self, "versions", tuple(sorted(set(self.versions))))
        where = tuple(sorted((name, tuple(sorted(set(values)))) for name, values in self.where))
        object.__setattr__(self, "where", where)

    def _check_conditions(self) -> None:
        if len(self.versions) > _MAX_MODELS or any(number < 1 for number in self.versions):
            raise InputError(
                "grant.invalid", f"A grant names at most {_MAX_MODELS} versions, from 1 on."
            )
        names = [name for name, _ in self.where]
        if len(names) > _MAX_CONDITIONS or len(set(names)) != len(names):
            raise InputError(
                "grant.invalid",
                f"A grant looks at up to {_MAX_CONDITIONS} attributes, each of them once.",
            )
        for name, values in self.where:
            check_name(name)
            if not values or len(values) > _MAX_MODELS:
                raise InputError("grant.invalid", f"A grant allows no value of {name!r}.")
            for value in values:
                check_name(value)

    @property
    def is_narrowed(self) -> bool:
        """Whether it reaches some versions of its models only."""
        return bool(self.versions or self.where)

    def covers(self, model: str | None, facts: VersionFacts | None = None) -> bool:
        """Whether the grant reaches a version of `model`, or what of it has no version.

        None is the system, which only `*` without conditions reaches.
        """
        if self.models != (EVERY_MODEL,) and model not in self.models:
            return False
        return not self.is_narrowed or (
            model is not None and facts is not None and self._admits(facts)
        )

    def _admits(self, facts: VersionFacts) -> bool:
        if self.versions and facts.number not in self.versions:
            return False
        return all(
            any((name, value) in facts.attributes for value in values)
            for name, values in self.where
        )

    def __str__(self) -> str:
        """For people: `reader on fraud where team is risk`."""
        text = f"{self.role} on "
        text += "every model" if self.models == (EVERY_MODEL,) else ", ".join(self.models)
        if self.versions:
            text += f" in version {', '.join(map(str, self.versions))}"
        if self.where:
            conditions = (f"{name} is {' or '.join(values)}" for name, values in self.where)
            text += f" where {' and '.join(conditions)}"
        return text

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"role": self.role, "models": list(self.models)}
        if self.versions:
            plain["versions"] = list(self.versions)
        if self.where:
            plain["where"] = {name: list(values) for name, values in self.where}
        return plain


def parse_grants(value: Any) -> frozenset[Grant]:
    """Read a JSON list of `{"role", "models"}`, with `versions` and `where` where it is narrowed.

    Raises InputError `grant.invalid`, `name.invalid`.
    """
    if not isinstance(value, list) or len(value) > _MAX_GRANTS:
        raise InputError("grant.invalid", f"Grants are a list of at most {_MAX_GRANTS}.")
    return frozenset(_parse_grant(item) for item in value)


def _parse_grant(item: Any) -> Grant:
    # A condition that nobody reads would make a narrowed grant a wide one.
    if not isinstance(item, dict) or not _REQUIRED <= item.keys() <= _REQUIRED | _OPTIONAL:
        raise InputError(
            "grant.invalid", "A grant holds `role` and `models`, and may hold `versions`, `where`."
        )
    role, versions, where = item["role"], item.get("versions", []), item.get("where", {})
    if not isinstance(role, str):
        raise InputError("grant.invalid", "A grant's role is a string.")
    if not isinstance(versions, list) or any(type(number) is not int for number in versions):
        raise InputError("grant.invalid", "A grant's versions are a list of integers.")
    if not isinstance(where, dict):
        raise InputError("grant.invalid", "A grant's `where` holds lists by attribute.")
    if any(name in item and not item[name] for name in _OPTIONAL):
        raise InputError("grant.invalid", "A grant's condition allows nothing at all.")
    conditions = tuple((name, _texts(values)) for name, values in where.items())
    return Grant(role, _texts(item["models"]), tuple(versions), conditions)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError("grant.invalid", "A grant's models and values are lists of strings.")
    return tuple(value)


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

    @property
    def is_local(self) -> bool:
        """Whether it is who opened the workspace's folder on its own machine."""
        return self.kind is PrincipalKind.LOCAL and self.id.startswith(LOCAL_PREFIX)
