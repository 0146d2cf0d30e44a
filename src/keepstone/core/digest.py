"""Digests of bytes and of artifacts.

An artifact is one file or a folder. Its digest covers every path, size and content, so that
renaming a file inside a folder changes it (the digest of an OpenSSF signing manifest does
not). A single file has the path `.`: giving the same bytes another file name must not shake
off a revocation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.core.canonical import canonical
from keepstone.errors import InputError

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_TREE_DOMAIN = b"keepstone artifact v1\n"
SINGLE_FILE = "."
# What Linux takes as a path, and more folders in one another than anybody makes.
_MAX_PATH, _MAX_PARTS = 4096, 128


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 value. Prints as `sha256:<hex>`."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX.match(self.hex):
            raise InputError(
                "digest.malformed", f"{self.hex!r} is not a SHA-256 in lower-case hex."
            )

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """The first 12 hex digits: for people, never for comparison."""
        return self.hex[:12]

    @property
    def raw(self) -> bytes:
        return bytes.fromhex(self.hex)

    @classmethod
    def of(cls, data: bytes | memoryview) -> Digest:
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<hex>` or bare hex. Raises InputError `digest.malformed`."""
        return cls(text.removeprefix("sha256:"))


@dataclass(frozen=True, slots=True, order=True)
class FileDigest:
    """One file of an artifact: its relative POSIX path, size in bytes and content digest."""

    path: str
    size: int
    sha256: Digest


def check_relative_path(path: str) -> str:
    """Return `path` if it is a plain relative POSIX path (or `.`), else raise `path.unsafe`."""
    if len(path) > _MAX_PATH or path.count("/") >= _MAX_PARTS:
        raise InputError("path.unsafe", f"{path[:80]!r}... is too long for a path.")
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") for part in parts) and "\\" not in path
    if path != SINGLE_FILE and (not plain or "\x00" in path):
        raise InputError("path.unsafe", f"{path!r} is not a plain relative path.")
    return path


def _above(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:end]) for end in range(1, len(parts))}


def artifact_digest(files: Iterable[FileDigest]) -> Digest:
    """Return the digest over every path, size and content, independent of listing order.

    Raises InputError: `artifact.empty`, `artifact.duplicate_path`, `path.unsafe`,
    `artifact.path_conflict` where one path is a file and a folder of another, and
    `artifact.not_hashed` for anything but a `FileDigest`.
    """
    given = tuple(files)
    # A remembered digest is none of these: only what was hashed has a digest as a whole.
    if not all(isinstance(file, FileDigest) for file in given):
        raise InputError("artifact.not_hashed", "An artifact's digest needs every file hashed.")
    ordered = sorted(given)
    paths = [check_relative_path(file.path) for file in ordered]
    if not ordered:
        raise InputError("artifact.empty", "An artifact needs at least one file.")
    if len(set(paths)) != len(paths):
        raise InputError("artifact.duplicate_path", "An artifact names one path twice.")
    names = set(paths)
    if any(_above(path) & names for path in paths) or (SINGLE_FILE in names and len(names) > 1):
        raise InputError("artifact.path_conflict", "A path is both a file and a folder.")
    listing = [{"path": f.path, "size": f.size, "sha256": f.sha256.hex} for f in ordered]
    return Digest.of(_TREE_DOMAIN + canonical(listing))
