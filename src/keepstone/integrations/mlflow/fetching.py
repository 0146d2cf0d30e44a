"""Get a version's files into a folder of our own, and say by their digest what they are.

Promise: the digest is of the files in that folder, which nobody but this user can write to, and
the loader is given that folder: nothing is fetched a second time. A store on this machine is
copied while it is hashed, for its files can change under a loader; from any other store MLflow's
own repository fetches into the folder, and what arrived is hashed.

`registered_model_meta` is no part of a version: MLflow writes it itself, on the loading side, and
where the store is a folder of this machine, into the store. It is left out, and written anew for
the loader by what was asked for. Nothing else changes between logging and loading.
"""

from __future__ import annotations

import atexit
import os
import posixpath
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, artifact_digest
from keepstone.errors import InputError
from keepstone.files import storage_errors, write_all
from keepstone.vault.overlap import BUFFER, pour
from keepstone.vault.walk import StagingLimits, reading, walk

META = "registered_model_meta"
MLMODEL = "MLmodel"
_LIMITS = StagingLimits()


@dataclass(frozen=True, slots=True)
class Fetched:
    """The files in `folder`, which is ours. `digest` is over paths, sizes and contents, no META.

    Where what was asked for is one file and no folder, `file` is its name in `folder`.
    """

    folder: Path
    files: tuple[FileDigest, ...]
    file: str
    _private: Path

    @property
    def digest(self) -> Digest:
        """Raises InputError `artifact.empty` where nothing is there."""
        return artifact_digest(self.files)

    @property
    def holds_model(self) -> bool:
        """Whether MLflow would load something of it."""
        names = [self.file, *(one.path.rsplit("/", 1)[-1] for one in self.files)]
        return MLMODEL in names

    def discard(self) -> None:
        _discard(self._private)


def fetch(repository: Any, path: str, beside: Path | None = None) -> Fetched:
    """Fetch what lies at `path` of an MLflow artifact repository into a new private folder.

    The folder then holds what lies at `path`, or that one file. It is made in `beside`; where
    that is None, it goes with the process. Raises what the repository raises; InputError
    `model.symlink`, `model.not_regular`, `model.too_large`, `path.unsafe`; OperationalError
    `disk.full`.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    private = Path(tempfile.mkdtemp(prefix="keepstone-", dir=beside))
    if beside is None:
        atexit.register(_discard, private)
    folder = private / "files"
    folder.mkdir(mode=0o700)
    try:
        if isinstance(repository, LocalArtifactRepository):
            source = Path(repository.get_local_path(path) if path else repository.artifact_dir)
            file = source.name if source.is_file() else ""
            return Fetched(folder, _copied(source, folder), file, private)
        seen = _hashing_downloads(repository)
        got = Path(repository.download_artifacts(path, str(folder)))
        folder, file = (got, "") if got.is_dir() else (got.parent, got.name)
        if private not in folder.parents:
            raise InputError("path.unsafe", "The files arrived outside of the folder for them.")
        return Fetched(folder, _hashed(folder, seen), file, private)
    except BaseException:
        _discard(private)
        raise


def _hashing_downloads(repository: Any) -> dict[str, FileDigest]:
    """Have a repository that reads over HTTP hash each file while it comes in.

    Returns what will be known of each, by its local path. Any other repository fetches as it
    does, and so does this one where it fetches a file in parts: those are hashed afterwards.
    """
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    seen: dict[str, FileDigest] = {}
    in_parts = getattr(repository, "_is_multipart_download_enabled", None)
    if not isinstance(repository, HttpArtifactRepository) or (in_parts and in_parts()):
        return seen

    def download(remote_file_path: str, local_path: str) -> None:
        from mlflow.utils.request_utils import augmented_raise_for_status
        from mlflow.utils.rest_utils import http_request

        place = posixpath.join("/", remote_file_path)
        answer = http_request(repository._host_creds, place, "GET", stream=True)
        augmented_raise_for_status(answer)
        parts = answer.iter_content(chunk_size=BUFFER)

        def read(buffer: memoryview) -> int:
            part = next(parts, b"")
            buffer[: len(part)] = part
            return len(part)

        # A buffer's length at least: what the server says of it is not asked.
        seen[local_path] = _write(read, Path(local_path), BUFFER)

    repository._download_file = download
    return seen


def _copied(source: Path, into: Path) -> tuple[FileDigest, ...]:
    found = []
    folders = {into}
    for relative, descriptor in walk(source, _LIMITS):
        if relative == META:
            continue
        target = into / (source.name if relative == SINGLE_FILE else relative)
        if target.parent not in folders:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folders.add(target.parent)
        found.append(replace(_copy(descriptor, target), path=relative))
    return tuple(found)


def _copy(source: int, target: Path) -> FileDigest:
    def read(buffer: memoryview) -> int:
        with reading(target):
            return os.readv(source, [buffer])

    return _write(read, target, os.fstat(source).st_size)


def _write(read: Callable[[memoryview], int], target: Path, expected: int) -> FileDigest:
    """Write a new file from `read`. The hash sees the buffer that is written, not the source."""
    digest = sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with storage_errors(target):
        output = os.open(target, flags, 0o600)

    def write(data: memoryview) -> None:
        with storage_errors(target):
            write_all(output, data)

    try:
        size = pour(read, write, digest.update, expected)
    finally:
        os.close(output)
    return FileDigest(SINGLE_FILE, size, Digest(digest.hexdigest()))


def _hashed(folder: Path, seen: Mapping[str, FileDigest]) -> tuple[FileDigest, ...]:
    """What arrived, file by file; META goes."""
    (folder / META).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        return ()
    found = []
    for relative, descriptor in walk(folder, _LIMITS):
        known, size = seen.get(str(folder / relative)), os.fstat(descriptor).st_size
        if known is None or known.size != size:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                known = FileDigest(relative, size, Digest(file_digest(file, "sha256").hexdigest()))
        found.append(replace(known, path=relative))
    return tuple(found)


def _discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
