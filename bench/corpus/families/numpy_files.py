"""NumPy: npy and npz, whose arrays of objects are pickles. Source: numpy.lib.format, NEP 1."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import EXPRESSION, Case, fail, good, need, zipped
from bench.corpus.opcodes import pickled, shell

_LOADER = "numpy.load"
_BAD = pickled(shell())
OBJECTS = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (EXPRESSION,)


def _npy(numpy: Any, array: Any, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    numpy.lib.format.write_array(out, array, version, allow_pickle=True)
    return out.getvalue()


def framed(header: str, content: bytes, version: bytes = b"\x01\x00") -> bytes:
    """An npy file with that header, padded as NEP 1 asks."""
    raw = header.encode("utf-8" if version[0] == 3 else "latin1")
    size = 2 if version[0] == 1 else 4
    raw += b" " * (-(len(raw) + 9 + size) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(raw).to_bytes(size, "little") + raw + content


def _honest(seed: int) -> Iterator[Case]:
    numpy = need("numpy")
    draw = numpy.random.default_rng(seed)
    structured = numpy.zeros(3, dtype=[("name", "U8"), ("age", "i4"), ("scores", "f8", (2,))])
    arrays = {
        **{
            kind: numpy.arange(6).astype(kind)
            for kind in (
                "float64",
                "float32",
                "float16",
                "int64",
                "int8",
                "uint16",
                "complex64",
                "bool",
            )
        },
        "big_endian": numpy.arange(6, dtype=">f8"),
        "fortran": numpy.asfortranarray(draw.normal(size=(3, 4))),
        "structured": structured,
        "texts": numpy.array(["a", "bcd"]),
        "bytes": numpy.array([b"a", b"bcd"]),
        "dates": numpy.array(["2026-01-02"], dtype="M8[D]"),
        "scalar": numpy.array(3.5),
        "empty": numpy.empty((0, 4)),
        "deep": numpy.zeros((1, 2, 1, 2, 1, 2)),
    }
    for slug, array in arrays.items():
        yield good(f"{slug}.npy", _npy(numpy, array), _LOADER)
    for version in ((1, 0), (2, 0), (3, 0)):
        yield good(f"version_{version[0]}.npy", _npy(numpy, arrays["float64"], version), _LOADER)
    members = [(f"{slug}.npy", _npy(numpy, array)) for slug, array in arrays.items()]
    yield good("archive.npz", zipped(members), _LOADER)
    yield good("archive_compressed.npz", zipped(members, zipfile.ZIP_DEFLATED), _LOADER)
    objects = numpy.array([1, "two", None, [3.0]], dtype=object)
    yield good("objects_of_plain_data.npy", _npy(numpy, objects), _LOADER)
    out = io.BytesIO()
    out.write(pickle.dumps(arrays, 5))
    yield good("arrays_pickled.pkl", out.getvalue())
    yield good("scalars_pickled.pkl", pickle.dumps([numpy.float64(1), numpy.int32(2)], 4))
    yield good("generator.pkl", pickle.dumps(numpy.random.RandomState(seed), 4))
    yield good("masked.pkl", pickle.dumps(numpy.ma.masked_array([1, 2], [0, 1]), 4))


def _bad(seed: int) -> Iterator[Case]:
    numpy = need("numpy")
    objects = numpy.array([_Evil()], dtype=object)
    nested = numpy.zeros(1, dtype=[("a", [("b", "O")])])
    nested["a"]["b"][0] = _Evil()
    whole = _npy(numpy, objects)
    fires = "Evaluates text when loaded"
    yield fail("objects.npy", whole, f"{fires}.", _LOADER)
    yield fail(
        "objects_structured.npy", _npy(numpy, nested), f"{fires}, in a nested field.", _LOADER
    )
    yield fail(
        "objects_0d.npy", _npy(numpy, numpy.array(_Evil(), dtype=object)), f"{fires}.", _LOADER
    )
    for version in ((2, 0), (3, 0)):
        yield fail(
            f"objects_version_{version[0]}.npy", _npy(numpy, objects, version), f"{fires}.", _LOADER
        )
    yield fail("objects.npz", zipped([("x.npy", whole)]), f"{fires}.", _LOADER)
    yield fail(
        "objects_compressed.npz",
        zipped([("x.npy", whole)], zipfile.ZIP_DEFLATED),
        f"{fires}.",
        _LOADER,
    )
    clean = _npy(numpy, numpy.zeros(3))
    yield fail(
        "last_of_many.npz",
        zipped([*((f"a{i}.npy", clean) for i in range(50)), ("z.npy", whole)]),
        f"{fires}, last of many members.",
        _LOADER,
    )
    yield fail(
        "duplicate.npz",
        zipped([("x.npy", clean), ("x.npy", whole)]),
        f"{fires}; another reader takes the first of two.",
        _LOADER,
    )
    yield fail(
        "no_extension.npz", zipped([("x", whole)]), f"{fires}; the member has no extension.", "none"
    )
    yield fail("objects.csv", whole, f"{fires}; the name says text.", _LOADER)
    yield fail("pickle_named.npy", _BAD, "Runs a shell command: a bare pickle named npy.", _LOADER)
    yield fail("pickle_named.npz", _BAD, "Runs a shell command: a bare pickle named npz.", _LOADER)


def _headers(seed: int) -> Iterator[Case]:
    fires = "Runs a shell command"
    odd = {
        "descr_list": "{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1,), }",
        "descr_object_name": "{'descr': 'object', 'fortran_order': False, 'shape': (1,), }",
        "descr_escaped": "{'descr': '\\x7cO', 'fortran_order': False, 'shape': (1,), }",
        "descr_octal": "{'descr': '\\117', 'fortran_order': False, 'shape': (1,), }",
        "descr_joined": "{'descr': '|' 'O', 'fortran_order': False, 'shape': (1,), }",
        "descr_unicode_name": "{'descr': '\\N{LATIN CAPITAL LETTER O}', 'fortran_order': False,"
        " 'shape': (1,), }",
        "keys_reordered": "{'shape': (1,), 'fortran_order': False, 'descr': '|O', }",
        "double_quotes": '{"descr": "|O", "fortran_order": False, "shape": (1,)}',
        "key_repeated": "{'descr': '<f8', 'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "comment": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), } # '<f8'",
        "sub_array": "{'descr': [('a', '|O', (1,))], 'fortran_order': False, 'shape': (1,), }",
        "fortran": "{'descr': '|O', 'fortran_order': True, 'shape': (1, 1), }",
        "zero_size": "{'descr': '|O', 'fortran_order': False, 'shape': (0,), }",
    }
    for slug, header in odd.items():
        yield fail(
            f"header_{slug}.npy", framed(header, _BAD), f"{fires}; the header: {slug}.", _LOADER
        )
    yield fail("header_version_2.npy", framed(OBJECTS, _BAD, b"\x02\x00"), f"{fires}.", _LOADER)
    yield fail("header_version_3.npy", framed(OBJECTS, _BAD, b"\x03\x00"), f"{fires}.", _LOADER)
    yield fail(
        "header_bomb.npy",
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0) + b"{",
        "The header claims four gigabytes.",
        _LOADER,
    )
    deep = "{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 9000 + ")" * 9000 + "}"
    yield fail(
        "header_deep.npy", framed(deep, b""), "The header is nested nine thousand deep.", "none"
    )
    huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, ), }"
    yield fail(
        "header_huge_shape.npy", framed(huge, b""), "The header claims eight terabytes.", _LOADER
    )


PARTS = (_honest, _bad, _headers)
