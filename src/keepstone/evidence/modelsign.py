"""OpenSSF model signatures, v1.0: a publisher's word over every file of a model.

A Sigstore bundle v0.3 around a DSSE envelope around an in-toto Statement v1 whose predicate
lists each file's path and SHA-256. EC keys P-256, P-384 and P-521; the bundles are those of the
public `model-signing` package, both ways. Two things a signature does not say: the subject's
digest hashes digests only, not paths (we compare the list, path by path), and git's own files
at the top of a folder stay unsigned (`VerifiedModel.unsigned` names those it found).

Sources: https://github.com/ossf/model-signing-spec (v1.0), Sigstore bundle v0.3
(sigstore/protobuf-specs), DSSE v1, in-toto Statement v1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, check_relative_path
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.evidence.dsse import Envelope, Signed, pae
from keepstone.evidence.fields import Fields
from keepstone.evidence.modelfiles import hash_model
from keepstone.evidence.statement import PAYLOAD_TYPE, STATEMENT_TYPE
from keepstone.identity.signing import Algorithm, Signatory, VerifyingKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# What the format's reference leaves unsigned, and its verifier always skips.
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")
# About 200,000 files.
MAX_BUNDLE = 64 << 20
_MALFORMED = "bundle.malformed"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """What a signature was verified over.

    `files` are the signed files, each read and found equal. `unsigned` are paths that were
    there and that the signature leaves out: they are no part of what the publisher said.
    """

    name: str
    files: tuple[FileDigest, ...]
    key_id: str
    bundle: Digest
    unsigned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Manifest:
    name: str
    digests: dict[str, str]
    left_out: tuple[str, ...]


def sign_model(path: Path, key: Signatory, *, leave_out: Iterable[str] = ()) -> bytes:
    """Sign every file of the model at `path` (a file or a folder) and return the bundle.

    `leave_out` are relative paths that stay unsigned, as git's own files do: the signature
    file where it lies inside the folder. Raises InputError `key.unsupported`, `model.empty`,
    or as `hash_model`.
    """
    left_out = _plain_paths(leave_out)
    files = hash_model(path, _Excluded((*GIT_PATHS, *left_out)))
    return sign_files(files, path.resolve().name, key, leave_out=left_out)


def sign_files(
    files: Sequence[FileDigest], name: str, key: Signatory, *, leave_out: Iterable[str] = ()
) -> bytes:
    """Sign a model whose files are hashed already; else as `sign_model`."""
    _require_ec(key.verifying)
    if not files:
        raise InputError("model.empty", "There is no file to sign.")
    ordered = sorted(files, key=lambda file: file.path.split("/"))
    payload = canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _root(f.sha256 for f in ordered)}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [*GIT_PATHS, *leave_out],
                },
                "resources": [
                    {"name": file.path, "algorithm": "sha256", "digest": file.sha256.hex}
                    for file in ordered
                ],
            },
        }
    )
    # The format leaves the key id empty and names the key in the verification material.
    signed = Signed("", key.sign(pae(PAYLOAD_TYPE, payload)))
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": _hint(key.verifying)},
            "tlogEntries": [],
        },
        "dsseEnvelope": Envelope(PAYLOAD_TYPE, payload, (signed,)).to_dict(),
    }
    return json.dumps(bundle).encode("ascii")


def verify_model(
    path: Path, bundle: bytes, key: VerifyingKey, *, leave_out: Iterable[str] = ()
) -> VerifiedModel:
    """Return what `key` signed if the model at `path` is exactly that.

    (1)-(5) as `verify_model_files`, but files that the signature leaves out are not read, and
    are named in `unsigned`; so are `leave_out`, for a signature kept inside the folder.
    Nothing is hashed before the signature has been verified.
    """
    manifest = _verify_bundle(bundle, key)
    excluded = _Excluded(
        (*GIT_PATHS, *manifest.left_out, *_plain_paths(leave_out)), keep=manifest.digests
    )
    files = hash_model(path, excluded)
    _compare(files, manifest)
    unsigned = tuple(sorted(excluded.met))
    return VerifiedModel(manifest.name, files, key.key_id, Digest.of(bundle), unsigned)


def verify_model_files(
    files: Sequence[FileDigest], bundle: bytes, key: VerifyingKey
) -> VerifiedModel:
    """Return what `key` signed if it is exactly `files`, hashed before: nothing may be unsigned.

    (1) Sigstore bundle v0.3: its media type, one DSSE signature, and a public key (no
        certificate) whose hint, if there is one, is this key's.
    (2) DSSE protocol, verification: the signature by `key` holds over the payload type and the
        payload; the key id in the envelope decides nothing.
    (3) in-toto Statement v1 with the model signing predicate v1.0, over files by SHA-256.
    (4) model signing v1.0: the subject's digest is the hash over the listed digests.
    (5) The files are those listed: none missing, none extra, none renamed, none changed.

    Raises VerificationError `signature.invalid`, `signature.key_mismatch`,
    `signature.inconsistent`, `model.mismatch`; InputError `bundle.malformed`, `json.*`,
    `envelope.malformed`, `key.unsupported`; OperationalError `bundle.unsupported` for a
    certificate, another hash or sharded files, which this build cannot judge.
    """
    manifest = _verify_bundle(bundle, key)
    _compare(files, manifest)
    return VerifiedModel(manifest.name, tuple(sorted(files)), key.key_id, Digest.of(bundle))


class _Excluded:
    """Says which paths a signature leaves out, and remembers which of them it met."""

    def __init__(self, paths: Iterable[str], keep: Iterable[str] = ()) -> None:
        self._paths = frozenset(paths)
        # A signed file is always read, and so is every folder above one.
        self._keep = {
            "/".join(parts[: end + 1])
            for parts in (path.split("/") for path in keep)
            for end in range(len(parts))
        }
        self.met: list[str] = []

    def __call__(self, relative: str) -> bool:
        parts = relative.split("/")
        above = ("/".join(parts[: end + 1]) for end in range(len(parts)))
        if relative in self._keep or not any(path in self._paths for path in above):
            return False
        self.met.append(relative)
        return True


def _plain_paths(paths: Iterable[str]) -> tuple[str, ...]:
    plain = tuple(check_relative_path(path) for path in paths)
    if SINGLE_FILE in plain:
        raise InputError("path.unsafe", "A signature cannot leave out the whole model.")
    return plain


def _require_ec(key: VerifyingKey) -> None:
    if key.algorithm is Algorithm.ED25519:
        raise InputError(
            "key.unsupported",
            "A model signature needs an EC key: P-256, P-384 or P-521.",
            "Make one with `openssl ecparam -name prime256v1 -genkey -noout`.",
        )


def _hint(key: VerifyingKey) -> str:
    """The format's name for a key: SHA-256 over its PEM text, unlike our key id."""
    return hashlib.sha256(key.pem).hexdigest()


