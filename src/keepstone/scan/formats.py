"""What a file is, by its content: names and extensions are the attacker's to choose."""

from __future__ import annotations

import re
import zlib

from keepstone.contract.onnx import resembles_onnx
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive.tarheaders import resembles_tar
from keepstone.scan.archive.zipdir import read_zip
from keepstone.scan.contract import resembles_contract
from keepstone.scan.pickle.opcodes import resembles_pickle
from keepstone.scan.tensorflow.schema import identify_graph
from keepstone.scan.text.kinds import kind_without_signature

UNKNOWN = "unknown"
EMPTY = "empty"
# A zip archive is called by what its members make of it.
ZIPS = ("zip", "torch", "pt2", "keras", "skops", "npz")

# What Keras writes beside an archive's configuration.
_BESIDE_CONFIG = frozenset({"metadata.json", "model.weights.h5", "model.weights.npz"})

# Formats that say what they are at a fixed place: (offset, bytes, name).
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"PK\x07\x08", "zip"),
    (0, b"\x93NUMPY", "numpy"),
    (0, b"GGUF", "gguf"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x5d\x00\x00", "lzma"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"\x7fELF", "elf"),
    (4, b"TFL3", "tflite"),
    (4, b"ORTM", "ort"),
    (257, b"ustar", "tar"),
    # HDF5 may stand behind a block of the user's own, at a power of two.
    *((512 << shift, b"\x89HDF\r\n\x1a\n", "hdf5") for shift in range(7)),
    (0, b"<?xml", "xml"),
)
_HEAD = 1 << 16
# joblib's first compressed form: a length in hexadecimal digits, padded to 19, then zlib.
_ZFILE = re.compile(rb"ZF0x[0-9a-f]{1,16} {0,16}\x78")


def identify(data: memoryview, allowance: Allowance | None = None) -> str:
    """Return the name of the format of `data`, `empty`, or `unknown`. Never raises.

    `allowance` is for one of many that lie in one file.
    """
    if not data:
        return EMPTY
    head = bytes(data[:_HEAD])
    # First, since its length may spell the mark of a pickle or of a compressed stream.
    if _is_safetensors(head, data):
        return "safetensors"
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return "pickle"
    for offset, mark, name in _SIGNATURES:
        if head[offset : offset + len(mark)] == mark:
            return _zip_of(data) if name == "zip" else name
    if _ZFILE.match(head):
        return "zfile"
    # RFC 1950 2.2: deflate with a window of 32 KiB, and a check over the two bytes.
    # A text may begin with these letters too; then what follows is no deflate.
    if head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0 and _inflates(head):
        return "zlib"
    if resembles_contract(data):
        return "contract"
    if resembles_tar(head):
        return "tar"
    # Those without a signature come last, the strictest first.
    if kind := identify_graph(data):
        return kind
    if resembles_onnx(head):
        return "onnx"
    if resembles_pickle(data, allowance or Allowance()):
        return "pickle"
    return kind_without_signature(head, len(head) == len(data)) or UNKNOWN


_OBJECT = re.compile(rb"\{[ \t\r\n]*[\"}]")
_SAFETENSORS = re.compile(rb"\s*[\[{].{0,4000}?\"(data_offsets|__metadata__)\"", re.DOTALL)


def _is_safetensors(head: bytes, data: memoryview) -> bool:
    """A length that ends where a JSON text does; or such a text behind a length that lies."""
    length = int.from_bytes(head[:8], "little")
    fits, opens = 2 <= length <= len(data) - 8, _OBJECT.match(head, 8) is not None
    if fits and not opens and head[8:9] in (b"{", b"["):
        return bytes(data[7 + length : 8 + length]) in (b"}", b"]", b" ", b"\n", b"\t", b"\r")
    # The beginning of a text is no length.
    if opens and (fits or not all(32 <= byte < 127 for byte in head[:8])):
        return True
    return _SAFETENSORS.match(head, 8) is not None


def _inflates(head: bytes) -> bool:
    try:
        zlib.decompressobj().decompress(head, 1)
    except zlib.error:
        return False
    return True


def _zip_of(data: memoryview) -> str:
    """Only a label: each of them is looked at in the same way."""
    names = [entry.name for entry in read_zip(data).entries]
    lasts = {name.rsplit("/", 1)[-1].casefold() for name in names}
    tails = {name.partition("/")[2].casefold() for name in names}
    if "data.pkl" in tails:
        return "torch"
    if {"archive_format", "serialized_exported_program.json"} & (tails | lasts):
        return "pt2"
    if "config.json" in lasts and _BESIDE_CONFIG & lasts:
        return "keras"
    if "schema.json" in names:
        return "skops"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "zip"
