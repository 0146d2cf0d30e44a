"""Break files of the corpus, and say whether what is broken still fires.

The oracle is Python's own unpickler, asked what it would import and given nothing: a mutation
keeps its payload where that still names what no honest file of the corpus asks for.
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import pickle
import random
import zipfile
import zlib
from collections.abc import Iterator

from bench.corpus.case import MissingError

# Those that are made in no time, without a heavy library.
LIGHT = (
    *("pickle_opcodes", "pickle_nested", "pickle_stdlib", "numpy_files", "saved_model"),
    *("safetensors_files", "gguf_files", "xml_files", "tflite_files", "notebooks"),
    *("configuration", "plain_data", "bundles", "archives", "torch_files"),
)
_HEAVY = {
    ("torch_files", "_honest"),
    ("torch_files", "_plain"),
    ("archives", "_bombs"),
    ("plain_data", "_frames"),
    ("safetensors_files", "_torch"),
}
MOST = 20_000
_LIMIT = 1 << 22
_TOKENS = (
    *(b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"\x93NUMPY", b"GGUF", b"ustar"),
    *(
        b"\x80\x04",
        b"\x95" + bytes(8),
        b"cos\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93",
        b"R",
        b".",
    ),
    *(b"\x85R", b"(", b"o", b"\x81", b"\x92", b"b", b"Q", b"\x82\x01", b"q\x00", b"h\x00", b"\x94"),
    *(b"'descr': '|O'", b"<!ENTITY", b"{{", b"}}", b'"_target_"', b"!!python/object/apply:"),
    *(b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"x\x9c", b"data.pkl", b"../", b"\x00", b"\n"),
)
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1)
_FIRING = frozenset(
    {
        *(("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec")),
        *(("__builtin__", "eval"), ("subprocess", "Popen"), ("subprocess", "call")),
    }
)


def seeds(families: tuple[str, ...] = LIGHT, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """The small single files of `families`, by their names, as far as libraries are here."""
    for family in families:
        for part in importlib.import_module(f"bench.corpus.families.{family}").PARTS:
            if (family, part.__name__) in _HEAVY:
                continue
            try:
                for case in part(seed):
                    if isinstance(case.content, bytes) and len(case.content) <= MOST:
                        yield f"{family}/{case.file_name}", case.content
            except MissingError:
                continue


def mutate(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """`data` after one to four accidents, some of which come out of `other`."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = draw.choice(_ACCIDENTS)(draw, data, other)
    return data[: 4 * MOST]


def _flip(draw: random.Random, data: bytes, other: bytes) -> bytes:
    if not data:
        return other
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _truncate(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _splice(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at, start = draw.randrange(len(data) + 1), draw.randrange(len(other) + 1)
    return data[:at] + other[start:]


def _append(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data + other if draw.random() < 0.5 else other + data


def _insert(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice(_TOKENS) + data[at:]


def _remove(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + data[at + draw.randrange(1, 17) :]


def _repeat(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    piece = data[at : at + draw.randrange(1, 33)]
    return data[:at] + piece * draw.choice((2, 3, 50)) + data[at:]


def _number(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """A length or a count becomes one at an edge."""
    size = draw.choice((1, 2, 4, 8))
    value = draw.choice(_EDGES) & (1 << 8 * size) - 1
    at = draw.randrange(len(data) + 1)
    return data[:at] + value.to_bytes(size, draw.choice(("little", "big"))) + data[at + size :]


_ACCIDENTS = (_flip, _truncate, _splice, _append, _insert, _remove, _repeat, _number)


def still_fires(data: bytes) -> bool:
    """True where a plain loader of pickles, archives or streams would reach a payload."""
    return any(map(_imports_payload, _contents(data, 3)))


def _contents(data: bytes, left: int) -> Iterator[bytes]:
    """The bytes themselves, and what plain readers make of them."""
    yield data
    if left == 0:
        return
    for inner in _unpacked(data):
        yield from _contents(inner, left - 1)


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for info in archive.infolist()[:50]:
                    if info.file_size <= _LIMIT:
                        yield archive.read(info)
        except Exception:
            return
    for mark, machine in (
        (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
        (b"x", zlib.decompressobj),
        (b"BZh", bz2.BZ2Decompressor),
        (b"\xfd7zXZ", lzma.LZMADecompressor),
    ):
        if data.startswith(mark):
            try:
                yield machine().decompress(data, _LIMIT)
            except Exception:
                return


class _Asked(pickle.Unpickler):
    """An unpickler that imports nothing and remembers what it was asked for."""

    def __init__(self, data: io.BytesIO) -> None:
        super().__init__(data, encoding="latin1")
        self.fires = False

    def find_class(self, module: str, name: str) -> object:
        self.fires |= (module, name) in _FIRING
        # Nothing is called: what was asked for is enough, and what follows may depend on it.
        raise pickle.UnpicklingError("nothing is imported here")

    def persistent_load(self, pid: object) -> object:
        return None


def _imports_payload(data: bytes) -> bool:
    stream = io.BytesIO(data[: 1 << 20])
    try:
        asked = _Asked(stream)
        asked.load()
    except Exception:
        return asked.fires
    return False
