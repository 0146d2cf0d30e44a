"""Open a trust bundle on a machine that has no workspace, and answer from it.

Reading, remembering and asking the clock happen here; what a bundle says, and whether it may be
used, is decided in `keepstone.policy.bundle`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from keepstone.core.digest import Digest
from keepstone.core.ports import Clock, SystemClock
from keepstone.core.subject import Subject
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.standing import Denial
from keepstone.evidence.verify import Evidence
from keepstone.policy.bundle import MAX_BUNDLE, Seen, TrustBundle, claimed_origin, verify_bundle
from keepstone.policy.gate import Verdict
from keepstone.policy.permission import Permission
from keepstone.trust.seen import SeenBundles

if TYPE_CHECKING:
    from keepstone.vault.load import Loaded

ENDPOINT = "local"
_KEY_ID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(slots=True)
class Trusted:
    """A trust bundle in use. Every answer is as of now; once it has expired there is none.

    Time never runs back for it, whatever the wall clock does. Where it was not `remembered`, it
    answers questions and permits nothing: an older one could be used after it.
    """

    bundle: TrustBundle
    clock: Clock = field(default_factory=SystemClock)
    remembered: bool = False
    _latest: int = 0

    def now(self) -> int:
        self._latest = max(self._latest, self.bundle.opened, self.clock.now_ms())
        return self._latest

    def revoked(self, artifact: Digest) -> Denial | None:
        """The revocation that stands against an artifact, if there is one."""
        return self.bundle.revoked(artifact, self.now())

    def about(self, subject: Subject) -> Evidence:
        """Which statements about `subject` are live, and why others are not."""
        return self.bundle.about(subject, self.now())

    def verdict(self, subject: Subject, endpoint: str = ENDPOINT) -> Verdict:
        """What the workspace's policy says about `subject` now."""
        return self.bundle.verdict(subject, endpoint, self.now())

    def permit(self, subject: Subject, endpoint: str = ENDPOINT) -> Permission:
        """Let `subject` be loaded, or raise `gate.revoked`, `gate.denied`, `trust.expired`.

        Raises VerificationError `trust.not_remembered` for a bundle that was only looked at.
        """
        if not self.remembered:
            raise VerificationError(
                "trust.not_remembered",
                "This trust bundle was looked at and not remembered, so it permits nothing.",
                "Open it with `remember`.",
            )
        return self.bundle.permit(subject, endpoint, self.now())

    def subject_of(self, artifact: Digest, name: str | None = None) -> Subject:
        """The artifact under `name`, or under the one name that the workspace knows it by.

        Raises InputError `trust.no_name` where that is not plain.
        """
        names = self.bundle.names_of(artifact) if name is None else (name,)
        if len(names) == 1:
            return Subject(names[0], artifact)
        known = (
            f"It is known as {', '.join(names)}." if names else "The bundle knows nothing of it."
        )
        raise InputError(
            "trust.no_name",
            f"No name was given for the artifact {artifact.short}. {known}",
            "Say under which name it is to be loaded.",
        )

    def load(
        self,
        path: Path,
        name: str | None = None,
        endpoint: str = ENDPOINT,
        *,
        architecture: str | None = None,
    ) -> Loaded:
        """Load the model at `path` from the bytes that were hashed, if the policy says yes.

        `architecture` (`package.module:Class`) is your consent to import that code, for weights
        alone. Raises as `subject_of`, `permit`, `read_files`, `require_scanned` and
        `load_verified` raise.
        """
        # Imported late: a command that only verifies needs no runtime.
        from keepstone.vault.load import load_verified
        from keepstone.vault.load.identify import find_model, require_scanned
        from keepstone.vault.verified import read_files

        with read_files(path) as files:
            permission = self.permit(self.subject_of(files.digest, name), endpoint)
            require_scanned(permission.format, find_model(files)[0])
            return load_verified(files, permission, now=self.now(), architecture=architecture)


def open_bundle(
    path: Path,
    *,
    outside: Path,
    trust_key: str | None = None,
    max_age_ms: int | None = None,
    clock: Clock | None = None,
    remember: bool = True,
) -> Trusted:
    """Verify the trust bundle at `path`, and remember that it was seen before it is used.

    `trust_key` is the id of the key that must have signed it: 64 hex digits, which somebody got
    from the workspace's operator. It must be given the first time that this machine sees a bundle
    of an origin; afterwards the same key is asked for. `outside` is the folder that remembers.

    (1) A key is given, or was before; where both are, they are the same.
    (2) The bundle verifies, and is no older than the newest one that was seen (`verify_bundle`).
    (3) It is remembered, durably. Not with `remember` off: then it permits nothing.

    Raises InputError `trust.missing`, `trust.no_key`, `key.malformed`; VerificationError
    `trust.key_changed`; OperationalError `trust.state_unreadable`, `file.unwritable`; and as
    `verify_bundle`.
    """
    clock = clock or SystemClock()
    data = read_bundle(path)
    if trust_key is not None and not _KEY_ID.match(trust_key):
        raise InputError("key.malformed", "A key's id is 64 lower-case hex digits.")
    origin = claimed_origin(data)
    kept = SeenBundles(outside)
    # Asked before anything is written: a bundle of whoever leaves no trace here.
    _key_for(kept.newest(origin), trust_key)
    if not remember:
        return Trusted(_verified(data, kept.newest(origin), trust_key, max_age_ms, clock), clock)
    with kept.alone(origin):
        seen = kept.newest(origin)
        bundle = _verified(data, seen, trust_key, max_age_ms, clock)
        # (3)
        if _is_news(bundle.seen(), seen):
            kept.keep(bundle.seen())
    return Trusted(bundle, clock, remembered=True)


def _key_for(seen: Seen | None, trust_key: str | None) -> str:
    # (1)
    if seen is None and trust_key is None:
        raise InputError(
            "trust.no_key",
            "This machine has not seen a trust bundle of this origin, so it knows no key for it.",
            "Give the id of the workspace's gate key: --trust-key ID (`keepstone signers list`).",
        )
    if seen is not None and trust_key not in (None, seen.key_id):
        raise VerificationError(
            "trust.key_changed",
            f"Earlier bundles of {seen.origin} were signed by the key {seen.key_id[:16]}.",
            "If the workspace's operator changed it, remove what was seen: see the docs.",
        )
    return str(trust_key) if seen is None else seen.key_id


def _verified(
    data: bytes, seen: Seen | None, trust_key: str | None, max_age_ms: int | None, clock: Clock
) -> TrustBundle:
    key_id = _key_for(seen, trust_key)
    # (2)
    return verify_bundle(data, now=clock.now_ms(), key_id=key_id, seen=seen, max_age_ms=max_age_ms)


def _is_news(found: Seen, seen: Seen | None) -> bool:
    """Whether `found` says more than `seen`: a newer bundle, or a minute more of time."""
    if seen is None or replace(found, latest=seen.latest) != seen:
        return True
    return found.latest - seen.latest >= 60_000


def read_bundle(path: Path) -> bytes:
    """The bytes of a trust bundle, unverified. Raises InputError `trust.missing`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise InputError("trust.missing", f"Cannot read {path}: {error.strerror}.") from error
