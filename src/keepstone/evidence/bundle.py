"""A Sigstore bundle v0.3, read strictly: one DSSE signature, and what it can be verified with.

Nothing is decided here. A bundle carries either a hint at a public key, a chain of certificates,
or one certificate (as keyless signing leaves it); transparency log entries are kept as they came.

Source: Sigstore bundle v0.3 (sigstore/protobuf-specs, `sigstore_bundle.proto`).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope, Signed
from keepstone.evidence.fields import Fields
from keepstone.evidence.manifest import MAX_BUNDLE

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MALFORMED = "bundle.malformed"
# No chain that `identity.certificates` verifies is longer.
_MAX_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds. `chain` are its certificates (DER), the signer's first.

    `keyless` says that there are transparency log entries, or time stamps, beside it. `data`
    are the bytes that all this was read from.
    """

    envelope: Envelope
    hint: str | None
    chain: tuple[bytes, ...]
    keyless: bool
    data: bytes

    @property
    def signed(self) -> Signed:
        return self.envelope.signatures[0]


def read_bundle(data: bytes) -> Bundle:
    """Read a bundle. Raises InputError `bundle.malformed`, `envelope.malformed`, `json.*`."""
    fields = Fields(parse_json(data, limit=MAX_BUNDLE), "bundle", MALFORMED)
    if fields.text("mediaType") != MEDIA_TYPE:
        raise fields.fault("mediaType", f"is not {MEDIA_TYPE}")
    material = fields.inner("verificationMaterial")
    # They count only where keyless signing is verified, which reads them from the bytes.
    beside = [material.maybe("tlogEntries"), material.maybe("timestampVerificationData")]
    given = [
        name
        for name in ("publicKey", "x509CertificateChain", "certificate")
        if material.maybe(name) is not None
    ]
    if len(given) != 1:
        raise material.fault("publicKey", "or a certificate must be there, and only one of them")
    hint: str | None = None
    chain: tuple[bytes, ...] = ()
    if given == ["publicKey"]:
        hint = _read_hint(material.inner("publicKey"))
    elif given == ["certificate"]:
        chain = (_read_certificate(material.inner("certificate")),)
    else:
        chain = _read_chain(material.inner("x509CertificateChain"))
    envelope = Envelope.from_dict(fields.raw("dsseEnvelope"))
    for part in (material, fields):
        part.done()
    if len(envelope.signatures) != 1:
        raise InputError(MALFORMED, "A bundle carries exactly one signature.")
    return Bundle(envelope, hint, chain, any(beside), data)


def bundle_dict(envelope: Envelope, hint: str, chain: tuple[bytes, ...] = ()) -> dict[str, Any]:
    """A bundle as JSON has it: with the chain of certificates, or else the hint at the key."""
    material: dict[str, Any] = {"publicKey": {"hint": hint}}
    if chain:
        certificates = [{"rawBytes": base64.b64encode(der).decode("ascii")} for der in chain]
        material = {"x509CertificateChain": {"certificates": certificates}}
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material | {"tlogEntries": []},
        "dsseEnvelope": envelope.to_dict(),
    }


def _read_hint(public: Fields) -> str | None:
    hint = public.maybe("hint")
    if not isinstance(hint, str | None):
        raise public.fault("hint", "is not a text")
    # Written by releases before 1.0; the key that counts is the caller's.
    public.maybe("rawBytes")
    public.maybe("keyDetails")
    public.done()
    return hint


def _read_chain(fields: Fields) -> tuple[bytes, ...]:
    items = fields.items("certificates", _MAX_CHAIN)
    if not items:
        raise fields.fault("certificates", "is empty")
    fields.done()
    return tuple(_read_certificate(Fields(item, "certificate", MALFORMED)) for item in items)


def _read_certificate(fields: Fields) -> bytes:
    text = fields.text("rawBytes", 1 << 16)
    fields.done()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.fault("rawBytes", "is not base64") from error
