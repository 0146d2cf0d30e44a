"""Keyless Sigstore signatures, offline: an identity instead of a key, against a given root.

Whoever signs proves an identity to an authority (Fulcio), gets a certificate for ten minutes, and
the signature goes into a public log (Rekor). What is trusted is one file, `trusted_root.json`: the
authority's certificates and the logs' keys. The library `sigstore` verifies; nothing is fetched.

Sources: Sigstore client specification (verification), bundle v0.3, trusted root v0.1; RFC 6962
(certificate timestamps, inclusion proofs).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.evidence.bundle import Bundle
from keepstone.evidence.signedby import SignedBy, other_kind, verify_signature
from keepstone.identity.certificates import parse_der_certificate
from keepstone.identity.signing import VerifyingKey

MAX_TRUSTED_ROOT = 1 << 20
# Whatever of these is in a trusted root, with the path to when it may be used.
_ROLES: Mapping[str, tuple[str, ...]] = {
    "tlogs": ("publicKey", "validFor"),
    "ctlogs": ("publicKey", "validFor"),
    "certificateAuthorities": ("validFor",),
    "timestampAuthorities": ("validFor",),
}


@dataclass(frozen=True, slots=True)
class Keyless:
    """Whoever proved `identity` to `issuer`, as the authority and logs of a trusted root say.

    Neither may be empty: an identity that any issuer may claim is nobody's.
    """

    trusted_root: bytes = field(repr=False)
    identity: str
    issuer: str

    def __post_init__(self) -> None:
        if not self.identity.strip() or not self.issuer.strip():
            raise InputError(
                "keyless.no_identity",
                "A keyless signature counts for an identity and its issuer, and both are needed.",
                "Give --identity and --identity-provider.",
            )

    def verify(self, bundle: Bundle) -> SignedBy:
        """Return who signed, if it is this identity.

        (1) Sigstore bundle v0.3: one certificate, one log entry, in the form that the library
            reads and that we read: both must see the same envelope and certificate.
        (2) Client specification, 1: the time of signing is the log's promise, or a time stamp of
            a trusted authority; what the trusted root lets end before that time does not count.
        (3) RFC 5280 6.1, at that time: an authority of the root issued the certificate, for
            signing code. RFC 6962 3.2: a certificate log promised to list it.
        (4) The certificate's name is `identity`, and its issuer extension is `issuer`.
        (5) RFC 6962 2.1.1: the entry is in the log, under a checkpoint that the log signed; the
            entry is about this payload, signature and certificate.
        (6) The certificate's key signed the envelope.

        Raises VerificationError `keyless.refused`, `certificate.other_identity`,
        `signature.invalid`, `signature.other_kind`; InputError `keyless.bad_root`;
        OperationalError `extra.sigstore`.
        """
        # (1) What other kinds of signature look like is told apart before.
        if len(bundle.chain) != 1 or not bundle.keyless:
            raise other_kind("It is in no log, or has no certificate of its own.")
        sigstore = _library()
        # (2)-(5) are the library's; the policy that it asks is ours.
        expected = _Named(sigstore, self.identity, self.issuer)
        try:
            theirs = sigstore.models.Bundle.from_json(bundle.data)
            root = self._root(sigstore, _times(theirs))
            verifier = sigstore.verify.Verifier(trusted_root=root)
            kind, payload = verifier.verify_dsse(theirs, expected)
            certificate = theirs.signing_certificate.public_bytes(Encoding.DER)
        except _faults(sigstore) as error:
            raise _refused(error) from error
        seen = (bundle.envelope.payload_type, bundle.envelope.payload, bundle.chain[0])
        if (kind, payload, certificate) != seen:
            raise VerificationError("keyless.refused", "Two readers see two different bundles.")
        # (6) Once more by ourselves: the library hashes with SHA-256 whatever the curve.
        public = parse_der_certificate(bundle.chain[0]).public_key()
        key = VerifyingKey.of(public)  # type: ignore[arg-type]  # of() refuses other kinds
        verify_signature(bundle, key)
        return SignedBy(key.key_id, self.identity, self.issuer)

    def _root(self, sigstore: Any, times: tuple[datetime, ...]) -> Any:
        kept = root_at(self.trusted_root, times)
        try:
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                file.write(kept)
                file.flush()
                return sigstore.models.TrustedRoot.from_file(file.name)
        except _faults(sigstore) as error:
            raise _bad_root("it is not one that Sigstore's library reads") from error


class _Named:
    """The library's policy for a certificate, whose refusal we can tell from all others."""

    def __init__(self, sigstore: Any, identity: str, issuer: str) -> None:
        self._policy = sigstore.verify.policy.Identity(identity=identity, issuer=issuer)
        self._refusal = sigstore.errors.VerificationError
        self._who = f"{identity} as {issuer} knows it"

    def verify(self, certificate: x509.Certificate) -> None:
        try:
            self._policy.verify(certificate)
        except (self._refusal, x509.ExtensionNotFound) as error:
            raise VerificationError(
                "certificate.other_identity",
                f"The certificate is not for {self._who[:300]}.",
                "Look who signed it, and whom you expect.",
            ) from error


