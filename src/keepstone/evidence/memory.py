"""Remembered digests: what a file hashed to, when its metadata was what it is still.

Pure. A file is remembered by device, inode, size, mtime and ctime. That says it was not written
through the file system since; it does not say what it holds, so a remembered digest has a type of
its own, and nothing that admits or loads a model takes one.

A file that was changed less than two seconds before it was hashed is not remembered: it could
change once more without its coarse timestamps showing it, as in git's index (racy-git).
"""

from __future__ import annotations

import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.core.digest import Digest, check_relative_path
from keepstone.errors import InputError, VerificationError

SCHEMA = "keepstone.hash-cache/v1"
# The coarsest timestamps in use, those of FAT.
RACY_NS = 2_000_000_000
MAX_MEMORY = 256 << 20
_VERSION = re.compile(rb"keepstone\.hash-cache/v[0-9]+\Z")
_DOMAIN = b"keepstone hash cache v1\n"
_FORGET = "Remove it: the next run hashes every file again."


@dataclass(frozen=True, slots=True)
class Stamp:
    """The metadata that a file is remembered by; times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    def settled(self, hashed_at: int) -> bool:
        """Whether a change after `hashed_at` (ns) would have to show in the timestamps."""
        return max(self.mtime, self.ctime) + RACY_NS < hashed_at


@dataclass(frozen=True, slots=True)
class Remembered:
    """The digest of a file as it was under `stamp`: no `FileDigest`, for nobody read it since."""

    stamp: Stamp
    digest: Digest


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of the model at one absolute path, by relative path."""

    model: str
    files: Mapping[str, Remembered]

    def recall(self, path: str, stamp: Stamp) -> Digest | None:
        """The digest that the file had under exactly this metadata, if it is remembered."""
        known = self.files.get(path)
        return known.digest if known is not None and known.stamp == stamp else None


def seal_memory(memory: Memory, key: bytes) -> bytes:
    """The memory as a file, authentic under `key` (32 bytes)."""
    rows = [
        [path, one.stamp.device, one.stamp.inode, one.stamp.size, one.stamp.mtime, one.stamp.ctime,
         one.digest.hex]
        for path, one in sorted(memory.files.items())
    ]  # fmt: skip
    body = json.dumps({"model": memory.model, "files": rows}, separators=(",", ":")).encode()
    return b"%b %b\n%b" % (SCHEMA.encode(), _mac(key, body).encode(), body)


def open_memory(data: bytes, key: bytes, model: str) -> Memory:
    """Read back what was sealed for the model at the absolute path `model`.

    (1) The version is one this build reads. (2) The file is as we wrote it: HMAC-SHA256 under the
    key, over the version's domain and the body. (3) It is about this model.

    Raises InputError `hashcache.newer_version`; VerificationError `hashcache.tampered`.
    """
    # (1)
    head, _, body = data.partition(b"\n")
    version, _, mac = head.partition(b" ")
    if version != SCHEMA.encode() and _VERSION.match(version):
        raise InputError(
            "hashcache.newer_version",
            f"The hash cache is {version.decode()[:64]}, and this build reads {SCHEMA}.",
            "Upgrade Keepstone, or remove the cache.",
        )
    # (2)
    if version != SCHEMA.encode() or not hmac.compare_digest(mac, _mac(key, body).encode()):
        raise _tampered("is not as it was written")
    # (3)
    try:
        value = parse_json(body, limit=MAX_MEMORY)
        files = {path: _remembered(rest) for path, *rest in value["files"]}
        found = Memory(
            value["model"], {check_relative_path(str(path)): files[path] for path in files}
        )
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise _tampered("cannot be read") from error
    if found.model != model:
        raise _tampered("is about another model")
    return found


def _remembered(row: list[Any]) -> Remembered:
    *numbers, digest = row
    return Remembered(Stamp(*map(int, numbers)), Digest(digest))


def _mac(key: bytes, body: bytes) -> str:
    return hmac.digest(key, _DOMAIN + body, "sha256").hex()


def _tampered(what: str) -> VerificationError:
    return VerificationError("hashcache.tampered", f"The hash cache {what}.", _FORGET)
