"""safetensors: a header that lies. Source: the format's description in safetensors' README.

A header is a JSON object behind its length of eight bytes; each tensor names its type, shape and
place, and the places cover the rest of the file without a gap.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import Case, fail, good, need
from bench.corpus.opcodes import pickled, shell

_LOADER, _NONE = "safetensors", "none"


def framed(header: object, content: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + content


def _tensor(start: int, end: int, shape: Any = None, dtype: str = "F32") -> dict[str, Any]:
    shape = [(end - start) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _honest(seed: int) -> Iterator[Case]:
    numpy, library = need("numpy"), need("safetensors.numpy")
    draw = numpy.random.default_rng(seed)
    sets = {
        "one": {"w": draw.normal(size=(3, 4)).astype("float32")},
        "many": {
            f"layer.{i}.weight": draw.normal(size=(4, 4)).astype("float32") for i in range(64)
        },
        "kinds": {
            kind: numpy.zeros(4, kind)
            for kind in ("float64", "float16", "int8", "int64", "uint8", "bool", "int32")
        },
        "scalar": {"s": numpy.array(3, "float32")},
        "empty_tensor": {"e": numpy.zeros((0, 3), "float32")},
        "named_oddly": {"модель.вес": numpy.zeros(2, "float32"), "a b": numpy.zeros(1, "int8")},
    }
    for slug, tensors in sets.items():
        yield good(f"{slug}.safetensors", library.save(tensors), _LOADER)
    described = library.save(sets["one"], metadata={"format": "pt", "author": "a team"})
    yield good("metadata.safetensors", described, _LOADER)
    yield good("nothing.safetensors", library.save({}), _LOADER)
    padded = json.dumps({"w": _tensor(0, 8)}).encode() + b" " * 40
    yield good("padded.safetensors", framed(padded, bytes(8)), _LOADER)


def _torch(seed: int) -> Iterator[Case]:
    torch = need("safetensors.torch")
    state = need("torch").nn.Linear(3, 2).state_dict()
    need("torch").nn.init.zeros_(state["weight"]), need("torch").nn.init.zeros_(state["bias"])
    yield good("torch_state.safetensors", torch.save(state, {"format": "pt"}), _LOADER)


def _bad(seed: int) -> Iterator[Case]:
    two = {"a": _tensor(0, 8), "b": _tensor(8, 16)}
    a = json.dumps(_tensor(0, 8)).encode()
    b = json.dumps(_tensor(8, 16)).encode()
    cases: dict[str, tuple[bytes, str]] = {
        "overlap": (
            framed({"a": _tensor(0, 8), "b": _tensor(4, 12)}, bytes(12)),
            "Two tensors share bytes.",
        ),
        "same_place": (
            framed({"a": _tensor(0, 8), "b": _tensor(0, 8)}, bytes(8)),
            "Two tensors are one.",
        ),
        "gap": (
            framed({"a": _tensor(0, 8), "b": _tensor(16, 24)}, bytes(24)),
            "Bytes lie between two tensors.",
        ),
        "gap_at_start": (framed({"a": _tensor(8, 16)}, bytes(16)), "Bytes lie before the first."),
        "trailing": (framed(two, bytes(16) + b"more"), "Bytes follow the last tensor."),
        "trailing_pickle": (
            framed(two, bytes(16) + pickled(shell())),
            "A pickle follows the last tensor.",
        ),
        "short": (framed(two, bytes(12)), "The last tensor leads out of the file."),
        "offset_huge": (framed({"a": _tensor(0, 1 << 62)}, bytes(8)), "An offset leads far out."),
        "offset_overflow": (
            framed({"a": _tensor(0, (1 << 64) - 4)}, bytes(8)),
            "An offset overflows.",
        ),
        "offset_negative": (framed({"a": _tensor(-8, 8)}, bytes(8)), "An offset is negative."),
        "offset_reversed": (
            framed({"a": _tensor(8, 0, [2])}, bytes(8)),
            "A tensor ends before it begins.",
        ),
        "offset_float": (
            framed(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}}', bytes(8)),
            "An offset is no integer.",
        ),
        "shape_mismatch": (
            framed({"a": _tensor(0, 8, [3])}, bytes(8)),
            "The shape needs more than there is.",
        ),
        "shape_overflow": (
            framed({"a": _tensor(0, 8, [1 << 33, 1 << 33])}, bytes(8)),
            "The shape's product overflows.",
        ),
        "shape_negative": (
            framed({"a": _tensor(0, 8, [-2])}, bytes(8)),
            "A dimension is negative.",
        ),
        "shape_wraps": (
            framed({"a": _tensor(0, 8, [(1 << 62) + 1, 4, 2])}, bytes(8)),
            "The shape's product wraps around to what fits.",
        ),
        "dtype_object": (
            framed({"a": _tensor(0, 8, dtype="O")}, bytes(8)),
            "The type says objects.",
        ),
        "key_twice": (framed(b'{"a":' + a + b',"a":' + b + b"}", bytes(16)), "A name comes twice."),
        "key_twice_escaped": (
            framed(b'{"a":' + a + b',"\\u0061":' + b + b"}", bytes(16)),
            "A name comes twice, once escaped.",
        ),
        "field_twice": (
            framed(
                b'{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', bytes(8)
            ),
            "A field comes twice.",
        ),
        "metadata_twice": (
            framed(b'{"__metadata__":{"a":"b"},"__metadata__":{"c":"d"},"a":' + a + b"}", bytes(8)),
            "The metadata comes twice.",
        ),
        "metadata_number": (
            framed({"__metadata__": {"a": 1}, "a": _tensor(0, 8)}, bytes(8)),
            "The metadata holds a number.",
        ),
        "metadata_nested": (
            framed({"__metadata__": {"a": {"b": "c"}}, "a": _tensor(0, 8)}, bytes(8)),
            "The metadata is nested.",
        ),
        "header_not_object": (framed(b"[1, 2]", bytes(8)), "The header is no object."),
        "header_nested": (
            framed(b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
            "The header is nested twenty thousand deep.",
        ),
        "header_huge": (framed(b'{"a":1}', b"", 1 << 50), "The header claims a petabyte."),
        "header_over_limit": (
            framed(b"{}" + b" " * 100, b"", 100_000_001),
            "The header claims more than the format's limit.",
        ),
        "header_wraps": (framed(b"{}", b"", (1 << 64) - 1), "The header's length overflows."),
        "header_zero": (framed(b"{}", bytes(8), 0), "The header is empty."),
        "header_not_utf8": (
            framed(b'{"\xff\xfe":' + a + b"}", bytes(8)),
            "The header is not UTF-8.",
        ),
        "header_nan": (
            framed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8)),
            "The header holds NaN.",
        ),
        "header_trailing_text": (
            framed(json.dumps(two).encode() + b"import os", bytes(16)),
            "Text follows the header's object.",
        ),
        "header_leading_space": (
            framed(b"  " + json.dumps(two).encode(), bytes(16)),
            "The header does not begin with a brace.",
        ),
        "many_tensors": (
            framed({f"t{i}": _tensor(0, 0) for i in range(60_000)} | {"a": "x"}),
            "Sixty thousand empty tensors, and one that is none.",
        ),
        "name_climbs": (
            framed({"../../etc/passwd": _tensor(0, 8), "": 3}, bytes(8)),
            "A tensor is named as a path, and one is none.",
        ),
        "single_quotes": (
            framed(b"{'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}", bytes(8)),
            "The header is Python, not JSON.",
        ),
    }
    # The reader itself refuses most: what it refuses has nothing to prove.
    for slug, (data, reason) in cases.items():
        yield fail(f"{slug}.safetensors", data, reason, _NONE)
    yield fail(
        "overlap.bin", cases["overlap"][0], "Two tensors share bytes; the name says nothing.", _NONE
    )


PARTS = (_honest, _torch, _bad)