def root_at(trusted_root: bytes, times: Sequence[datetime]) -> bytes:
    """The trusted root with only what was in use at every one of `times`.

    A log's key that was replaced because it leaked must not vouch for what is signed later; the
    library itself takes any key that the root ever held. Raises InputError `keyless.bad_root`.
    """
    try:
        document = parse_json(trusted_root, limit=MAX_TRUSTED_ROOT)
    except InputError as error:
        raise _bad_root("it is not strict JSON") from error
    if not isinstance(document, dict):
        raise _bad_root("it is not a JSON object")
    for role, path in _ROLES.items():
        listed = document.get(role, [])
        if not isinstance(listed, list):
            raise _bad_root(f"`{role}` is not a list")
        document[role] = [one for one in listed if all(_in_use(one, path, at) for at in times)]
    return json.dumps(document).encode("utf-8")


def _in_use(one: Any, path: tuple[str, ...], moment: datetime) -> bool:
    for step in path:
        one = one.get(step) if isinstance(one, dict) else None
    if not isinstance(one, dict):
        # Nothing says when: it was not meant to end.
        return True
    try:
        begins, ends = (
            None if one.get(name) is None else datetime.fromisoformat(str(one[name]))
            for name in ("start", "end")
        )
        return (begins is None or begins <= moment) and (ends is None or moment <= ends)
    except (ValueError, TypeError) as error:
        raise _bad_root("it says no time when a key may be used") from error


def _times(theirs: Any) -> tuple[datetime, ...]:
    """When it was signed, as the log and time stamp authorities are said to have said.

    Read from what the library understood: in its JSON a member has two spellings, and one that
    we missed would be a time that we did not ask about.
    """
    (entry,) = json.loads(theirs.to_json())["verificationMaterial"]["tlogEntries"]
    times = [] if not entry.get("integratedTime") else [int(entry["integratedTime"])]
    found = [datetime.fromtimestamp(seconds, UTC) for seconds in times]
    stamps = theirs.verification_material.timestamp_verification_data
    if stamps is not None:
        found += [stamp.tst_info.gen_time for stamp in stamps.rfc3161_timestamps]
    if not found:
        raise VerificationError("keyless.refused", "Nothing says when it was signed.")
    return tuple(found)


def _library() -> Any:
    try:
        import sigstore
        import sigstore.errors
        import sigstore.models
        import sigstore.verify
        import sigstore.verify.policy
    except ImportError as error:
        raise OperationalError(
            "extra.sigstore",
            "Keyless signatures need the extra `sigstore`, which is not installed.",
            "pip install 'keepstone[sigstore]'",
        ) from error
    return sigstore


def _faults(sigstore: Any) -> tuple[type[Exception], ...]:
    """What the library raises for what it is given: its own errors, and those of its parsers."""
    return (
        sigstore.errors.Error,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        x509.ExtensionNotFound,
    )


def _refused(error: Exception) -> VerificationError:
    return VerificationError(
        "keyless.refused",
        f"The keyless signature does not verify: {str(error)[:300].rstrip('.')}.",
        "Get model and signature again, and look whether the trusted root is the right one.",
    )


def _bad_root(why: str) -> InputError:
    return InputError(
        "keyless.bad_root",
        f"The trusted root cannot be used: {why}.",
        "Give Sigstore's trusted_root.json, or that of your own instance.",
    )
