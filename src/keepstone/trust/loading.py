"""Load a model from plain files for a permission: the bytes that were hashed, and no others.

Promise: each file is read once, into memory; the digest is of that memory, and the runtime is
given that memory. Whatever happens to the files meanwhile changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from keepstone.contract.onnx import derive_contract, read_onnx
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, artifact_digest
from keepstone.errors import DeniedError, InputError, OperationalError, VerificationError
from keepstone.evidence.modelfiles import open_files
from keepstone.policy.permission import Permission
from keepstone.vault.load import Loaded, loader_for
from keepstone.vault.load.onnx import LoadedOnnx, OnnxRuntime, open_session

MAX_BYTES = 1 << 36
_SEAL = object()


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model's files in memory, and the digest of exactly those. Made by `read_model` alone."""

    files: Mapping[str, bytes] = field(repr=False)
    digest: Digest
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise VerificationError(
                "model.unread", "A held model is read and hashed, never made by hand."
            )


def read_model(path: Path, max_bytes: int = MAX_BYTES) -> HeldModel:
    """Read every file of the model at `path` once, and hash what was read.

    Raises InputError `model.empty`, `model.too_large`, and as `open_files`.
    """
    files: dict[str, bytes] = {}
    left = max_bytes
    for relative, descriptor in open_files(path):
        with os.fdopen(descriptor, "rb") as file:
            files[relative] = _whole(file, relative, left)
        left -= len(files[relative])
    if not any(files.values()):
        raise InputError("model.empty", f"{path} holds nothing.")
    listed = [FileDigest(name, len(data), Digest.of(data)) for name, data in files.items()]
    return HeldModel(MappingProxyType(files), artifact_digest(listed), _SEAL)


def _whole(file: BinaryIO, relative: str, most: int) -> bytes:
    """All of an open file, in one piece that is copied nowhere."""
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise InputError("model.too_large", f"{relative!r} leaves no room: {size:,} bytes.")
    try:
        # One byte more than was promised: a file that grows is seen, and refused.
        data = file.read(size + 1)
    except OSError as error:
        raise OperationalError(
            "model.unreadable", f"Cannot read {relative!r}: {error.strerror}."
        ) from error
    if len(data) > size:
        raise InputError("model.changing", f"{relative!r} grows while it is read.")
    return data


def load_permitted(held: HeldModel, permission: Permission, *, now: int) -> Loaded:
    """Load what was read, for a permission that names exactly that.

    (1) The permission is one that a verified bundle made, and holds at `now`.
    (2) The bytes held are those of the artifact that it names.
    (3) The format that was scanned has a runtime, which is given those bytes.

    Raises VerificationError `permission.unverified`, `permission.wrong_artifact`,
    `model.external_data`; DeniedError `permission.expired`; OperationalError `runtime.missing`,
    `runtime.refused`; InputError as `read_onnx` and `derive_contract` raise.
    """
    # (1) The type alone says that it was verified: it cannot be made by hand.
    if not isinstance(permission, Permission) or not isinstance(held, HeldModel):
        raise VerificationError(
            "permission.unverified", "Only a verified permission lets a held model be loaded."
        )
    if not permission.holds(now):
        raise DeniedError(
            "permission.expired", "The permission does not hold now.", "Ask for a new one."
        )
    # (2)
    if held.digest != permission.artifact:
        raise VerificationError(
            "permission.wrong_artifact", f"The permission is for {permission.artifact.short}."
        )
    # (3)
    load = PERMITTED.get(permission.format)
    if load is None:
        # Says which formats have one.
        loader_for(permission.format)
        raise OperationalError(
            "runtime.missing", f"Plain files of the format {permission.format!r} are not loaded."
        )
    return load(held.files)


def _load_onnx(files: Mapping[str, bytes]) -> LoadedOnnx:
    if set(files) != {SINGLE_FILE}:
        raise OperationalError(
            "runtime.missing", "There is no runtime for an ONNX model of several files yet."
        )
    data = files[SINGLE_FILE]
    model = read_onnx(data)
    if model.external_count:
        raise VerificationError(
            "model.external_data",
            f"{model.external_count} tensors have their data outside of the model's file.",
            "Save the model with its weights inside.",
        )
    contract = derive_contract(model)
    return LoadedOnnx(OnnxRuntime(open_session(data), contract), model, contract)


# By the format that the scanner identified. A loader takes the files as they were hashed.
PERMITTED: Mapping[str, Callable[[Mapping[str, bytes]], Loaded]] = MappingProxyType(
    {"onnx": _load_onnx}
)
