"""safetensors: weights alone, read by a strict parser of our own, for an architecture you name.

Promise: the header describes every byte of the file exactly once, or the file is refused, and
no tensor is copied. Source: https://github.com/huggingface/safetensors (format)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.contract.onnx import CONTRACT_KEY
from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.vault.load.declared import bound_to, declared_contract, require_contract
from keepstone.vault.load.prepared import Prepared
from keepstone.vault.load.torch import start_module, tensor_of
from keepstone.vault.verified import Files

MAX_HEADER = 100 << 20
_LENGTH = 8
_MAX_RANK = 64
_METADATA = "__metadata__"
SIZES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor: its type by the format's name, its shape, and where its bytes lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    tensors: tuple[TensorPlace, ...]
    metadata: Mapping[str, str]


def read_header(data: memoryview) -> Header:
    """Read the header of a safetensors file.

    (1) The length is one that the file has room for. (2) It is strict JSON that begins with `{`,
    padded by spaces at most. (3) Each tensor has a known type, and as many bytes as its shape
    needs. (4) In the order of their offsets the tensors fill the file without hole or overlap.

    Raises InputError `safetensors.malformed`.
    """
    # (1)
    length = int.from_bytes(data[:_LENGTH], "little")
    if len(data) < _LENGTH + 2 or not 2 <= length <= min(MAX_HEADER, len(data) - _LENGTH):
        raise _bad("its header has no length that one can have")
    # (2)
    text = bytes(data[_LENGTH : _LENGTH + length])
    if not text.startswith(b"{"):
        raise _bad("its header is not a JSON object")
    try:
        document = parse_json(text.rstrip(b" "), limit=MAX_HEADER)
    except InputError as error:
        raise _bad("its header is not strict JSON") from error
    metadata = _metadata(document.pop(_METADATA, {}))
    start = _LENGTH + length
    # (3)
    tensors = sorted(
        (_tensor(name, item, start) for name, item in document.items()),
        key=lambda tensor: (tensor.begin, tensor.end),
    )
    # (4)
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            raise _bad("its tensors overlap or leave a hole")
        at = tensor.end
    if at != len(data):
        raise _bad("it is longer or shorter than its tensors")
    return Header(tuple(tensors), metadata)


def _metadata(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _bad("its metadata is not text by name")
    return value


def _tensor(name: str, item: Any, start: int) -> TensorPlace:
    match item:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [begin, end]}:
            pass
        case _:
            raise _bad("a tensor has missing or malformed members")
    if len(item) != 3 or dtype not in SIZES or not name:
        raise _bad("a tensor has an unknown member or type, or no name")
    if len(shape) > _MAX_RANK or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise _bad("a shape or an offset is not a list of numbers from 0 up")
    if end - begin != math.prod(shape) * SIZES[dtype]:
        raise _bad("a tensor has more or fewer bytes than its shape needs")
    return TensorPlace(name, dtype, tuple(shape), start + begin, start + end)


def prepare_safetensors(files: Files, paths: tuple[str, ...], architecture: str | None) -> Prepared:
    """Read the headers of one model, in one file or in shards; starting it imports your code.

    Raises InputError `safetensors.malformed`, `contract.*`, `model.architecture_needed`,
    `model.two_contracts`; VerificationError `model.wrong_architecture`; starting it raises what
    `start_module` raises.
    """
    headers = {path: read_header(files.view(path)) for path in paths}
    names = [tensor.name for header in headers.values() for tensor in header.tensors]
    if len(set(names)) != len(names):
        raise _bad("two of its files hold a tensor of one name")
    inside = [h.metadata[CONTRACT_KEY] for h in headers.values() if CONTRACT_KEY in h.metadata]
    if len(inside) > 1:
        raise _bad("two of its files hold a contract")
    declared = declared_contract(files, inside[0] if inside else None)
    contract = bound_to(require_contract(declared), architecture)

    def state() -> dict[str, Any]:
        return {
            tensor.name: tensor_of(
                files.view(path)[tensor.begin : tensor.end], tensor.dtype, tensor.shape
            )
            for path, header in headers.items()
            for tensor in header.tensors
        }

    return Prepared(contract, lambda: start_module(contract, state))


def _bad(why: str) -> InputError:
    return InputError(
        "safetensors.malformed",
        f"The safetensors file cannot be loaded: {why}.",
        "Get the model from where it was published again.",
    )
