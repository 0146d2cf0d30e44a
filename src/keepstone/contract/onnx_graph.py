"""What an ONNX file computes, as plain values: the nodes that one output hangs on, and their
constants. Nothing of it is run.

Only graphs of plain nodes are read: no functions, no graphs within nodes, no weights in other
files, no sparse or quantised tensors. Anything else is `onnx.not_read`, and no fault of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from keepstone.contract.onnx_model import OnnxLimits
from keepstone.contract.onnx_walk import ATTRIBUTE, GRAPH, MODEL, NODE, OPSET, TENSOR
from keepstone.contract.wire import Field, Reader, signed
from keepstone.errors import InputError

Array = npt.NDArray[Any]
_LIMITS = OnnxLimits()
_MODEL = replace(MODEL, wanted=frozenset({7, 8, 25}))
_GRAPH = replace(GRAPH, wanted=frozenset({1, 5, 15}))
_NODE = replace(NODE, wanted=frozenset({1, 2, 4, 5, 7}))
_ATTRIBUTE = replace(ATTRIBUTE, wanted=frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 21}))
_TENSOR = replace(TENSOR, wanted=frozenset({1, 2, 4, 5, 7, 8, 9, 10, 13, 14}))
# Elements by their numbers, and where a tensor that has no raw bytes keeps them.
_RAW = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_FLOAT, _INT, _STRING, _TENSOR_KIND, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 6, 7, 8


@dataclass(frozen=True, slots=True)
class Node:
    """`operator` with its domain before it, where that is not the default one: `ai.onnx.ml.Scaler`.

    Inputs that are left out are empty names. Attributes are numbers, lists of them, bytes or
    arrays.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """The nodes that make `output`, in an order that can be run; `opset` is that of the default
    domain."""

    output: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    opset: int


def read_computed(data: memoryview, output: str) -> Computed:
    """What makes `output` in the ONNX file `data`, which was read as one before.

    Raises InputError `onnx.not_read`, and `onnx.*` as `read_onnx` does.
    """
    reader = Reader(data, "onnx", _LIMITS.max_work)
    opset, main = 0, None
    for item in reader.fields(_MODEL, 0, len(data)):
        if item.number == 7:
            main = item
        elif item.number == 8:
            domain, version = _opset(reader, item)
            opset = version if domain in ("", "ai.onnx") else opset
        else:
            raise _not_read("functions of its own")
    if main is None:
        raise _not_read("no graph")
    nodes: list[Node] = []
    tensors: dict[str, Field] = {}
    for item in reader.fields(_GRAPH, main.start, main.end):
        if item.number == 1:
            nodes.append(_node(reader, item))
        elif item.number == 15:
            raise _not_read("sparse weights")
        else:
            tensors[_name_of(reader, item)] = item
    needed, used = _needed(nodes, output)
    constants = {name: _tensor(reader, tensors[name]) for name in used if name in tensors}
    return Computed(output, needed, constants, opset)


