"""Load an ONNX model from the vault, for an admission, from the bytes that were verified.

Promise: the runtime is given the very bytes whose digest the admission names, once read and
once decrypted; a swap of any file, at any time, changes nothing. The runtime opens no other
file, wherever the process stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keepstone.contract.onnx import OnnxModel, derive_contract, read_onnx
from keepstone.contract.schema import DType, ModelContract
from keepstone.contract.validate import Array
from keepstone.core.digest import SINGLE_FILE
from keepstone.errors import DeniedError, OperationalError, VerificationError
from keepstone.policy.admission import Admission
from keepstone.vault.files import FileStore
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.seal import unseal

if TYPE_CHECKING:
    import onnxruntime  # type: ignore[import-untyped]

# What onnxruntime reads from the environment would let a model configure its own session.
_FORBIDDEN_ENVIRONMENT = "ORT_LOAD_CONFIG_FROM_MODEL"
# Not a folder on any system: where the runtime would look for data outside of the model.
_NOWHERE = "/dev/null/none"


class OnnxRuntime:
    """A session. `predict` may be called from several threads at once."""

    __slots__ = ("_failures", "_names", "_session", "_texts")

    def __init__(self, session: onnxruntime.InferenceSession, contract: ModelContract) -> None:
        self._session = session
        self._names = [spec.name for spec in contract.outputs]
        self._texts = [s.name for s in contract.inputs if s.datatype is DType.BYTES]
        self._failures = _runtime_errors()

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Compute the contract's outputs. Raises OperationalError `runtime.failed`."""
        try:
            found = self._session.run(self._names, inputs)
        except self._failures as error:
            # The runtime's own words may quote the input: they stay out of the answer.
            raise OperationalError(
                "runtime.failed", "The model failed on this input.", "See the model's contract."
            ) from error
        return dict(zip(self._names, found, strict=True))


@dataclass(frozen=True, slots=True)
class LoadedOnnx:
    """A model ready to serve."""

    runtime: OnnxRuntime
    model: OnnxModel
    contract: ModelContract


def load_onnx(
    store: FileStore, kek: KeyEncryptionKey, admission: Admission, *, now: int, threads: int = 1
) -> LoadedOnnx:
    """Load what `admission` names, or raise.

    (1) The admission is one that was verified, and holds at `now`.
    (2) The blob unseals under the admission's artifact and name, and hashes to it.
    (3) It is one file, without data outside of it.
    (4) What it accepts and returns is what was admitted.
    (5) The runtime gets those bytes.

    Raises DeniedError `admission.expired`; VerificationError `admission.unverified`,
    `admission.wrong_contract`, `model.external_data`, `seal.*`; OperationalError
    `runtime.missing`, `runtime.refused`, `runtime.unsafe_environment`; InputError as
    `read_onnx`, `derive_contract` and `unseal` raise.
    """
    # (1) The type alone says that it was verified: it cannot be made by hand.
    if not isinstance(admission, Admission):
        raise VerificationError(
            "admission.unverified", "Only a verified admission lets a model be loaded."
        )
    if not admission.holds(now):
        raise DeniedError(
            "admission.expired", "The admission does not hold now.", "Run `keepstone up` again."
        )
    # (2)
    files = unseal(store, kek, admission.artifact, admission.name)
    # (3)
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
    # (4)
    contract = derive_contract(model)
    if contract.digest != admission.contract:
        raise VerificationError(
            "admission.wrong_contract",
            "The model accepts or returns something else than what was admitted.",
            "Run `keepstone up` again.",
        )
    # (5)
    return LoadedOnnx(OnnxRuntime(open_session(data, threads), contract), model, contract)


def open_session(data: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Give `data` to onnxruntime. Raises OperationalError `runtime.refused`.

    `threads` of 1 runs in the calling thread: right for small models behind a server. More
    threads are the model's own pool and do not spin while they wait.
    """
    if os.environ.get(_FORBIDDEN_ENVIRONMENT):
        raise OperationalError(
            "runtime.unsafe_environment",
            f"{_FORBIDDEN_ENVIRONMENT} would let a model set up its own runtime.",
            f"Unset {_FORBIDDEN_ENVIRONMENT}.",
        )
    # Imported late: it takes some 0.1 s, which a command that loads nothing need not spend.
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            data, session_options(threads), providers=["CPUExecutionProvider"]
        )
    except _runtime_errors() as error:
        raise OperationalError(
            "runtime.refused",
            "onnxruntime does not take the model.",
            "Export it for the operator sets that this onnxruntime supports.",
        ) from error


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How every model is run here; the scanner tries a model under the same options."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for name, value in CONFIGURATION.items():
        options.add_session_config_entry(name, value)
    return options


CONFIGURATION = {
    # By content the runtime would also take its own flatbuffer format, which nobody judged.
    "session.load_model_format": "ONNX",
    "session.model_external_initializers_file_folder_path": _NOWHERE,
    # A few bytes of graph must not unfold into gigabytes before the first request.
    "optimization.constant_folding_max_output_size_in_bytes": str(64 << 20),
    "session.intra_op.allow_spinning": "0",
}


def _runtime_errors() -> tuple[type[Exception], ...]:
    """onnxruntime's exceptions, which share no base of their own."""
    from onnxruntime.capi import (  # type: ignore[import-untyped]
        onnxruntime_pybind11_state as state,
    )

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    return (*(kind for kind in own if issubclass(kind, Exception)), RuntimeError, ValueError)
