"""OpenSSF model signatures, v1.0: a publisher's word over every file of a model.

A Sigstore bundle v0.3 around a DSSE envelope around an in-toto Statement v1 whose predicate
lists each file's path and digest (`manifest`). EC keys P-256, P-384 and P-521, with or without a
chain of certificates; the bundles are those of the public `model-signing` package, both ways.

Two things a signature does not say: the subject's digest hashes digests only, not paths (we
compare the list, path by path), and git's own files at the top of a folder stay unsigned
(`VerifiedModel.unsigned` names those it found). Who signed is asked in `signedby`.

Sources: https://github.com/ossf/model-signing-spec (v1.0), Sigstore bundle v0.3
(sigstore/protobuf-specs), DSSE v1, in-toto Statement v1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keepstone.core.canonical import canonical
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, check_relative_path
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.bundle import MALFORMED, bundle_dict, read_bundle
from keepstone.evidence.dsse import Envelope, Signed, pae
from keepstone.evidence.intoto import PAYLOAD_TYPE, STATEMENT_TYPE
from keepstone.evidence.manifest import (
    PREDICATE_TYPE,
    SHARD,
    WHOLE_FILES,
    Hashing,
    Manifest,
    read_manifest,
    root_of,
    unsupported,
)
from keepstone.evidence.modelfiles import hash_model
from keepstone.evidence.modelshards import ResourceDigest, hash_resources
from keepstone.evidence.signedby import ByKey, Expected, SignedBy, key_hint, require_ec
from keepstone.identity.signing import Signatory, VerifyingKey

if TYPE_CHECKING:
    from keepstone.identity.certificates import SigningChain

# What the format's reference leaves unsigned, and its verifier always skips.
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """What a signature was verified over.

    `files` are the signed files, each read and found equal: whole by SHA-256, or in the way that
    the signature names. `unsigned` are paths that were there and that the signature leaves out:
    they are no part of what the publisher said. `identity` and `issuer` are the certificate's,
    where one was verified.
    """

    name: str
    files: tuple[FileDigest, ...] | tuple[ResourceDigest, ...]
    key_id: str
    bundle: Digest
    unsigned: tuple[str, ...] = ()
    identity: str | None = None
    issuer: str | None = None


def sign_model(
    path: Path,
    key: Signatory,
    *,
    leave_out: Iterable[str] = (),
    shards: bool = False,
    chain: SigningChain | None = None,
) -> bytes:
    """Sign every file of the model at `path` (a file or a folder) and return the bundle.

    `leave_out` are relative paths that stay unsigned, as git's own files do: the signature
    file where it lies inside the folder. With `shards` each 4 MiB of a file is hashed by itself,
    so that one big file keeps every core busy; an empty file then stays unsigned. With a `chain`
    the bundle carries the certificates of `key`; that they fit it is the caller's to ask
    (`SigningChain.require_usable`). Raises InputError `key.unsupported`, `model.empty`, or as
    `hash_model`.
    """
    left_out = _plain_paths(leave_out)
    excluded = _Excluded((*GIT_PATHS, *left_out))
    name = path.resolve().name
    if not shards:
        files = hash_model(path, excluded)
        return sign_files(files, name, key, leave_out=left_out, chain=chain)
    hashing = Hashing(shard=SHARD)
    resources = _resources(hash_resources(path, excluded, hashing))
    return _sign(resources, hashing, name, key, left_out, chain)


def sign_files(
    files: Sequence[FileDigest],
    name: str,
    key: Signatory,
    *,
    leave_out: Iterable[str] = (),
    chain: SigningChain | None = None,
) -> bytes:
    """Sign a model whose files are hashed already; else as `sign_model`."""
    return _sign(_listed(files), WHOLE_FILES, name, key, leave_out, chain)


def _sign(
    resources: dict[str, str],
    hashing: Hashing,
    name: str,
    key: Signatory,
    leave_out: Iterable[str],
    chain: SigningChain | None,
) -> bytes:
    require_ec(key.verifying)
    if not resources:
        raise InputError("model.empty", "There is no file to sign.")
    serialization = {
        "method": "files",
        "hash_type": hashing.function,
        "allow_symlinks": False,
        "ignore_paths": [*GIT_PATHS, *leave_out],
    }
    if hashing.shard is not None:
        serialization |= {"method": "shards", "shard_size": hashing.shard}
    payload = canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": root_of(resources.values())}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": serialization,
                "resources": [
                    {"name": resource, "algorithm": hashing.label, "digest": digest}
                    for resource, digest in resources.items()
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
    excluded = exclusion(manifest, leave_out)
    files: tuple[FileDigest, ...] | tuple[ResourceDigest, ...]
    if manifest.hashing == WHOLE_FILES:
        files = hash_model(path, excluded)
        manifest.compare(_listed(files))
    else:
        files = hash_resources(path, excluded, manifest.hashing)
        manifest.compare(_resources(files))
        # An empty file has no shard: nothing was signed of it.
        excluded.met += [file.path for file in files if not file.digests]
    unsigned = tuple(sorted(excluded.met))
    return _verified(manifest, files, signed_by, bundle, unsigned)


def verify_model_files(
    files: Sequence[FileDigest],
    bundle: bytes,
    key: VerifyingKey | Expected,
    *,
    copy: Path | None = None,
) -> VerifiedModel:
    """Return what `key` signed if it is exactly `files`, hashed before: nothing may be unsigned.

    `copy` is where these very files lie and nobody else can write: it is read once more where the
    signature lists shards or another function, for which `files` say nothing.

    (1) Sigstore bundle v0.3: its media type, one DSSE signature, and either a hint at a public
        key or certificates.
    (2) Who signed is whom we expect, and DSSE protocol, verification: their signature holds over
        the payload type and the payload; the key id in the envelope decides nothing.
    (3) in-toto Statement v1 with the model signing predicate v1.0, over files by SHA-256.
    (4) model signing v1.0: the subject's digest is the hash over the listed digests.
    (5) The files are those listed: none missing, none extra, none renamed, none changed.

    Raises VerificationError `signature.*`, `certificate.*`, `keyless.refused`, `model.mismatch`;
    InputError `bundle.malformed`, `json.*`, `envelope.malformed`, `certificate.malformed`,
    `key.unsupported`; OperationalError `bundle.unsupported` without `copy` for shards or another
    function.
    """
    manifest, signed_by = _verify_bundle(bundle, key)
    listed = _listed(files)
    if manifest.hashing == WHOLE_FILES:
        manifest.compare(listed)
    elif copy is None:
        raise unsupported(f"It lists {manifest.hashing.label}, not whole files by SHA-256.")
    else:
        again = hash_resources(copy, lambda _: False, manifest.hashing)
        manifest.compare(_resources(again) | {file.path: "" for file in again if not file.digests})
    return _verified(manifest, tuple(sorted(files)), signed_by, bundle)


def _verified(
    manifest: Manifest,
    files: tuple[FileDigest, ...] | tuple[ResourceDigest, ...],
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


def signed_manifest(bundle: bytes, key: VerifyingKey) -> Manifest:
    """What `key` signed, by steps (1) to (4); that the model is that is not looked at here."""
    return _verify_bundle(bundle, key)[0]


def exclusion(manifest: Manifest, leave_out: Iterable[str] = ()) -> _Excluded:
    """Says which paths a signature, and the caller, leave out; remembers those that it met."""
    return _Excluded(
        (*GIT_PATHS, *manifest.left_out, *_plain_paths(leave_out)), keep=manifest.paths
    )


def excluding(paths: Iterable[str]) -> _Excluded:
    """Says that `paths` and all below them are left out. Raises InputError `path.unsafe`."""
    return _Excluded(_plain_paths(paths))


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


def _listed(files: Iterable[FileDigest]) -> dict[str, str]:
    """Whole files by SHA-256, in the format's order: hashed ones, never remembered ones."""
    files = tuple(files)
    if not all(isinstance(file, FileDigest) for file in files):
        raise VerificationError(
            "model.by_metadata",
            "The model's files are known by their metadata only.",
            "Verify it without --incremental.",
        )
    ordered = sorted(files, key=lambda file: file.path.split("/"))
    return {file.path: file.sha256.hex for file in ordered}


def _resources(files: Iterable[ResourceDigest]) -> dict[str, str]:
    ordered = sorted(files, key=lambda file: file.path.split("/"))
    return {name: digest for file in ordered for name, digest in file.digests}


def _verify_bundle(data: bytes, key: VerifyingKey | Expected) -> tuple[Manifest, SignedBy]:
    expected = ByKey(key) if isinstance(key, VerifyingKey) else key
    # (1) Sigstore bundle v0.3.
    bundle = read_bundle(data)
    if bundle.envelope.payload_type != PAYLOAD_TYPE:
        raise InputError(MALFORMED, "The envelope does not hold an in-toto statement.")
    # (2) Who signed, and DSSE protocol, verification.
    signed_by = expected.verify(bundle)
    # (3) in-toto Statement v1, and (4) the subject's digest.
    return read_manifest(bundle.envelope.payload), signed_by
