"""Trust bundles: what a machine without a workspace needs to decide as the workspace would.

Promise: a verdict under a bundle is the verdict of the workspace at the bundle's checkpoint, and
after `expires` there is none. A bundle is a DSSE envelope of a payload type of its own, signed by
the gate's key: the key whose word lets models be loaded, so that nobody gains a power by signing
bundles that admissions did not give already. Inside are the policy file, the workspace's public
keys, the checkpoint of its ledger, and every statement that decides with the proof that it is an
entry under that checkpoint.

Pure: bytes, a clock value and what was seen before go in, a value comes out.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.core.subject import Subject
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.dsse import Envelope, sign_envelope, verify_envelope
from keepstone.evidence.fields import Fields
from keepstone.evidence.predicates import Scan
from keepstone.evidence.standing import Denial
from keepstone.evidence.verify import Evidence, EvidenceBase
from keepstone.identity.signing import SigningKey, VerifyingKey, parse_public_pem
from keepstone.ledger.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    check_origin,
    strict_b64,
    verify_checkpoint,
)
from keepstone.ledger.entry import MAX_ENTRY
from keepstone.ledger.tree import MAX_PATH, leaf_hash, verify_inclusion
from keepstone.policy.engine import Engine
from keepstone.policy.gate import Verdict, gate
from keepstone.policy.parse import DAY_MS, MAX_POLICY_BYTES, parse_policy
from keepstone.policy.permission import SEAL as _PERMISSION
from keepstone.policy.permission import Permission
from keepstone.policy.trust import Trust

SCHEMA = "keepstone.trust/v1"
PAYLOAD_TYPE = "application/vnd.keepstone.trust+json"
MAX_BUNDLE = 32 << 20
MAX_STATEMENTS = 20_000
MAX_LIFETIME_MS = 90 * DAY_MS
_MALFORMED = "trust.malformed"
_VERSION = re.compile(r"keepstone\.trust/v[0-9]+\Z")
_MAX_PEM = 4096
_AGAIN = "Get a newer one from the workspace: `keepstone trust export`."
_SEAL = object()


@dataclass(frozen=True, slots=True)
class Logged:
    """A statement entry of the ledger, and the path that proves it to be under the checkpoint."""

    index: int
    body: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a bundle. Times in ms; `note` is the signed checkpoint."""

    origin: str
    issued: int
    expires: int
    observer: VerifyingKey
    gate: VerifyingKey
    ledger: VerifyingKey
    policy: bytes
    note: str
    statements: tuple[Logged, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest bundle of an origin that a machine used, whose key signed it, and the latest
    time (ms) at which it used one."""

    origin: str
    key_id: str
    size: int
    root: Digest
    issued: int
    latest: int


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """A bundle that was verified, and what follows from it. Made by `verify_bundle` alone.

    Each question takes the `now` (ms) at which it is asked, and outside of the bundle's time the
    answer is no: VerificationError `trust.not_yet` or `trust.expired`. `opened` is the time at
    which it was verified; nothing is answered for an earlier one.
    """

    digest: Digest
    origin: str
    key_id: str
    issued: int
    expires: int
    opened: int
    checkpoint: Checkpoint
    trust: Trust
    evidence: EvidenceBase
    engine: Engine = field(repr=False)
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise VerificationError(
                "trust.unverified", "A trust bundle is verified, never made by hand."
            )

    def seen(self) -> Seen:
        """What a machine that uses this bundle has to remember."""
        root = Digest(self.checkpoint.root.hex())
        size = self.checkpoint.size
        return Seen(self.origin, self.key_id, size, root, self.issued, self.opened)

    def revoked(self, artifact: Digest, now: int) -> Denial | None:
        """The newest revocation that stands against an artifact, if there is one."""
        return self.evidence.denied(artifact, self._steady(now))

    def about(self, subject: Subject, now: int) -> Evidence:
        """Which statements about `subject` are live, and why others are not."""
        return self.evidence.about(subject.digest, subject.name, self._steady(now))

    def verdict(self, subject: Subject, endpoint: str, now: int) -> Verdict:
        """What the workspace's policy says about `subject`."""
        return gate(self.engine, self.trust, self.about(subject, now), endpoint)

    def permit(self, subject: Subject, endpoint: str, now: int) -> Permission:
        """Let `subject` be loaded if the policy says yes, for no longer than the bundle lasts.

        Raises DeniedError `gate.revoked` or `gate.denied`, and as `Verdict.require`.
        """
        verdict = self.verdict(subject, endpoint, now).require()
        scans = [item.predicate for item in self.about(subject, now).of(Scan.kind)]
        formats = [scan.format for scan in scans if isinstance(scan, Scan)]
        return Permission(
            subject=subject,
            endpoint=endpoint,
            # A policy that asks for no scan leaves the format unknown: nothing loads it.
            format=formats[-1] if formats else "unknown",
            bundle=self.digest,
            policy=verdict.policy,
            evidence=verdict.evidence,
            issued=verdict.now,
            expires=min(verdict.expires, self.expires),
            _seal=_PERMISSION,
        )

    def names_of(self, artifact: Digest) -> tuple[str, ...]:
        """The names under which the workspace scanned an artifact, in the order of the ledger."""
        scans = (item for item in self.evidence.statements if item.kind == Scan.kind)
        return tuple(
            dict.fromkeys(item.subject.name for item in scans if item.subject.digest == artifact)
        )

    def _steady(self, now: int) -> int:
        _require_time(self.issued, self.expires, now, max(now, self.opened))
        return max(now, self.opened)


def check_lifetime(lifetime_ms: int) -> None:
    """Return if a bundle may live so long, else raise InputError `trust.lifetime`."""
    if not 0 < lifetime_ms <= MAX_LIFETIME_MS:
        raise InputError(
            "trust.lifetime",
            f"A trust bundle lives at most {MAX_LIFETIME_MS // DAY_MS} days.",
            "Ask for a shorter life, and export it again in time.",
        )


def make_bundle(contents: Contents, key: SigningKey) -> bytes:
    """Sign a bundle with the gate's key, read back to be sure.

    Raises InputError `trust.lifetime`, `trust.too_large`; VerificationError as `verify_bundle`.
    """
    check_lifetime(contents.expires - contents.issued)
    payload = canonical(
        {
            "schema": SCHEMA,
            "origin": contents.origin,
            "issued": rfc3339(contents.issued),
            "expires": rfc3339(contents.expires),
            "keys": {
                "observer": contents.observer.pem.decode("ascii"),
                "gate": contents.gate.pem.decode("ascii"),
                "ledger": contents.ledger.pem.decode("ascii"),
            },
            "policy": _text(contents.policy),
            "checkpoint": contents.note,
            "statements": [
                {
                    "index": item.index,
                    "body": _text(item.body),
                    "path": [_text(one) for one in item.path],
                }
                for item in contents.statements
            ],
        }
    )
    data = sign_envelope(PAYLOAD_TYPE, payload, key).to_json()
    if len(data) > MAX_BUNDLE or len(contents.statements) > MAX_STATEMENTS:
        raise InputError(
            "trust.too_large",
            f"The trust bundle would hold {len(contents.statements)} statements"
            f" and {len(data):,} bytes.",
            "Export it for the models that the other machine loads: --model NAME.",
        )
    verify_bundle(data, now=contents.issued, key_id=key.key_id)
    return data


def verify_bundle(
    data: bytes,
    *,
    now: int,
    key_id: str,
    seen: Seen | None = None,
    max_age_ms: int | None = None,
) -> TrustBundle:
    """Return the bundle if the key `key_id` signed it and nothing speaks against using it now.

    (1) DSSE envelope v1: strict form, and the payload type of a trust bundle.
    (2) The schema is one this build reads.
    (3) The gate's key inside has the id `key_id`, and DSSE's protocol verifies with it.
    (4) The content parses strictly; what the policy and the keys say fits together.
    (5) C2SP tlog-checkpoint: the ledger's key inside signed the checkpoint, for this origin.
    (6) RFC 9162 2.1.3.2: every statement is an entry of the tree of that checkpoint.
    (7) It is of the origin that was seen before, signed by the same key, and no older: neither
        its ledger nor its time. At the same size its tree is the same.
    (8) It was issued by now, lives no longer than a bundle may, has not expired, and is not
        older than `max_age_ms`. A clock that was set back does not count: expiry and age go by
        the latest time at which one was used, if that is later than `now`.
    (9) No revocation that it carries ends the key that signed it.

    Raises InputError `trust.malformed`, `trust.newer_version`, `trust.too_large` and what strict
    parsing raises (`envelope.*`, `json.*`, `policy.*`, `key.*`, `checkpoint.malformed`);
    VerificationError `trust.wrong_key`, `signature.*`, `checkpoint.*`, `proof.invalid`,
    `trust.wrong_origin`, `trust.rolled_back`, `trust.forked`, `trust.not_yet`, `trust.expired`,
    `trust.too_long`, `trust.stale`, `trust.key_revoked`.
    """
    # (1) DSSE envelope v1, and (2) the schema.
    envelope, fields = _open(data)
    keys = fields.inner("keys")
    key = _public(keys, "gate")
    # (3) The key that the caller trusts, and no other, and DSSE protocol, verification.
    if key.key_id != key_id:
        raise VerificationError(
            "trust.wrong_key",
            f"The trust bundle is signed by the key {key.key_id[:16]}, not by {key_id[:16]}.",
            "Compare the key with what the workspace's operator gave you.",
        )
    verify_envelope(envelope, {key.key_id: key})
    # (4) Strict content.
    origin, issued, expires = _origin(fields), fields.time("issued"), fields.time("expires")
    policy = parse_policy(_bytes(fields, "policy", MAX_POLICY_BYTES))
    trust = Trust.of(policy, observer=_public(keys, "observer"), gate=key)
    ledger = _public(keys, "ledger")
    note = fields.text("checkpoint", MAX_NOTE)
    statements = _statements(fields.items("statements", MAX_STATEMENTS))
    keys.done()
    fields.done()
    # (5) C2SP tlog-checkpoint.
    checkpoint = verify_checkpoint(note, origin, [ledger])
    # (6) RFC 9162 2.1.3.2.
    for item in statements:
        leaf = leaf_hash(item.body)
        verify_inclusion(leaf, item.index, checkpoint.size, item.path, checkpoint.root)
    # (7) No older than the last one seen.
    if seen is not None:
        _require_newer(origin, key, checkpoint, issued, seen)
    # (8) Time.
    steady = now if seen is None else max(now, seen.latest)
    _require_time(issued, expires, now, steady)
    if max_age_ms is not None and steady - issued > max_age_ms:
        raise VerificationError(
            "trust.stale", f"The trust bundle is of {rfc3339(issued)}: too old.", _AGAIN
        )
    # (9) No revocation inside ends the key that signed it.
    evidence = EvidenceBase.build(
        ((item.index, item.body) for item in statements), trust.signers, trust.rights
    )
    if key.key_id in evidence.revoked_keys:
        raise VerificationError(
            "trust.key_revoked",
            f"The key {key.key_id[:16]} that signed the trust bundle is revoked.",
            "Ask the workspace's operator for a bundle under another key.",
        )
    return TrustBundle(
        digest=envelope.payload_digest,
        origin=origin,
        key_id=key.key_id,
        issued=issued,
        expires=expires,
        opened=steady,
        checkpoint=checkpoint,
        trust=trust,
        evidence=evidence,
        engine=Engine(policy),
        _seal=_SEAL,
    )


def claimed_origin(data: bytes) -> str:
    """The origin that a bundle claims, *unverified*: to look up what was seen of it before.

    Raises as steps (1) and (2) of `verify_bundle`.
    """
    return _origin(_open(data)[1])


def _require_newer(
    origin: str, key: VerifyingKey, checkpoint: Checkpoint, issued: int, seen: Seen
) -> None:
    if (origin, key.key_id) != (seen.origin, seen.key_id):
        raise VerificationError(
            "trust.wrong_origin",
            f"The trust bundle is of {origin}, not what was seen of {seen.origin}.",
        )
    if checkpoint.size < seen.size or issued < seen.issued:
        raise VerificationError(
            "trust.rolled_back",
            f"The trust bundle is older than the last one seen: {checkpoint.size} entries of"
            f" {rfc3339(issued)}, after {seen.size} of {rfc3339(seen.issued)}.",
            _AGAIN,
        )
    if checkpoint.size == seen.size and checkpoint.root.hex() != seen.root.hex:
        raise VerificationError(
            "trust.forked",
            f"The ledger of {origin} had another history of {seen.size} entries before.",
            "Ask the workspace's operator which one is theirs: `keepstone ledger verify`.",
        )


def _require_time(issued: int, expires: int, now: int, steady: int) -> None:
    if now < issued:
        raise VerificationError(
            "trust.not_yet",
            f"The trust bundle is of {rfc3339(issued)}, which is later than now.",
            "Set this machine's clock.",
        )
    if expires - issued > MAX_LIFETIME_MS:
        raise VerificationError(
            "trust.too_long", "The trust bundle claims a longer life than one may have.", _AGAIN
        )
    if steady >= expires:
        raise VerificationError(
            "trust.expired", f"The trust bundle expired at {rfc3339(expires)}.", _AGAIN
        )


def _open(data: bytes) -> tuple[Envelope, Fields]:
    """The envelope and its payload, whose schema is ours; nothing is verified yet."""
    if len(data) > MAX_BUNDLE:
        raise InputError("trust.too_large", f"The trust bundle is larger than {MAX_BUNDLE} bytes.")
    envelope = Envelope.parse(data, limit=MAX_BUNDLE)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(_MALFORMED, f"The envelope does not hold a {PAYLOAD_TYPE}.")
    fields = Fields(parse_json(envelope.payload, limit=MAX_BUNDLE), "trust bundle", _MALFORMED)
    schema = fields.text("schema")
    if schema == SCHEMA:
        return envelope, fields
    if _VERSION.match(schema):
        raise InputError(
            "trust.newer_version",
            f"The trust bundle is {schema[:64]}, and this build reads {SCHEMA}.",
            "Upgrade Keepstone.",
        )
    raise fields.fault("schema", f"is not {SCHEMA}")


def _origin(fields: Fields) -> str:
    return check_origin(fields.line("origin", 255))


def _public(keys: Fields, role: str) -> VerifyingKey:
    return parse_public_pem(keys.text(role, _MAX_PEM).encode("utf-8"))


def _statements(items: Sequence[Any]) -> tuple[Logged, ...]:
    found = tuple(_logged(Fields(item, "trust bundle's statement", _MALFORMED)) for item in items)
    places = [item.index for item in found]
    # One order, and nothing twice: two bundles of one content are one text.
    if places != sorted(set(places)):
        raise InputError(_MALFORMED, "The trust bundle's statements are out of order.")
    return found


def _logged(fields: Fields) -> Logged:
    hashes = fields.items("path", MAX_PATH)
    path = tuple(_bytes(Fields({"hash": one}, "path", _MALFORMED), "hash", 32) for one in hashes)
    found = Logged(fields.integer("index"), _bytes(fields, "body", MAX_ENTRY), path)
    fields.done()
    return found


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _bytes(fields: Fields, name: str, limit: int) -> bytes:
    try:
        return strict_b64(fields.text(name, limit * 2))
    except InputError as error:
        raise fields.fault(name, "is not base64") from error


__all__ = [
    "MAX_BUNDLE",
    "MAX_LIFETIME_MS",
    "SCHEMA",
    "Contents",
    "Logged",
    "Seen",
    "TrustBundle",
    "check_lifetime",
    "claimed_origin",
    "make_bundle",
    "verify_bundle",
]
