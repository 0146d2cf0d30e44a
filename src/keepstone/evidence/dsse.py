"""DSSE v1 envelopes: a payload, its type, and signatures over both.

The payload stays the opaque bytes that were signed; it is never written anew to be verified.
A key id inside an envelope is a hint that nobody signed: it chooses which known key is tried,
and an id counts only after that very key has verified.

Source: https://github.com/secure-systems-lab/dsse (protocol v1.0.2, envelope v1.0.2).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.fields import Fields
from keepstone.identity.signing import Signatory, VerifyingKey

MAX_ENVELOPE = 1 << 20
MAX_SIGNATURES = 16
_MALFORMED = "envelope.malformed"


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed (DSSE protocol, PAE): lengths first, so nothing can shift."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature and the key id that somebody wrote beside it."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    payload_type: str
    payload: bytes
    signatures: tuple[Signed, ...]

    @property
    def payload_digest(self) -> Digest:
        """The digest of what was signed, whoever signed it and however it was wrapped."""
        return Digest.of(pae(self.payload_type, self.payload))

    @property
    def digest(self) -> Digest:
        """The digest of the canonical envelope: white space and member order do not count."""
        return Digest.of(self.to_json())

    def to_dict(self) -> dict[str, Any]:
        return {
            "payload": base64.b64encode(self.payload).decode("ascii"),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": one.key_id, "sig": base64.b64encode(one.signature).decode("ascii")}
                for one in self.signatures
            ],
        }

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return canonical(self.to_dict())

    @classmethod
    def from_dict(cls, value: Any) -> Envelope:
        """Read an envelope from parsed JSON. Raises InputError `envelope.malformed`."""
        fields = Fields(value, "DSSE envelope", _MALFORMED)
        payload_type = fields.line("payloadType", 256)
        payload = _base64(fields, "payload")
        signatures = tuple(
            _signed(Fields(item, "DSSE signature", _MALFORMED))
            for item in fields.items("signatures", MAX_SIGNATURES)
        )
        fields.done()
        if not signatures:
            raise InputError(_MALFORMED, "The envelope carries no signature.")
        if len({one.key_id for one in signatures}) != len(signatures):
            raise InputError(_MALFORMED, "The envelope names one key id twice.")
        return cls(payload_type, payload, signatures)

    @classmethod
    def parse(cls, data: bytes, *, limit: int = MAX_ENVELOPE) -> Envelope:
        """Read an envelope strictly: no unknown or doubled member, canonical base64 only.

        Raises InputError `envelope.malformed` or `json.*`.
        """
        return cls.from_dict(parse_json(data, limit=limit))


def _base64(fields: Fields, name: str) -> bytes:
    text = fields.raw(name)
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        data = None
    # Comparing the way back refuses stray bits in the last character: one payload, one text.
    if data is None or base64.b64encode(data).decode("ascii") != text:
        raise fields.fault(name, "is not base64")
    return data


def _signed(fields: Fields) -> Signed:
    key_id = fields.maybe("keyid")
    if key_id is None:
        key_id = ""
    elif not isinstance(key_id, str) or len(key_id) > 256 or not key_id.isascii():
        raise fields.fault("keyid", "is not a short ASCII text")
    value = Signed(key_id, _base64(fields, "sig"))
    fields.done()
    return value


def sign_envelope(payload_type: str, payload: bytes, key: Signatory) -> Envelope:
    """Sign `payload` as `payload_type` with one key."""
    return Envelope(
        payload_type, payload, (Signed(key.key_id, key.sign(pae(payload_type, payload))),)
    )


def add_signature(envelope: Envelope, key: Signatory) -> Envelope:
    """Return the envelope with one more signature over the same bytes.

    Raises InputError `envelope.malformed` if that key already signed, or past 16 signatures.
    """
    more = sign_envelope(envelope.payload_type, envelope.payload, key).signatures
    return Envelope.from_dict(
        Envelope(envelope.payload_type, envelope.payload, envelope.signatures + more).to_dict()
    )


def verify_envelope(envelope: Envelope, keys: Mapping[str, VerifyingKey]) -> tuple[str, ...]:
    """Return the ids of the known keys whose signature holds: at least one.

    (1) DSSE protocol, verification 2-4: each signature is tried with the one key that its key
        id names among `keys`; ids nobody knows are skipped.
    (2) DSSE protocol, verification 5: at least one holds.

    Raises VerificationError: `signature.unknown_key` if no key id is known, `signature.invalid`
    if known keys are named and none of their signatures holds.
    """
    message = pae(envelope.payload_type, envelope.payload)
    verified: list[str] = []
    failed: VerificationError | None = None
    # (1) DSSE protocol, verification 2-4.
    for one in envelope.signatures:
        key = keys.get(one.key_id)
        # The map's own label is not trusted either: the key must be the one that was named.
        if key is None or key.key_id != one.key_id:
            continue
        try:
            key.verify(one.signature, message)
        except VerificationError as error:
            failed = error
        else:
            verified.append(key.key_id)
    # (2) DSSE protocol, verification 5.
    if verified:
        return tuple(verified)
    if failed is not None:
        raise failed
    raise unknown_key()


def unknown_key() -> VerificationError:
    return VerificationError(
        "signature.unknown_key",
        "None of the keys that signed this is known.",
        "Add the signer's public key to the policy file if you trust it.",
    )
