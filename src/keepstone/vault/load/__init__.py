"""Verified loads, one file per format. A model is loaded for a permission and for nothing else.

A permission (`vault.permission`) names one artifact, the name it is loaded under and the digest
of its contract, and says whether it holds at a time. The gate's `Admission` is one; every type
of permission refuses to be made by hand. What is loaded is a set of files that was verified
against the artifact's digest (`vault.verified`), and no loader is ever given a path that
somebody could put other bytes under.

    permission -> verified files -> format -> contract, compared with the permission -> runtime
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keepstone.contract.schema import ModelContract
from keepstone.errors import OperationalError, VerificationError
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.load.identify import find_model
from keepstone.vault.load.lightgbm import prepare_lightgbm
from keepstone.vault.load.onnx import prepare_onnx
from keepstone.vault.load.prepared import Format, Prepared, Runtime
from keepstone.vault.load.safetensors import prepare_safetensors
from keepstone.vault.load.skops import prepare_skops
from keepstone.vault.load.torch import prepare_torch
from keepstone.vault.load.xgboost import prepare_xgboost
from keepstone.vault.permission import Permission, require_permission
from keepstone.vault.seal import unseal
from keepstone.vault.stores.port import BlobStore
from keepstone.vault.verified import Files, VerifiedFiles, verify_files

# By the name that scanner and loader share. What is not here has no runtime.
LOADERS: Mapping[str, Format] = {
    "onnx": prepare_onnx,
    "safetensors": prepare_safetensors,
    "torch": prepare_torch,
    "skops": prepare_skops,
    "xgboost": prepare_xgboost,
    "lightgbm": prepare_lightgbm,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to serve: what computes it, what it accepts and returns, and its format."""

    runtime: Runtime
    contract: ModelContract
    format: str


def loader_for(format: str) -> Format:
    """Return the loader of a format. Raises OperationalError `runtime.missing`, naming it."""
    loader = LOADERS.get(format)
    if loader is None:
        raise OperationalError(
            "runtime.missing",
            f"There is no runtime for the format {format!r}.",
            f"Convert the model to one of: {', '.join(LOADERS)}.",
        )
    return loader


def prepare(files: Files, architecture: str | None = None) -> tuple[str, Prepared]:
    """Find the model among `files` and read its contract; nothing of it runs yet.

    `architecture` is the code that its user consents to import (`package.module:Class`), for
    formats that are weights alone. Returns the format's name too. Raises what `find_model` and
    the format raise.
    """
    format, paths = find_model(files)
    return format, loader_for(format)(files, paths, architecture)


def load_sealed(
    store: BlobStore,
    kek: KeyEncryptionKey,
    permission: Permission,
    *,
    now: int,
    version: int = 1,
    architecture: str | None = None,
) -> Loaded:
    """Load what `permission` names from the vault, or raise.

    (1) The permission was verified and holds at `now`: else no key is released.
    (2) The blob unseals under its artifact, name and version, and hashes to that artifact.
    (3) What the model accepts and returns, and what code it needs, is what was permitted.
    (4) The runtime gets those bytes.

    Raises as `unseal` and `load_verified` do.
    """
    # (1), (2)
    with unseal(store, kek, permission, now=now, version=version) as files:
        return load_verified(files, permission, now=now, architecture=architecture)


def load_files(
    path: Path, permission: Permission, *, now: int, architecture: str | None = None
) -> Loaded:
    """Load what `permission` names from plain files, or raise: (1) to (4) as `load_sealed`.

    Raises as `verify_files` and `load_verified` do.
    """
    # (1) Before a byte is read.
    require_permission(permission, now)
    # (2)
    with verify_files(path, permission.artifact) as files:
        return load_verified(files, permission, now=now, architecture=architecture)


def load_verified(
    files: VerifiedFiles, permission: Permission, *, now: int, architecture: str | None = None
) -> Loaded:
    """Load from files that were verified already.

    Raises DeniedError `permission.expired`; VerificationError `permission.unverified`,
    `model.unverified`, `model.wrong_digest`, `admission.wrong_contract`; OperationalError
    `runtime.missing`, `runtime.refused`; and what the format raises.
    """
    # (1)
    require_permission(permission, now)
    # (2) The exact type says that they were verified.
    if type(files) is not VerifiedFiles:
        raise VerificationError("model.unverified", "Only verified files are loaded.")
    if files.digest != permission.artifact:
        raise VerificationError(
            "model.wrong_digest",
            f"The files are not the artifact {permission.artifact.short}.",
            "Get the model from where it was published again.",
        )
    # (3)
    format, prepared = prepare(files, architecture)
    if permission.contract not in (None, prepared.contract.digest):
        raise VerificationError(
            "admission.wrong_contract",
            "The model accepts or returns something else than what was admitted.",
            "Run `keepstone up` again.",
        )
    # (4)
    return Loaded(prepared.start(), prepared.contract, format)


__all__ = [
    "LOADERS",
    "Format",
    "Loaded",
    "Permission",
    "Prepared",
    "Runtime",
    "VerifiedFiles",
    "load_files",
    "load_sealed",
    "load_verified",
    "loader_for",
    "prepare",
]