def _root(digests: Iterable[Digest]) -> str:
    return hashlib.sha256(b"".join(digest.raw for digest in digests)).hexdigest()


def _verify_bundle(bundle: bytes, key: VerifyingKey) -> _Manifest:
    _require_ec(key)
    # (1) Sigstore bundle v0.3.
    envelope, hint = _read_bundle(bundle)
    if hint and hint != _hint(key):
        raise VerificationError(
            "signature.key_mismatch",
            "The signature was made with another key.",
            "Verify with the public key that belongs to the signer's private key.",
        )
    # (2) DSSE protocol, verification.
    if envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(_MALFORMED, "The envelope does not hold an in-toto statement.")
    key.verify(envelope.signatures[0].signature, pae(envelope.payload_type, envelope.payload))
    # (3) in-toto Statement v1, and (4) the subject's digest.
    return _read_manifest(envelope.payload)


def _read_bundle(bundle: bytes) -> tuple[Envelope, str | None]:
    fields = Fields(parse_json(bundle, limit=MAX_BUNDLE), "bundle", _MALFORMED)
    if fields.text("mediaType") != MEDIA_TYPE:
        raise fields.fault("mediaType", f"is not {MEDIA_TYPE}")
    material = fields.inner("verificationMaterial")
    # Transparency log entries and time stamps say nothing that trust in a key rests on.
    material.maybe("tlogEntries")
    material.maybe("timestampVerificationData")
    for name in ("certificate", "x509CertificateChain"):
        if material.maybe(name) is not None:
            raise _unsupported("It was made with a certificate, not with a plain key.")
    public = material.inner("publicKey")
    hint = public.maybe("hint")
    if not isinstance(hint, str | None):
        raise public.fault("hint", "is not a text")
    # Written by releases before 1.0; the key that counts is the caller's.
    public.maybe("rawBytes")
    public.maybe("keyDetails")
    envelope = Envelope.from_dict(fields.raw("dsseEnvelope"))
    for part in (public, material, fields):
        part.done()
    if len(envelope.signatures) != 1:
        raise InputError(_MALFORMED, "A bundle carries exactly one signature.")
    return envelope, hint


