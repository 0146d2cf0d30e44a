"""TFLite: a flatbuffer whose operators may need code that only a host brings.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import Case, fail, good, need, zipped
from bench.corpus.opcodes import pickled, shell

_NONE = "none"
_ADD, _FULLY_CONNECTED, _CUSTOM = 0, 9, 32


def _table(builder: Any, fields: dict[int, tuple[str, Any]], slots: int) -> Any:
    builder.StartObject(slots)
    for slot, (kind, value) in fields.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        else:
            getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
    return builder.EndObject()


def _offsets(builder: Any, items: list[Any]) -> Any:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return builder.EndVector()


def _ints(builder: Any, items: list[int]) -> Any:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependInt32(item)
    return builder.EndVector()


def built(
    codes: list[tuple[int, str]],
    metadata: dict[str, bytes] | None = None,
    buffer: bytes = bytes(16),
) -> bytes:
    """A model with one operator for each code: the builtin's number, and a custom one's name."""
    builder = need("flatbuffers").Builder(512)
    metadata = metadata or {}
    buffers = [_table(builder, {}, 3)]
    for content in (buffer, *metadata.values()):
        vector = builder.CreateByteVector(content)
        buffers.append(_table(builder, {0: ("offset", vector)}, 3))
    names = [builder.CreateString(f"t{i}") for i in range(2)]
    shapes = [_ints(builder, [1, 4]) for _ in range(2)]
    tensors = [
        _table(builder, {0: ("offset", shapes[i]), 2: ("Uint32", i), 3: ("offset", names[i])}, 8)
        for i in range(2)
    ]
    operator_codes, operators = [], []
    for index, (number, custom) in enumerate(codes):
        name = builder.CreateString(custom) if custom else None
        fields: dict[int, tuple[str, Any]] = {0: ("Int8", min(number, 127)), 3: ("Int32", number)}
        if name is not None:
            fields[1] = ("offset", name)
        operator_codes.append(_table(builder, fields, 4))
        inputs, outputs = _ints(builder, [0]), _ints(builder, [1])
        operators.append(
            _table(
                builder, {0: ("Uint32", index), 1: ("offset", inputs), 2: ("offset", outputs)}, 9
            )
        )
    parts = [
        _offsets(builder, tensors),
        _ints(builder, [0]),
        _ints(builder, [1]),
        _offsets(builder, operators),
        builder.CreateString("main"),
    ]
    graph = _table(builder, {slot: ("offset", part) for slot, part in enumerate(parts)}, 5)
    graphs, code_list = _offsets(builder, [graph]), _offsets(builder, operator_codes)
    kept = []
    for index, key in enumerate(metadata):
        text = builder.CreateString(key)
        kept.append(_table(builder, {0: ("offset", text), 1: ("Uint32", index + 2)}, 2))
    listed = _offsets(builder, kept)
    described, buffer_list = builder.CreateString("corpus"), _offsets(builder, buffers)
    model = _table(
        builder,
        {
            0: ("Uint32", 3),
            1: ("offset", code_list),
            2: ("offset", graphs),
            3: ("offset", described),
            4: ("offset", buffer_list),
            6: ("offset", listed),
        },
        8,
    )
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _honest(seed: int) -> Iterator[Case]:
    yield good("add.tflite", built([(_ADD, "")]), _NONE)
    yield good("dense.tflite", built([(_FULLY_CONNECTED, ""), (19, ""), (25, "")]), _NONE)
    runtime = {"min_runtime_version": b"1.14.0\x00\x00"}
    yield good("metadata.tflite", built([(_ADD, "")], runtime), _NONE)


def _bad(seed: int) -> Iterator[Case]:
    host = "Needs an operator that the host must bring"
    for slug, name in (
        ("custom", "EvilOp"),
        ("flex_read", "FlexReadFile"),
        ("flex_write", "FlexWriteFile"),
        ("flex_py_func", "FlexPyFunc"),
        ("flex_eager", "FlexEagerPyFunc"),
        ("flex_print", "FlexPrintV2"),
        ("flex_dataset", "FlexTextLineDataset"),
    ):
        yield fail(
            f"{slug}.tflite", built([(_ADD, ""), (_CUSTOM, name)]), f"{host}: {name}.", _NONE
        )
    plain = built([(_ADD, "")])
    yield fail(
        "named.bin", built([(_CUSTOM, "FlexReadFile")]), f"{host}; the name says nothing.", _NONE
    )
    yield fail(
        "root_outside.tflite",
        struct.pack("<I", 1 << 30) + plain[4:],
        "The root lies outside of the file.",
        _NONE,
    )
    yield fail(
        "root_itself.tflite",
        struct.pack("<I", 0) + plain[4:],
        "The root is the root's own place.",
        _NONE,
    )
    yield fail(
        "trailing_pickle.tflite", plain + pickled(shell()), "A pickle follows the model.", _NONE
    )
    at = plain.index(b"main") - 4
    yield fail(
        "text_length.tflite",
        plain[:at] + b"\xff\xff\xff\x7f" + plain[at + 4 :],
        "A text claims two gigabytes.",
        _NONE,
    )
    yield fail(
        "operator_unknown.tflite", built([(9999, "")]), "An operator that no version has.", _NONE
    )
    packed = built([(_ADD, "")], {"associated": b"PK\x03\x04" + bytes(40)})
    yield fail(
        "archive_in_metadata.tflite",
        packed + _zip(),
        "An archive with a pickle lies behind the model, as associated files do.",
        _NONE,
    )


def _zip() -> bytes:
    return zipped([("labels.pkl", pickled(shell()))])


PARTS = (_honest, _bad)