def _needed(nodes: list[Node], output: str) -> tuple[tuple[Node, ...], set[str]]:
    """The nodes behind `output`, in the file's order, which is one that can be run."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(name for name in node.inputs if name)
    return tuple(reversed(kept)), wanted


def _opset(reader: Reader, item: Field) -> tuple[str, int]:
    domain, version = "", 0
    for part in reader.fields(OPSET, item.start, item.end):
        if part.number == 1:
            domain = reader.text(part, _LIMITS.max_name)
        else:
            version = signed(part.value)
    return domain, version


def _node(reader: Reader, item: Field) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, Any] = {}
    operator, domain = "", ""
    for part in reader.fields(_NODE, item.start, item.end):
        match part.number:
            case 1:
                inputs.append(reader.text(part, _LIMITS.max_name))
            case 2:
                outputs.append(reader.text(part, _LIMITS.max_name))
            case 4:
                operator = reader.text(part, _LIMITS.max_name)
            case 5:
                name, value = _attribute(reader, part)
                attributes[name] = value
            case 7:
                domain = reader.text(part, _LIMITS.max_name)
    full = operator if domain in ("", "ai.onnx") else f"{domain}.{operator}"
    return Node(full, tuple(inputs), tuple(outputs), attributes)


def _attribute(reader: Reader, item: Field) -> tuple[str, Any]:
    """A value that is not read is None: only an operator that asks for it minds."""
    name, kind = "", 0
    parts: dict[int, list[Field]] = {}
    for part in reader.fields(_ATTRIBUTE, item.start, item.end):
        if part.number == 1:
            name = reader.text(part, _LIMITS.max_name)
        elif part.number == 20:
            kind = part.value
        else:
            parts.setdefault(part.number, []).append(part)
    found: Any = None
    if kind == _FLOAT:
        found = float(_bytes_as(reader, parts.get(2, []), "<f4").sum())
    elif kind == _INT:
        found = signed(parts[3][0].value) if 3 in parts else 0
    elif kind == _STRING:
        found = b"".join(_raw(reader, part) for part in parts.get(4, []))
    elif kind == _TENSOR_KIND and 5 in parts:
        found = _tensor(reader, parts[5][0])
    elif kind == _FLOATS:
        found = _bytes_as(reader, parts.get(7, []), "<f4")
    elif kind == _INTS:
        found = [one for part in parts.get(8, []) for one in reader.numbers(part)]
    elif kind == _STRINGS:
        found = [_raw(reader, part) for part in parts.get(9, [])]
    return name, found


def _name_of(reader: Reader, item: Field) -> str:
    for part in reader.fields(replace(_TENSOR, wanted=frozenset({8})), item.start, item.end):
        return reader.text(part, _LIMITS.max_name)
    return ""


def _tensor(reader: Reader, item: Field) -> Array:
    parts: dict[int, list[Field]] = {}
    for part in reader.fields(_TENSOR, item.start, item.end):
        parts.setdefault(part.number, []).append(part)
    if 13 in parts or any(part.value for part in parts.get(14, [])):
        raise _not_read("weights in other files")
    shape = [one for part in parts.get(1, []) for one in reader.numbers(part)]
    element = parts[2][0].value if 2 in parts else 0
    if element not in _RAW:
        raise _not_read("tensors of another kind of number")
    found = _elements(reader, parts, element)
    if any(one < 0 for one in shape) or found.size != prod(shape):
        raise reader.error("malformed", "A tensor has another number of elements than its shape.")
    try:
        return found.reshape(shape)
    except ValueError as error:
        # Without an element any shape fits, and numpy has limits of its own.
        raise _not_read("tensors of such a shape") from error


def _elements(reader: Reader, parts: Mapping[int, list[Field]], element: int) -> Array:
    kind = _RAW[element]
    if 9 in parts:
        return _bytes_as(reader, parts[9], kind)
    if element in (1, 11):
        return _bytes_as(reader, parts.get(4 if element == 1 else 10, []), kind)
    numbers = _numbers(reader, parts.get(7 if element == 7 else 5, []))
    whole = np.fromiter(numbers, np.int64)
    # Halves are kept as their bits.
    return whole.astype("<u2").view("<f2") if element == 10 else whole.astype(kind)


def _numbers(reader: Reader, parts: list[Field]) -> Iterator[int]:
    for part in parts:
        yield from reader.numbers(part)


def _bytes_as(reader: Reader, parts: list[Field], kind: str) -> Array:
    data = b"".join(_raw(reader, part) for part in parts)
    if len(data) % np.dtype(kind).itemsize:
        raise reader.error("malformed", "A tensor does not hold whole numbers of its kind.")
    return np.frombuffer(data, kind).copy()


def _raw(reader: Reader, part: Field) -> bytes:
    return bytes(reader.data[part.start : part.end])


def _not_read(what: str) -> InputError:
    return InputError("onnx.not_read", f"The model has {what}, which are not read here.")
