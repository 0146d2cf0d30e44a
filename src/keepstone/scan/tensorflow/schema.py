"""The messages of TensorFlow's files, as far as they are read, and which file is which.

Source: tensorflow/core/protobuf/{saved_model,meta_graph,saved_object_graph,fingerprint}.proto and
tensorflow/core/framework/{graph,node_def,function,attr_value,tensor,op_def}.proto, version 2.20.
"""

from __future__ import annotations

import re

from keepstone.contract.wire import Field, Kind, Message, Reader
from keepstone.errors import InputError


def _message(name: str, wanted: tuple[int, ...], kinds: dict[Kind, tuple[int, ...]]) -> Message:
    fields = {number: kind for kind, numbers in kinds.items() for number in numbers}
    return Message(name, fields, frozenset(wanted))


_V, _VS, _B, _BS = Kind.VARINT, Kind.VARINTS, Kind.BYTES, Kind.BYTES_LIST
_F, _FS, _DS = Kind.FIXED32, Kind.FIXED32S, Kind.FIXED64S

SAVED_MODEL = _message("SavedModel", (1, 2), {_V: (1,), _BS: (2,)})
META_GRAPH = _message("MetaGraphDef", (1, 2, 3, 6, 7), {_B: (1, 2, 3, 7), _BS: (4, 5, 6)})
SAVER = _message("SaverDef", (), {_B: (1, 2, 3), _V: (4, 5, 7), _F: (6,)})
ASSET = _message("AssetFileDef", (1, 2), {_B: (1, 2)})
TENSOR_INFO = _message("TensorInfo", (1,), {_B: (1, 3, 4, 5), _V: (2,)})
GRAPH = _message("GraphDef", (1, 2), {_BS: (1,), _B: (2, 4, 5), _V: (3,)})
LIBRARY = _message("FunctionDefLibrary", (1,), {_BS: (1, 2, 3)})
FUNCTION = _message("FunctionDef", (1, 3), {_B: (1,), _BS: (3, 4, 5, 6, 7, 8)})
OP_DEF = _message("OpDef", (1,), {_B: (1, 5, 6, 8), _BS: (2, 3, 4, 20), _V: (16, 17, 18, 19, 21)})
NODE = _message("NodeDef", (1, 2, 3, 5), {_B: (1, 2, 4, 6, 7), _BS: (3, 5)})
ENTRY = _message("NodeDef.AttrEntry", (1, 2), {_B: (1, 2)})
VALUE = _message("AttrValue", (2, 8), {_B: (1, 2, 7, 8, 9, 10), _V: (3, 5, 6), _F: (4,)})
TENSOR = _message(
    "TensorProto",
    (8,),
    {
        _V: (1, 3),
        _B: (2, 4, 18),
        _FS: (5, 9),
        _DS: (6, 12),
        _VS: (7, 10, 11, 13, 16, 17),
        _BS: (8, 14, 15),
    },
)
OBJECTS = _message("SavedObjectGraph", (1,), {_BS: (1, 2)})
OBJECT = _message(
    "SavedObject",
    (4,),
    {_BS: (1, 3, 11, 15), _B: (4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16)},
)
USER_OBJECT = _message("SavedUserObject", (1, 3), {_B: (1, 2, 3)})
KERAS_METADATA = _message("SavedMetadata", (1,), {_BS: (1,)})
KERAS_OBJECT = _message("keras.SavedObject", (4, 5), {_V: (2,), _B: (3, 4, 5, 6)})
FINGERPRINT = _message("FingerprintDef", (), {_V: (1, 2, 3, 4, 5), _B: (6, 7)})

_MAX_LOOKED = 4096
_NAME = re.compile(rb"[A-Za-z0-9_.>][A-Za-z0-9_.>/\-]*")
_IDENTIFIER = re.compile(rb"_?tf_[a-z_]+|_[a-z_]{2,40}")


