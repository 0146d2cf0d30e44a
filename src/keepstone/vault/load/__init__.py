"""Verified loads, one file per format. A model is loaded for an admission and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from keepstone.contract.schema import ModelContract
from keepstone.contract.validate import Array
from keepstone.errors import OperationalError
from keepstone.policy.admission import Admission
from keepstone.vault.files import FileStore
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.load.onnx import load_onnx


class Runtime(Protocol):
    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]: ...


class Loaded(Protocol):
    """A model ready to serve: what computes it, and what it accepts and returns."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def contract(self) -> ModelContract: ...


class Loader(Protocol):
    def __call__(
        self, store: FileStore, kek: KeyEncryptionKey, admission: Admission, *, now: int
    ) -> Loaded: ...


# By the format that the scanner identified. What is not here has no runtime.
LOADERS: Mapping[str, Loader] = {"onnx": load_onnx}


def loader_for(format: str) -> Loader:
    """Return the loader of a format. Raises OperationalError `runtime.missing`, naming it."""
    loader = LOADERS.get(format)
    if loader is None:
        raise OperationalError(
            "runtime.missing",
            f"There is no runtime for the format {format!r}.",
            f"Convert the model to one of: {', '.join(LOADERS)}.",
        )
    return loader
