"""ONNX: the model and the files that its weights lie in, all of them out of the verified set.

Promise: the runtime is given the very bytes whose digest was permitted; a swap of any file, at
any time, changes nothing. The runtime opens no other file, wherever the process stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keepstone.contract.onnx import CONTRACT_KEY, derive_contract, read_onnx
from keepstone.contract.schema import DType, ModelContract
from keepstone.contract.settle import settle
from keepstone.contract.validate import Array
from keepstone.core.digest import check_relative_path
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.vault.load.declared import declared_contract
from keepstone.vault.load.prepared import Prepared, failed, no_architecture, only
from keepstone.vault.verified import Files

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
            raise failed(error) from error
        return dict(zip(self._names, found, strict=True))


def prepare_onnx(files: Files, paths: tuple[str, ...], architecture: str | None) -> Prepared:
    """Read one ONNX model, whose weights may lie in other files of the set.

    (1) Its structure is one that every reader understands alike.
    (2) Each file that it names for its weights lies in the set, at a plain relative path.
    (3) The contract is what its metadata declares, or a file beside it, or its graph.

    Raises VerificationError `model.external_data`; InputError as `read_onnx`, `derive_contract`
    and `declared_contract` raise; starting it raises OperationalError `runtime.refused`,
    `runtime.unsafe_environment`.
    """
    no_architecture(architecture, "onnx")
    path = only(paths)
    # (1)
    model = read_onnx(files.view(path))
    # (2)
    beside = {location: _beside(path, location) for location in sorted(model.external_files)}
    for location, target in beside.items():
        if target not in files.paths:
            raise VerificationError(
                "model.external_data",
                f"The model has weights in {location[:100]!r}, which is not a file of the"
                " artifact.",
                "Give the folder that holds the model with all of its files.",
            )
    # (3)
    contract = derive_contract(model)
    declared = declared_contract(files, model.metadata.get(CONTRACT_KEY))
    if declared is not None and CONTRACT_KEY not in model.metadata:
        values = (*model.inputs, *model.outputs)
        ranks = frozenset(value.name for value in values if value.shape is None)
        contract = settle(contract, declared, ranks)

    def start() -> OnnxRuntime:
        outside = {location: files.view(target) for location, target in beside.items()}
        return OnnxRuntime(open_session(bytes(files.view(path)), outside=outside), contract)

    return Prepared(contract, start)


def _beside(path: str, location: str) -> str:
    """Where in the set a location lies that a model at `path` names. Raises as (2) does."""
    folder = path.rpartition("/")[0]
    try:
        return check_relative_path(f"{folder}/{location}" if folder else location)
    except InputError as error:
        raise VerificationError(
            "model.external_data",
            f"The model has weights at {location[:100]!r}, outside of the artifact.",
            "Save the model with its weights inside, or in files beside it.",
        ) from error


def open_session(
    data: bytes, threads: int = 1, outside: Mapping[str, memoryview] | None = None
) -> onnxruntime.InferenceSession:
    """Give `data` to onnxruntime, and the files that it names from `outside`, never from a disk.

    Raises OperationalError `runtime.refused`, `runtime.unsafe_environment`.

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

    options = session_options(threads)
    if outside:
        # With such a table the runtime looks into no file at all for an initialiser's data, and
        # checks every offset against the length given here.
        options.add_external_initializers_from_files_in_memory(
            list(outside), list(outside.values()), [len(view) for view in outside.values()]
        )
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
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
