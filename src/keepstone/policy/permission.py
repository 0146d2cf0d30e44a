"""Permissions: what a machine without a workspace may load, and on whose word.

A `Permission` stands where an `Admission` stands in a workspace, and is no weaker: the gate of
the same policy said yes over the same evidence, as the workspace signed it into a trust bundle.
It is made by a verified bundle alone, so whoever is handed one need not ask again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import VerificationError

# Who holds this may make one: `policy.bundle`, after it has verified and judged.
SEAL = object()


@dataclass(frozen=True, slots=True)
class Permission:
    """Permission to load one artifact under one name at one endpoint, until `expires` (ms).

    `bundle` names the trust bundle that it rests on, `format` is what the newest scan said the
    artifact is. It names no contract: what the model accepts is what its verified bytes say.
    """

    subject: Subject
    endpoint: str
    format: str
    bundle: Digest
    policy: Digest
    evidence: tuple[Digest, ...]
    issued: int
    expires: int
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not SEAL:
            raise VerificationError(
                "permission.unverified",
                "A permission is made by a verified trust bundle, never by hand.",
            )

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def contract(self) -> None:
        """No contract is bound."""
        return None

    @property
    def artifact(self) -> Digest:
        return self.subject.digest

    def holds(self, now: int) -> bool:
        """Whether it is in force at `now`, as far as time goes."""
        return self.issued <= now < self.expires
