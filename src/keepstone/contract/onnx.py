"""The structure of an ONNX file, read without running or allocating any of it.

Promise: every place where a tensor can sit is walked (initialisers, dense and sparse; node
attributes; subgraphs; functions and their defaults; training graphs), so nothing in the file
can point outside of it unseen. Weights are never copied; a file that two readers could
understand differently is refused, not interpreted.

Raises InputError: `onnx.malformed`, `onnx.ambiguous`, `onnx.too_large`, `onnx.too_deep`,
`contract.mismatch`, `contract.unsupported_type`, and what `parse_contract` raises.
"""

from __future__ import annotations

from keepstone.contract.onnx_model import (
    ExternalTensor,
    OnnxFunction,
    OnnxLimits,
    OnnxModel,
    ValueInfo,
)
from keepstone.contract.onnx_walk import MODEL, Walk
from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec, parse_contract
from keepstone.contract.settle import settle
from keepstone.contract.wire import Reader
from keepstone.errors import InputError

__all__ = [
    "CONTRACT_KEY",
    "ExternalTensor",
    "OnnxFunction",
    "OnnxLimits",
    "OnnxModel",
    "ValueInfo",
    "derive_contract",
    "read_onnx",
    "resembles_onnx",
]

CONTRACT_KEY = "keepstone.contract"

_DTYPES = {
    1: DType.FP32,
    2: DType.UINT8,
    3: DType.INT8,
    4: DType.UINT16,
    5: DType.INT16,
    6: DType.INT32,
    7: DType.INT64,
    8: DType.BYTES,
    9: DType.BOOL,
    10: DType.FP16,
    11: DType.FP64,
    12: DType.UINT32,
    13: DType.UINT64,
}


def resembles_onnx(head: memoryview | bytes) -> bool:
    """True where `head` begins as a ModelProto does; says nothing about the rest.

    It must open with an IR version of 1 to 64 and go on with fields of ModelProto only.
    """
    data = memoryview(head)
    reader = Reader(data, "onnx", 64)
    if len(data) < 4 or data[0] != 0x08 or not 0 < data[1] <= 64:
        return False
    at = 2
    while at < len(data):
        try:
            tag, after = reader.varint(at, len(data), 2)
            if MODEL.fields.get(tag >> 3) is None or tag & 7 not in (0, 2):
                return False
            value, after = reader.varint(after, len(data))
        except InputError:
            # The head, or a truncated file, ends within a field: what came before decides.
            return at > 2
        at = after + value if tag & 7 == 2 else after
    return True


def read_onnx(data: memoryview | bytes, limits: OnnxLimits | None = None) -> OnnxModel:
    """Read the structure of the ONNX file in `data`; nothing in it is executed or copied."""
    limits = limits or OnnxLimits()
    view = memoryview(data).cast("B")
    reader = Reader(view, "onnx", limits.max_work)
    if bytes(view[4:8]) == b"ORTM":
        raise reader.error(
            "ambiguous", "The file is ONNX to some readers and an ORT flatbuffer to others."
        )
    return Walk(reader, limits).model()


def derive_contract(model: OnnxModel) -> ModelContract:
    """Return what `model` accepts and returns: as its author declared it, else off the graph.

    A declared contract (metadata `keepstone.contract`) must agree with the graph: the same
    inputs, no output that is not there, the same types, ranks and fixed lengths; it may narrow
    an open axis. Without one, outputs that are not tensors are left out, since no protocol
    here can carry them, and an output whose rank the graph leaves open is given one open axis.
    """
    drawn = ModelContract(
        inputs=tuple(_tensor_spec(value, "input") for value in model.inputs),
        outputs=tuple(_tensor_spec(v, "output") for v in model.outputs if v.kind == "tensor"),
        source="derived",
    )
    text = model.metadata.get(CONTRACT_KEY)
    if text is None:
        return drawn
    values = (*model.inputs, *model.outputs)
    open_ranks = frozenset(value.name for value in values if value.shape is None)
    return settle(drawn, parse_contract(text), open_ranks)


def _tensor_spec(value: ValueInfo, side: str) -> TensorSpec:
    datatype = _DTYPES.get(value.element) if value.kind == "tensor" else None
    if datatype is None or (value.shape is None and side == "input"):
        what = f"ONNX type {value.element}" if value.kind == "tensor" else f"kind {value.kind!r}"
        if datatype is not None:
            what = "no declared rank"
        raise InputError(
            "contract.unsupported_type",
            f"The {side} {value.name[:64]!r} has {what}, which cannot be served.",
            "Export the model with tensors of numbers, booleans or strings and known ranks.",
        )
    # Zero and negative lengths are exporters' ways to say "any".
    shape = (None,) if value.shape is None else value.shape
    return TensorSpec(
        value.name, datatype, tuple(d if d is not None and d > 0 else ANY for d in shape)
    )
