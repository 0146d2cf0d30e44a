"""OpenSSF model signatures, v1.0: a publisher's word over every file of a model.

A Sigstore bundle v0.3 around a DSSE envelope around an in-toto Statement v1 whose predicate
lists each file's path and SHA-256. EC keys P-256, P-384 and P-521, with or without a chain of
certificates; the bundles are those of the public `model-signing` package, both ways.

Two things a signature does not say: the subject's digest hashes digests only, not paths (we
compare the list, path by path), and git's own files at the top of a folder stay unsigned
(`VerifiedModel.unsigned` names those it found). Who signed is asked in `signedby`.

Sources: https://github.com/ossf/model-signing-spec (v1.0), Sigstore bundle v0.3
(sigstore/protobuf-specs), DSSE v1, in-toto Statement v1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, check_relative_path
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.bundle import MALFORMED, MAX_BUNDLE, bundle_dict, read_bundle
from keepstone.evidence.dsse import Envelope, Signed, pae
from keepstone.evidence.fields import Fields
from keepstone.evidence.modelfiles import hash_model
from keepstone.evidence.signedby import (
    ByKey,
    Expected,
    SignedBy,
    key_hint,
    require_ec,
    unsupported,
)
from keepstone.evidence.statement import PAYLOAD_TYPE, STATEMENT_TYPE
from keepstone.identity.signing import Signatory, VerifyingKey

if TYPE_CHECKING:
    from keepstone.identity.certificates import SigningChain

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# What the format's reference leaves unsigned, and its verifier always skips.
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")
_NAMED = 5


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """What a signature was verified over.

    `files` are the signed files, each read and found equal. `unsigned` are paths that were
    there and that the signature leaves out: they are no part of what the publisher said.
    `identity` and `issuer` are the certificate's, where one was verified.
    """

    name: str
    files: tuple[FileDigest, ...]
    key_id: str
    bundle: Digest
    unsigned: tuple[str, ...] = ()
    identity: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class _Manifest:
    name: str
    digests: dict[str, str]
    left_out: tuple[str, ...]


def sign_model(
    path: Path,
    key: Signatory,
    *,
    leave_out: Iterable[str] = (),
    chain: SigningChain | None = None,
) -> bytes:
    """Sign every file of the model at `path` (a file or a folder) and return the bundle.

    `leave_out` are relative paths that stay unsigned, as git's own files do: the signature
    file where it lies inside the folder. With a `chain` the bundle carries the certificates of
    `key`; that they fit it is the caller's to ask (`SigningChain.require_usable`). Raises
    InputError `key.unsupported`, `model.empty`, or as `hash_model`.
    """
    left_out = _plain_paths(leave_out)
    files = hash_model(path, _Excluded((*GIT_PATHS, *left_out)))
    return sign_files(files, path.resolve().name, key, leave_out=left_out, chain=chain)


def sign_files(
    files: Sequence[FileDigest],
    name: str,
    key: Signatory,
    *,
    leave_out: Iterable[str] = (),
    chain: SigningChain | None = None,
) -> bytes:
    """Sign a model whose files are hashed already; else as `sign_model`."""
    require_ec(key.verifying)
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
    envelope = Envelope(PAYLOAD_TYPE, payload, (signed,))
    bundle = bundle_dict(envelope, key_hint(key.verifying), () if chain is None else chain.der)
    return json.dumps(bundle).encode("ascii")


def verify_model(
    path: Path, bundle: bytes, key: VerifyingKey | Expected, *, leave_out: Iterable[str] = ()
) -> VerifiedModel:
    """Return what `key`, or whom else we expect, signed if the model at `path` is exactly that.

    (1)-(5) as `verify_model_files`, but files that the signature leaves out are not read, and
    are named in `unsigned`; so are `leave_out`, for a signature kept inside the folder.
    Nothing is hashed before the signature has been verified.
    """
    manifest, signed_by = _verify_bundle(bundle, key)
    excluded = _Excluded(
        (*GIT_PATHS, *manifest.left_out, *_plain_paths(leave_out)), keep=manifest.digests
    )
    files = hash_model(path, excluded)
    _compare(files, manifest)
    unsigned = tuple(sorted(excluded.met))
    return _verified(manifest, files, signed_by, bundle, unsigned)


def verify_model_files(
    files: Sequence[FileDigest], bundle: bytes, key: VerifyingKey | Expected
) -> VerifiedModel:
    """Return what `key` signed if it is exactly `files`, hashed before: nothing may be unsigned.

    (1) Sigstore bundle v0.3: its media type, one DSSE signature, and either a hint at a public
        key or certificates.
    (2) Who signed is whom we expect, and DSSE protocol, verification: their signature holds over
        the payload type and the payload; the key id in the envelope decides nothing.
    (3) in-toto Statement v1 with the model signing predicate v1.0, over files by SHA-256.
    (4) model signing v1.0: the subject's digest is the hash over the listed digests.
    (5) The files are those listed: none missing, none extra, none renamed, none changed.

    Raises VerificationError `signature.invalid`, `signature.key_mismatch`, `certificate.*`,
    `signature.inconsistent`, `model.mismatch`; InputError `bundle.malformed`, `json.*`,
    `envelope.malformed`, `certificate.malformed`, `key.unsupported`; OperationalError
    `bundle.unsupported` for another hash or sharded files, which this build cannot judge.
    """
    manifest, signed_by = _verify_bundle(bundle, key)
    _compare(files, manifest)
    return _verified(manifest, tuple(sorted(files)), signed_by, bundle)


def _verified(
    manifest: _Manifest,
    files: tuple[FileDigest, ...],
    signed_by: SignedBy,
    bundle: bytes,
    unsigned: tuple[str, ...] = (),
) -> VerifiedModel:
    return VerifiedModel(
        manifest.name,
        files,
        signed_by.key_id,
        Digest.of(bundle),
        unsigned,
        signed_by.identity,
        signed_by.issuer,
    )


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


def _root(digests: Iterable[Digest]) -> str:
    return hashlib.sha256(b"".join(digest.raw for digest in digests)).hexdigest()


def _verify_bundle(data: bytes, key: VerifyingKey | Expected) -> tuple[_Manifest, SignedBy]:
    expected = ByKey(key) if isinstance(key, VerifyingKey) else key
    # (1) Sigstore bundle v0.3.
    bundle = read_bundle(data)
    if bundle.envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(MALFORMED, "The envelope does not hold an in-toto statement.")
    # (2) Who signed, and DSSE protocol, verification.
    signed_by = expected.verify(bundle)
    # (3) in-toto Statement v1, and (4) the subject's digest.
    return _read_manifest(bundle.envelope.payload), signed_by


def _read_manifest(payload: bytes) -> _Manifest:
    # (3) in-toto Statement v1 with the predicate of model signing v1.0.
    fields = Fields(parse_json(payload, limit=MAX_BUNDLE), "signed statement", MALFORMED)
    if fields.text("_type") != STATEMENT_TYPE:
        raise fields.fault("_type", f"is not {STATEMENT_TYPE}")
    if fields.text("predicateType") != PREDICATE_TYPE:
        raise fields.fault("predicateType", f"is not {PREDICATE_TYPE}")
    subjects = fields.items("subject", 1)
    if not subjects:
        raise fields.fault("subject", "names nothing")
    subject = Fields(subjects[0], "subject", MALFORMED)
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
            raise unsupported(f"Its {name} is {given[:40]!r}.")
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
        fields = Fields(item, "signed resource", MALFORMED)
        path = check_relative_path(fields.text("name", 4096))
        if fields.text("algorithm") != "sha256":
            raise unsupported("It lists a file by another hash than SHA-256.")
        if path in digests:
            raise InputError(MALFORMED, f"The signature lists {path!r} twice.")
        digests[path] = Digest(fields.text("digest")).hex
    if not digests:
        raise InputError(MALFORMED, "The signature lists no file.")
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
