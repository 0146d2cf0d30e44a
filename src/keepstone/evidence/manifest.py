"""What a model signature lists: each file, or each shard of a file, with its digest.

Pure. The model signing format knows two methods, `files` and `shards`, and three hash functions.
Whole files by SHA-256 are its default, and the only listing that can be held against files hashed
before; the others are hashed anew in the way that the listing names (`modelshards`).

Source: https://github.com/ossf/model-signing-spec (v1.0); in-toto Statement v1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.core.canonical import MAX_SAFE_INTEGER, parse_json
from keepstone.core.digest import SINGLE_FILE, check_relative_path
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.evidence.fields import Fields
from keepstone.evidence.intoto import STATEMENT_TYPE

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# About 200,000 files.
MAX_BUNDLE = 64 << 20
# What we sign in: both cores are busy from 8 MiB on, and a terabyte still fits a bundle.
SHARD = 4 << 20
# Smaller ones would cost more memory to list than the file has bytes.
MIN_SHARD = 4096
SHA256, BLAKE2B, BLAKE3 = "sha256", "blake2b", "blake3"
# The functions, and the hex digits of their digests.
_FUNCTIONS: Mapping[str, int] = {SHA256: 64, BLAKE2B: 128, BLAKE3: 64}
_MALFORMED = "bundle.malformed"
_NAMED = 5
_HEX = re.compile(r"[0-9a-f]+\Z")
_SHARD_NAME = re.compile(r"(.+):(0|[1-9][0-9]{0,18}):([1-9][0-9]{0,18})\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Hashing:
    """How a model is hashed: with which function, whole (None) or in shards of so many bytes."""

    function: str = SHA256
    shard: int | None = None

    @property
    def label(self) -> str:
        """The format's name for a digest of this kind."""
        return self.function if self.shard is None else f"{self.function}-sharded-{self.shard}"


WHOLE_FILES = Hashing()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A signed listing: the digest of each resource, which is a path or `path:start:end`."""

    name: str
    hashing: Hashing
    digests: Mapping[str, str]
    left_out: tuple[str, ...]

    @property
    def paths(self) -> frozenset[str]:
        """The files that are signed, in whole or in shards."""
        return frozenset(file_of(name, self.hashing) for name in self.digests)

    def compare(self, found: Mapping[str, str]) -> None:
        """Return if `found` is exactly what is listed, else raise `model.mismatch`.

        (5) None missing, none extra, none renamed, none changed.
        """
        listed = self.digests
        wrong = [
            *(f"{name!r} is missing" for name in sorted(listed.keys() - found.keys())),
            *(f"{name!r} is not signed" for name in sorted(found.keys() - listed.keys())),
            *(
                f"{name!r} was changed"
                for name in sorted(found.keys() & listed.keys())
                if found[name] != listed[name]
            ),
        ]
        if wrong:
            more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
            raise VerificationError(
                "model.mismatch",
                f"The model is not what was signed: {', '.join(wrong[:_NAMED])}{more}.",
                "Get the model again from its publisher.",
            )


def file_of(resource: str, hashing: Hashing) -> str:
    """The path of the file that a resource is, or is a shard of."""
    return resource if hashing.shard is None else resource.rsplit(":", 2)[0]


def root_of(digests: Iterable[str]) -> str:
    """The subject's digest: SHA-256 over the listed digests, which it says nothing more of."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def read_manifest(payload: bytes) -> Manifest:
    """Read the payload of a bundle whose signature holds.

    (3) in-toto Statement v1 with the predicate of model signing v1.0.
    (4) model signing v1.0: the subject's digest is the hash over the listed digests.

    Raises InputError `bundle.malformed`, `json.*`, `path.unsafe`; VerificationError
    `signature.inconsistent`; OperationalError `bundle.unsupported`.
    """
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
    serialization = predicate.inner("serialization")
    hashing, left_out = _read_hashing(serialization), _read_left_out(serialization)
    digests = _read_resources(predicate.items("resources", MAX_BUNDLE), hashing)
    # (4) model signing v1.0: the subject's digest is the hash over the listed digests.
    if subject.inner("digest").text("sha256") != root_of(digests.values()):
        raise VerificationError(
            "signature.inconsistent", "The signed root digest is not that of the listed files."
        )
    return Manifest(subject.text("name"), hashing, digests, left_out)


def unsupported(cause: str) -> OperationalError:
    """What this build cannot judge is not refused as false; it is not evaluated."""
    return OperationalError(
        "bundle.unsupported",
        f"This signature cannot be judged. {cause}",
        "Sign with an EC key over whole files by SHA-256 (model-signing's default).",
    )


def _read_hashing(fields: Fields) -> Hashing:
    method, function = fields.text("method"), fields.text("hash_type")
    if function not in _FUNCTIONS:
        raise unsupported(f"Its hash_type is {function[:40]!r}.")
    if method == "files":
        return Hashing(function)
    if method != "shards":
        raise unsupported(f"Its method is {method[:40]!r}.")
    given = fields.raw("shard_size")
    # The public package writes it through a protobuf Struct, which knows no integers.
    shard = int(given) if isinstance(given, float) and given.is_integer() else given
    if type(shard) is not int or not 0 < shard <= MAX_SAFE_INTEGER:
        raise fields.fault("shard_size", "is not a number of bytes")
    if shard < MIN_SHARD:
        raise unsupported(f"Its shards are of {shard} bytes, fewer than {MIN_SHARD}.")
    return Hashing(function, shard)


def _read_left_out(fields: Fields) -> tuple[str, ...]:
    listed = fields.maybe("ignore_paths") or []
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise fields.fault("ignore_paths", "is not a list of texts")
    # A path that leads out of the model leaves nothing out; `.` would leave out everything.
    if SINGLE_FILE in listed or "" in listed:
        raise fields.fault("ignore_paths", "leaves out the whole model")
    return tuple(listed)


def _read_resources(items: list[Any], hashing: Hashing) -> dict[str, str]:
    digests: dict[str, str] = {}
    length = _FUNCTIONS[hashing.function]
    for item in items:
        fields = Fields(item, "signed resource", _MALFORMED)
        name = fields.text("name", 4096)
        if hashing.shard is not None and not _SHARD_NAME.match(name):
            raise fields.fault("name", "is not path:start:end")
        check_relative_path(file_of(name, hashing))
        if fields.text("algorithm") != hashing.label:
            raise unsupported(f"It lists a file by another hash than {hashing.label}.")
        if name in digests:
            raise InputError(_MALFORMED, f"The signature lists {name!r} twice.")
        digest = fields.text("digest")
        if len(digest) != length or not _HEX.match(digest):
            raise InputError(
                "digest.malformed", f"{digest[:140]!r} is not {length} lower-case hex digits."
            )
        digests[name] = digest
    if not digests:
        raise InputError(_MALFORMED, "The signature lists no file.")
    return digests
