"""Every failure Keepstone reports: one root, four families, stable codes.

A code is a dotted word (`model.missing`) that scripts may match on; it never changes once
released. The exit status belongs to the family, so it cannot depend on the output format:

| family | meaning | exit |
| --- | --- | --- |
| `InputError` | what the caller gave cannot be used | 2 |
| `VerificationError` | a proof, digest or signature does not hold | 1 |
| `DeniedError` | the policy or a limit said no | 1 |
| `OperationalError` | we could not decide: disk, lock, clock, missing runtime | 3 |
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit statuses of every command. `NO` wins over `UNDECIDED` where both happened."""

    OK = 0
    NO = 1
    USAGE = 2
    UNDECIDED = 3


class KeepstoneError(Exception):
    """The root. `code` is stable, `cause` is one sentence, `next_step` says what to do."""

    family: ClassVar[str] = "operational"
    exit_code: ClassVar[Exit] = Exit.UNDECIDED

    def __init__(self, code: str, cause: str, next_step: str = "") -> None:
        super().__init__(f"[{code}] {cause}")
        self.code = code
        self.cause = cause
        self.next_step = next_step


class InputError(KeepstoneError):
    """What the caller gave cannot be used: malformed, missing, of the wrong kind."""

    family = "input"
    exit_code = Exit.USAGE


class VerificationError(KeepstoneError):
    """A digest, signature, proof or seal does not hold."""

    family = "verification"
    exit_code = Exit.NO


class DeniedError(KeepstoneError):
    """The policy, a grant, a revocation or a limit says no."""

    family = "denied"
    exit_code = Exit.NO


class OperationalError(KeepstoneError):
    """Keepstone could not decide or could not act. Never read it as a yes."""

    family = "operational"
    exit_code = Exit.UNDECIDED