def identify_graph(data: memoryview) -> str:
    """Which of TensorFlow's files this is, or an empty name. Never raises.

    None has a signature. A file counts as one where its top level is made of that message's
    fields only, from the first byte to the last, and the first of what it holds has the form of
    what must lie there.
    """
    if not len(data) or data[0] not in (0x08, 0x0A, 0x12, 0x1A, 0x22):
        return ""
    fields = _top(data, 0, len(data))
    if not fields:
        return ""
    numbers = {number for number, _, _, _ in fields}
    wires = {(number, wire) for number, wire, _, _ in fields}
    first = {number: (start, end) for number, _, start, end in reversed(fields)}
    if wires <= {(1, 0), (2, 2)} and 2 in numbers and _is_meta_graph(data, *first[2]):
        return "saved_model"
    if wires == {(1, 2)} and _is_keras_object(data, *first[1]):
        return "keras_metadata"
    if _is_graph(data, 0, len(data)):
        return "graph_def"
    if wires <= {(n, 2) for n in range(1, 8)} and _is_meta_graph(data, 0, len(data)):
        return "meta_graph"
    hashes = {*((n, 0) for n in range(1, 6)), (6, 2), (7, 2)}
    if (2, 0) in wires and wires <= hashes and len(data) < 1024:
        return "tf_fingerprint"
    return ""


def _top(data: memoryview, start: int, end: int) -> list[tuple[int, int, int, int]]:
    """Number, wire type, start and end of each field, or nothing where they do not fit."""
    reader, at = Reader(data, "tf", 1), start
    found: list[tuple[int, int, int, int]] = []
    try:
        # What follows the first few thousand is left to the scanner, which reads all of it.
        while at < end and len(found) < _MAX_LOOKED:
            tag, at = reader.varint(at, end, 5)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 32 or wire not in (0, 2):
                return []
            value, after = reader.varint(at, end)
            stop = after + value if wire == 2 else after
            if stop > end:
                return []
            found.append((number, wire, after if wire == 2 else at, stop))
            at = stop
    except InputError:
        return []
    return found


def _is_meta_graph(data: memoryview, start: int, end: int) -> bool:
    fields = _top(data, start, end)
    if not fields or any(wire != 2 or number > 7 for number, wire, _, _ in fields):
        return False
    return any(number == 2 and _is_graph(data, at, to) for number, _, at, to in fields)


def _is_graph(data: memoryview, start: int, end: int) -> bool:
    """A GraphDef: nodes with a name and an operator, or versions and functions alone."""
    fields = _top(data, start, end)
    shapes = {(1, 2), (2, 2), (3, 0), (4, 2), (5, 2)}
    if not fields or any((number, wire) not in shapes for number, wire, _, _ in fields):
        return False
    nodes = [(at, to) for number, _, at, to in fields if number == 1]
    if nodes:
        return _is_node(data, *nodes[0])
    libraries = [(at, to) for number, _, at, to in fields if number == 2]
    return any(_top(data, at, to) or at == to for at, to in libraries) and start > 0


def _is_node(data: memoryview, start: int, end: int) -> bool:
    fields = _top(data, start, end)
    if any(wire != 2 or number > 7 for number, wire, _, _ in fields):
        return False
    texts = {number: bytes(data[at:to]) for number, _, at, to in fields if number in (1, 2)}
    return {1, 2} == texts.keys() and all(_NAME.fullmatch(text) for text in texts.values())


def _is_keras_object(data: memoryview, start: int, end: int) -> bool:
    fields = _top(data, start, end)
    if any(
        (number, wire) not in {(2, 0), (3, 2), (4, 2), (5, 2), (6, 2)}
        for number, wire, _, _ in fields
    ):
        return False
    names = [bytes(data[at:to]) for number, _, at, to in fields if number == 4]
    return bool(names) and all(_IDENTIFIER.fullmatch(name) for name in names)


def attribute(reader: Reader, item: Field, wanted: frozenset[str]) -> tuple[str, Field | None]:
    """The name of an attribute, and where its value lies; None where it is not wanted."""
    name, value = "", None
    for part in reader.fields(ENTRY, item.start, item.end):
        if part.number == 1:
            name = reader.text(part, 4096)
        else:
            value = part
    return name, value if name in wanted else None