def _unsupported(cause: str) -> OperationalError:
    return OperationalError(
        "bundle.unsupported",
        f"This signature cannot be judged. {cause}",
        "Sign with an EC key over whole files by SHA-256 (model-signing's default).",
    )


def _read_manifest(payload: bytes) -> _Manifest:
    # (3) in-toto Statement v1 with the predicate of model signing v1.0.
    fields = Fields(parse_json(payload, limit=MAX_BUNDLE), "signed statement", _MALFORMED)
    if fields.text("_type") != STATEMENT_TYPE:
        raise fields.fault("_type", f"is not {STATEMENT_TYPE}")
    if fields.text("predicateType") != PREDICATE_TYPE:
        raise fields.fault("predicateType", f"is not {PREDICATE_TYPE}")
    subjects = fields.items("subject", 1)
    if not subjects:
        raise fields.fault("subject", "names nothing")
    subject = Fields(subjects[0], "subject", _MALFORMED)
    # The specification lets a predicate carry more; only these two are about the files.
    predicate = fields.inner("predicate")
    left_out = _read_serialization(predicate.inner("serialization"))
    digests = _read_resources(predicate.items("resources", MAX_BUNDLE))
    # (4) model signing v1.0: the subject's digest is the hash over the listed digests.
    if subject.inner("digest").text("sha256") != _root(map(Digest, digests.values())):
        raise VerificationError(
            "signature.inconsistent", "The signed root digest is not that of the listed files."
        )
    return _Manifest(subject.text("name"), digests, left_out)


def _read_serialization(fields: Fields) -> tuple[str, ...]:
    for name, supported in (("method", "files"), ("hash_type", "sha256")):
        given = fields.text(name)
        if given != supported:
            raise _unsupported(f"Its {name} is {given[:40]!r}.")
    listed = fields.maybe("ignore_paths") or []
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise fields.fault("ignore_paths", "is not a list of texts")
    # A path that leads out of the model leaves nothing out; `.` would leave out everything.
    if SINGLE_FILE in listed or "" in listed:
        raise fields.fault("ignore_paths", "leaves out the whole model")
    return tuple(listed)


def _read_resources(items: list[Any]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for item in items:
        fields = Fields(item, "signed resource", _MALFORMED)
        path = check_relative_path(fields.text("name", 4096))
        if fields.text("algorithm") != "sha256":
            raise _unsupported("It lists a file by another hash than SHA-256.")
        if path in digests:
            raise InputError(_MALFORMED, f"The signature lists {path!r} twice.")
        digests[path] = Digest(fields.text("digest")).hex
    if not digests:
        raise InputError(_MALFORMED, "The signature lists no file.")
    return digests


def _compare(files: Sequence[FileDigest], manifest: _Manifest) -> None:
    # (5) The files are those listed: none missing, none extra, none renamed, none changed.
    found = {file.path: file.sha256.hex for file in files}
    wrong = [
        *(f"{path!r} is missing" for path in sorted(manifest.digests.keys() - found.keys())),
        *(f"{path!r} is not signed" for path in sorted(found.keys() - manifest.digests.keys())),
        *(
            f"{path!r} was changed"
            for path in sorted(found.keys() & manifest.digests.keys())
            if found[path] != manifest.digests[path]
        ),
    ]
    if wrong:
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise VerificationError(
            "model.mismatch",
            f"The model is not what was signed: {', '.join(wrong[:_NAMED])}{more}.",
            "Get the model again from its publisher.",
        )
