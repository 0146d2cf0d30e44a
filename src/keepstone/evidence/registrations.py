"""Look up what another registry's models, versions and aliases are, as statements say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.evidence.registered import Registered
from keepstone.evidence.verify import EvidenceBase


@dataclass(frozen=True, slots=True)
class Registration:
    """One live statement: what it is about, and what it says."""

    subject: Subject
    said: Registered

    @property
    def digest(self) -> Digest:
        return self.subject.digest


class Registrations:
    """The registrations of one registry that hold now, oldest first. A pure look-up."""

    def __init__(self, held: tuple[Registration, ...]) -> None:
        self._held = held

    @classmethod
    def of(cls, base: EvidenceBase, registry: str, now: int) -> Self:
        """Those of `registry` in `base` that hold at `now`. Raises `evidence.unreadable`."""
        held = [
            Registration(item.subject, item.predicate)
            for item in base.live(Registered.kind, now)
            if isinstance(item.predicate, Registered) and item.predicate.registry == registry
        ]
        return cls(tuple(held))

    def version(self, model: str, version: int) -> Registration | None:
        """What the version is: the first that was said of it, as versions never change."""
        return next((one for one in self._of(model) if one.said.version == version), None)

    def alias(self, model: str, alias: str) -> Registration | None:
        """Where the alias points: the newest that was said of it."""
        found = [one for one in self._of(model) if one.said.alias == alias]
        return found[-1] if found else None

    def newest(self, model: str) -> int:
        """The highest version that was ever registered, 0 if none was."""
        return max((one.said.version for one in self._of(model)), default=0)

    def of_digest(self, digest: Digest) -> Registration | None:
        """Some version that has this digest."""
        return next((one for one in self._held if one.digest == digest), None)

    def at(self, location: str) -> Registration | None:
        """What lies at a location: the newest that was said of it."""
        found = [one for one in self._held if one.said.location == location]
        return found[-1] if found else None

    def all_at(self, location: str) -> list[Registration]:
        """Every version that was said to lie there."""
        return [one for one in self._held if one.said.location == location]

    def below(self, location: str) -> bool:
        """Whether some version lies inside of a place."""
        inside = location.rstrip("/") + "/"
        return any(one.said.location.startswith(inside) for one in self._held)

    def _of(self, model: str) -> Iterator[Registration]:
        return (one for one in self._held if one.said.model == model)
