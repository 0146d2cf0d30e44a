"""A release: the bytes of one version may leave the vault, once, for one principal.

It permits no load: whoever takes a model out asks the gate, or a trust bundle, before it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keepstone.core.digest import Digest
from keepstone.errors import DeniedError, VerificationError
from keepstone.identity.principal import Principal
from keepstone.policy.engine import Decision
from keepstone.policy.gate import Verdict
from keepstone.vault.registry.catalogue import Version

# Long enough to begin; what has begun may take as long as it takes.
_LASTS_MS = 600_000
_SEAL = object()


@dataclass(frozen=True, slots=True)
class Release:
    """One version for one principal, until `expires` (ms). Made by `release` alone.

    `reason` says why it goes out although the gate does not admit it; None where it does.
    """

    version: Version
    principal: str
    reason: str | None
    verdict: Verdict
    expires: int
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise VerificationError(
                "release.unverified", "A release is made by deciding on it, never by hand."
            )

    @property
    def artifact(self) -> Digest:
        return self.version.digest

    def require(self, now: int) -> Release:
        """Return the release if it holds at `now` (ms), else raise `release.expired`."""
        if not self.verdict.now <= now < self.expires:
            raise DeniedError(
                "release.expired", "The release was for a moment ago.", "Ask for the version again."
            )
        return self


def release(
    version: Version, who: Principal, verdict: Verdict, decision: Decision, reason: str | None
) -> Release:
    """Release `version` to `who`, on what the gate and the policy said of it.

    Without a `reason` the gate must admit it and `decision` is that on `model.pull`; with one,
    `decision` is that on `model.examine`. Raises VerificationError `release.wrong_version`, and
    as `Verdict.require`; DeniedError `policy.denied`.
    """
    if verdict.subject != version.subject:
        raise VerificationError(
            "release.wrong_version", f"The gate judged another artifact than {version.exact}."
        )
    if reason is None:
        verdict.require()
    if not decision.allowed:
        raise DeniedError("policy.denied", "The policy does not allow this.")
    return Release(
        version=version,
        principal=who.id,
        reason=reason,
        verdict=verdict,
        expires=verdict.now + _LASTS_MS,
        _seal=_SEAL,
    )
