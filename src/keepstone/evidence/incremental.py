"""Incremental signing and verification: files whose metadata did not change are not read again.

Good for looking often at a folder that is large. Not for deciding: the results are types of their
own, `RecalledModel` and `RecalledFile`, which no gate, load or submission takes, also where every
file happened to be read. `docs/explain/signing.md` says what metadata does not show.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from keepstone.core.digest import Digest, FileDigest
from keepstone.evidence.manifest import WHOLE_FILES, unsupported
from keepstone.evidence.memory import Memory, Remembered, Stamp
from keepstone.evidence.modelfiles import hash_file, in_threads, open_files
from keepstone.evidence.modelsign import (
    GIT_PATHS,
    excluding,
    exclusion,
    sign_files,
    signed_manifest,
)
from keepstone.identity.signing import Signatory, VerifyingKey

if TYPE_CHECKING:
    from keepstone.identity.certificates import SigningChain


@dataclass(frozen=True, slots=True, order=True)
class RecalledFile:
    """A file and the digest that it has, or had when its metadata was what it is now.

    `unchanged_by_metadata` says which: where it is True nobody has read the file in this run.
    """

    path: str
    size: int
    recalled: Digest
    unchanged_by_metadata: bool


@dataclass(frozen=True, slots=True)
class RecalledModel:
    """What a signature was compared with: as `VerifiedModel`, and not one."""

    name: str
    files: tuple[RecalledFile, ...]
    key_id: str
    bundle: Digest
    unsigned: tuple[str, ...]

    @property
    def unchanged_by_metadata(self) -> int:
        """How many files were not read."""
        return sum(file.unchanged_by_metadata for file in self.files)


@dataclass(frozen=True, slots=True)
class Recollection:
    """The files of a model, and what to remember of them for the next time."""

    files: tuple[RecalledFile, ...]
    memory: Memory


def recall_model(
    path: Path,
    left_out: Callable[[str], bool],
    memory: Memory,
    clock_ns: Callable[[], int] = time.time_ns,
) -> Recollection:
    """Hash the files of the model at `path` that are not remembered under their metadata.

    Raises as `hash_model`.
    """
    recalled: list[RecalledFile] = []
    kept: dict[str, Remembered] = {}

    def known(relative: str, status: os.stat_result) -> bool:
        digest = memory.recall(relative, Stamp.of(status))
        if digest is None:
            return False
        recalled.append(RecalledFile(relative, status.st_size, digest, True))
        kept[relative] = memory.files[relative]
        return True

    def hash_watched(opened: tuple[str, int]) -> tuple[FileDigest, Remembered | None]:
        relative, descriptor = opened
        with FileIO(descriptor) as file:
            # Taken before the first byte is read: what changes from here on is later than this.
            at, before = clock_ns(), Stamp.of(os.fstat(descriptor))
            found = hash_file(file, relative)
            after = Stamp.of(os.fstat(descriptor))
        steady = before == after and found.size == after.size and after.settled(at)
        return found, Remembered(after, found.sha256) if steady else None

    for found, remembered in in_threads(open_files(path, left_out, known), hash_watched):
        recalled.append(RecalledFile(found.path, found.size, found.sha256, False))
        if remembered is not None:
            kept[found.path] = remembered
    return Recollection(tuple(sorted(recalled)), Memory(memory.model, kept))


def sign_incrementally(
    path: Path,
    key: Signatory,
    memory: Memory,
    *,
    leave_out: Iterable[str] = (),
    chain: SigningChain | None = None,
) -> tuple[bytes, Recollection]:
    """As `sign_model`, over remembered digests where the metadata did not change.

    The bundle claims no more than that its signer says these digests: whoever verifies it reads
    every file, and finds out where a digest was out of date.
    """
    left_out = tuple(leave_out)
    found = recall_model(path, excluding((*GIT_PATHS, *left_out)), memory)
    name = path.resolve().name
    bundle = sign_files(_digests(found), name, key, leave_out=left_out, chain=chain)
    return bundle, found


def verify_incrementally(
    path: Path,
    bundle: bytes,
    key: VerifyingKey,
    memory: Memory,
    *,
    leave_out: Iterable[str] = (),
) -> tuple[RecalledModel, Memory]:
    """As `verify_model`, over remembered digests where the metadata did not change.

    The signature itself is verified in full. Only bundles over whole files by SHA-256; else
    OperationalError `bundle.unsupported`.
    """
    manifest = signed_manifest(bundle, key)
    if manifest.hashing != WHOLE_FILES:
        raise unsupported(f"Digests by {manifest.hashing.label} are not remembered.")
    excluded = exclusion(manifest, leave_out)
    found = recall_model(path, excluded, memory)
    manifest.compare({file.path: file.recalled.hex for file in found.files})
    unsigned = tuple(sorted(excluded.met))
    model = RecalledModel(manifest.name, found.files, key.key_id, Digest.of(bundle), unsigned)
    return model, found.memory


def _digests(found: Recollection) -> list[FileDigest]:
    """Only for what is signed: a signer may state what it read before."""
    return [FileDigest(file.path, file.size, file.recalled) for file in found.files]
