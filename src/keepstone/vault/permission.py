"""What lets a key be released and a model be loaded: a permission that was verified.

A permission is a value that names one artifact under one name, and what it may accept. Only
types whose instances cannot be made but by verifying something count as one.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from keepstone.core.digest import Digest
from keepstone.errors import DeniedError, VerificationError
from keepstone.policy.admission import Admission
from keepstone.policy.permission import Permission as BundlePermission


class Permission(Protocol):
    """`artifact` may be loaded as `name`, if its contract has the digest `contract`.

    Without a contract, what it accepts is what its verified bytes say.
    """

    @property
    def artifact(self) -> Digest: ...

    @property
    def name(self) -> str: ...

    @property
    def contract(self) -> Digest | None: ...

    def holds(self, now: int) -> bool:
        """Whether it is in force at `now` (ms)."""
        ...


# The types of permission. Each refuses to be made by hand, and makes itself by verifying.
VERIFIED: tuple[type[Permission], ...] = (Admission, BundlePermission)
P = TypeVar("P", bound=Permission)


def require_permission(permission: P, now: int) -> P:
    """Return `permission` if it was verified and holds at `now`.

    Raises VerificationError `permission.unverified`, DeniedError `permission.expired`.
    """
    # The exact type says that it was verified: a subclass could forget to.
    if type(permission) not in VERIFIED:
        raise VerificationError(
            "permission.unverified", "Only a verified permission lets a model be loaded."
        )
    if not permission.holds(now):
        raise DeniedError(
            "permission.expired",
            "The permission does not hold now.",
            "Ask the gate again: `keepstone up`, or a newer trust bundle.",
        )
    return permission
