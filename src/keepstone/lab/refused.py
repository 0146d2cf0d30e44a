"""An error of ours on its way from another process to whoever began the work there."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.errors import (
    DeniedError,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)

_FAMILIES = {
    kind.family: kind for kind in (InputError, VerificationError, DeniedError, OperationalError)
}


@dataclass(frozen=True, slots=True)
class Refused:
    """What is told of it, which can be pickled."""

    family: str
    code: str
    cause: str
    next_step: str

    @classmethod
    def of(cls, error: KeepstoneError) -> Refused:
        return cls(error.family, error.code, error.cause, error.next_step)

    def error(self) -> KeepstoneError:
        kind = _FAMILIES.get(self.family, OperationalError)
        return kind(self.code, self.cause, self.next_step)
