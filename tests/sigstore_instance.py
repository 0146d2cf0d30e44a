"""A Sigstore of our own: an authority, a certificate log and a transparency log, in memory.

It signs as Fulcio and Rekor do, and as wrongly as is asked for. Nothing of it is a server.
Sources: RFC 6962 3.2 (SCT), Rekor's `dsse` entry v0.0.1, C2SP tlog-checkpoint.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keepstone.core.digest import FileDigest
from keepstone.evidence.dsse import Envelope, Signed, pae
from keepstone.evidence.modelsign import sign_files
from keepstone.evidence.statement import PAYLOAD_TYPE
from keepstone.identity.signing import SigningKey
from tests.pki import Holder, authority, make

ISSUER = "https://issuer.example"
IDENTITY = "ci@example.org"
SIGNED_AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def log_id(key: SigningKey) -> bytes:
    return sha256(key.verifying.spki).digest()


@dataclass
class Ask:
    """What to do, and what to do wrong."""

    identity: str = IDENTITY
    issuer: str | None = ISSUER
    at: datetime = SIGNED_AT
    # When the log says that it got the entry, if not while the certificate lived.
    logged_at: datetime | None = None
    ct_key: SigningKey | None = None
    rekor_key: SigningKey | None = None
    promise_key: SigningKey | None = None
    issued_by: Holder | None = None
    without_sct: bool = False
    purposes: Any = None


@dataclass
class Sigstore:
    root: Holder = field(default_factory=lambda: authority("Fulcio root", ends=_late()))
    ct: SigningKey = field(default_factory=SigningKey.generate)
    rekor: SigningKey = field(default_factory=SigningKey.generate)
    rekor_ends: datetime | None = None
    authority_ends: datetime | None = None
    issues: Holder | None = None

    def __post_init__(self) -> None:
        self.issues = self.issues or authority("Fulcio", self.root, ends=_late())

    @property
    def fulcio(self) -> Holder:
        assert self.issues is not None
        return self.issues

    def trusted_root(self) -> bytes:
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [self._log("https://rekor.example", self.rekor, self.rekor_ends)],
                "ctlogs": [self._log("https://ct.example", self.ct, None)],
                "certificateAuthorities": [
                    {
                        "subject": {"organization": "example", "commonName": "Fulcio"},
                        "uri": "https://fulcio.example",
                        "certChain": {
                            "certificates": [
                                {"rawBytes": b64(one.der)} for one in (self.fulcio, self.root)
                            ]
                        },
                        "validFor": _period(self.authority_ends),
                    }
                ],
                "timestampAuthorities": [],
            }
        ).encode()

    def _log(self, url: str, key: SigningKey, ends: datetime | None) -> dict[str, Any]:
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(key.verifying.spki),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": _period(ends),
            },
            "logId": {"keyId": b64(log_id(key))},
        }

    def sign(self, files: tuple[FileDigest, ...], ask: Ask | None = None) -> bytes:
        """A keyless bundle over `files`, logged."""
        ask = ask or Ask()
        holder = self._certify(SigningKey.generate(), ask)
        plain = json.loads(sign_files(files, "model", holder.key))
        payload = base64.b64decode(plain["dsseEnvelope"]["payload"])
        signature = holder.key.sign(pae(PAYLOAD_TYPE, payload))
        envelope = Envelope(PAYLOAD_TYPE, payload, (Signed("", signature),))
        return json.dumps(
            {
                "mediaType": plain["mediaType"],
                "verificationMaterial": {
                    "certificate": {"rawBytes": b64(holder.der)},
                    "tlogEntries": [self.entry(envelope, holder, ask)],
                },
                "dsseEnvelope": envelope.to_dict(),
            }
        ).encode()

    def _certify(self, key: SigningKey, ask: Ask) -> Holder:
        """A certificate for ten minutes, with the certificate log's promise inside."""
        wishes: dict[str, Any] = {
            "names": (x509.RFC822Name(ask.identity),),
            "begins": ask.at - timedelta(minutes=1),
            "ends": ask.at + timedelta(minutes=9),
        }
        if ask.purposes is not None:
            wishes["purposes"] = ask.purposes
        issued = []
        if ask.issuer is not None:
            said = x509.UnrecognizedExtension(_ISSUER_OID, ask.issuer.encode())
            issued.append((said, False))
        issuer = ask.issued_by or self.fulcio
        # The log promises over the certificate as it is before its promise is put inside.
        wishes |= {"key": key, "serial": x509.random_serial_number()}
        before = make("", issuer, extra=issued, **wishes)
        if ask.without_sct:
            return before
        sct = self._sct(before, issuer, ask)
        return make("", issuer, extra=[*issued, (sct, False)], **wishes)

    def _sct(self, before: Holder, issuer: Holder, ask: Ask) -> x509.UnrecognizedExtension:
        key = ask.ct_key or self.ct
        stamp = int(ask.at.timestamp() * 1000)
        tbs = before.certificate.tbs_certificate_bytes
        spki = issuer.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        # RFC 6962 3.2: version, type, time, entry type, issuer's key, certificate, extensions.
        head = struct.pack("!BBQH", 0, 0, stamp, 1) + sha256(spki).digest()
        signed = head + len(tbs).to_bytes(3, "big") + tbs + b"\0\0"
        signature = key.sign(signed)
        sct = (
            b"\0"
            + log_id(key)
            + struct.pack("!QH", stamp, 0)
            + b"\x04\x03"
            + struct.pack("!H", len(signature))
            + signature
        )
        listed = struct.pack("!H", len(sct)) + sct
        content = struct.pack("!H", len(listed)) + listed
        long = b"\x81" if len(content) > 0x7F else b""
        octets = b"\x04" + long + bytes([len(content)]) + content
        return x509.UnrecognizedExtension(_SCT_OID, octets)

    def entry(self, envelope: Envelope, holder: Holder, ask: Ask) -> dict[str, Any]:
        """The transparency log's entry: second of two leaves, under a signed checkpoint."""
        body = rfc8785.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": envelope.digest.hex},
                    "payloadHash": {
                        "algorithm": "sha256",
                        "value": sha256(envelope.payload).hexdigest(),
                    },
                    "signatures": [
                        {
                            "signature": b64(envelope.signatures[0].signature),
                            "verifier": b64(holder.pem),
                        }
                    ],
                },
            }
        )
        rekor = ask.rekor_key or self.rekor
        sibling = sha256(b"\0another entry").digest()
        root = sha256(b"\1" + sibling + sha256(b"\0" + body).digest()).digest()
        note = f"rekor.example - 1\n2\n{b64(root)}\n"
        line = b64(log_id(self.rekor)[:4] + rekor.sign(note.encode()))
        time = int((ask.logged_at or ask.at).timestamp())
        promised = rfc8785.dumps(
            {
                "body": b64(body),
                "integratedTime": time,
                "logID": log_id(self.rekor).hex(),
                "logIndex": 1,
            }
        )
        return {
            "logIndex": "1",
            "logId": {"keyId": b64(log_id(self.rekor))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {
                "signedEntryTimestamp": b64((ask.promise_key or rekor).sign(promised))
            },
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": b64(root),
                "treeSize": "2",
                "hashes": [b64(sibling)],
                "checkpoint": {"envelope": f"{note}\n\u2014 rekor.example {line}\n"},
            },
            "canonicalizedBody": b64(body),
        }


def _period(ends: datetime | None) -> dict[str, str]:
    period = {"start": "2025-01-01T00:00:00Z"}
    return period if ends is None else period | {"end": ends.isoformat()}


def _late() -> datetime:
    return datetime(2036, 1, 1, tzinfo=UTC)
