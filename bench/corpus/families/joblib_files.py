"""Joblib: pickles behind every compressor, raw arrays between the opcodes, and object arrays."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import COMMAND, EXPRESSION, Case, fail, good, need
from bench.corpus.opcodes import call, name, pickled, shell, text

_LOADER = "joblib.load"
_COMPRESSORS = ("zlib", "gzip", "bz2", "lzma", "xz", "lz4")
_BAD = pickled(shell())


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (EXPRESSION,)


def dumped(value: object, compress: Any = 0, protocol: int | None = None) -> bytes:
    """What joblib writes, without the time that a gzip stream holds."""
    out = io.BytesIO()
    if isinstance(compress, tuple) and compress[0] == "lz4":
        need("lz4.frame")
    need("joblib").dump(value, out, compress=compress, protocol=protocol)
    data = out.getvalue()
    if data[:2] == b"\x1f\x8b":
        data = data[:4] + bytes(4) + data[8:]
    return data


def _honest(seed: int) -> Iterator[Case]:
    numpy = need("numpy")
    draw = numpy.random.default_rng(seed)
    linear = need("sklearn.linear_model").LinearRegression()
    linear.fit(draw.normal(size=(20, 3)), draw.normal(size=20))
    forest = need("sklearn.ensemble").RandomForestClassifier(5, random_state=seed)
    forest.fit(draw.normal(size=(40, 3)), numpy.arange(40) % 2)
    for compressor in _COMPRESSORS:
        yield good(f"linear_{compressor}.joblib", dumped(linear, (compressor, 3)), _LOADER)
        yield good(f"forest_{compressor}.joblib", dumped(forest, (compressor, 3)), _LOADER)
    yield good("linear_plain.joblib", dumped(linear), _LOADER)
    yield good("forest_plain.joblib", dumped(forest), _LOADER)
    yield good("linear_true.joblib", dumped(linear, True), _LOADER)
    for protocol in (2, 3, 4, 5):
        yield good(f"linear_protocol_{protocol}.joblib", dumped(linear, 0, protocol), _LOADER)
    arrays = {
        "array": numpy.arange(24.0).reshape(4, 6),
        "array_fortran": numpy.asfortranarray(numpy.arange(24.0).reshape(4, 6)),
        "array_of_objects": numpy.array([1, "two", None, 3.0], dtype=object),
        "array_empty": numpy.empty((0, 3)),
        "dictionary": {"a": numpy.arange(5), "b": [numpy.float32(1), "text"]},
        "texts": numpy.array(["a", "bc"]),
    }
    for slug, value in arrays.items():
        yield good(f"{slug}.joblib", dumped(value), _LOADER)
        yield good(f"{slug}_zlib.joblib", dumped(value, 3), _LOADER)


def _bad(seed: int) -> Iterator[Case]:
    numpy = need("numpy")
    fires = "Evaluates text when loaded"
    model = need("sklearn.linear_model").LinearRegression()
    model.fit([[0.0], [1.0]], [0.0, 1.0])
    model.extra_ = _Evil()
    objects = numpy.array([1, _Evil()], dtype=object)
    for compressor in (*_COMPRESSORS, "none"):
        how: Any = 0 if compressor == "none" else (compressor, 3)
        behind = f"behind the compressor {compressor}"
        yield fail(
            f"object_{compressor}.joblib", dumped(_Evil(), how), f"{fires}, {behind}.", _LOADER
        )
        yield fail(
            f"in_model_{compressor}.joblib",
            dumped(model, how),
            f"{fires}, as an attribute of a model, {behind}.",
            _LOADER,
        )
        yield fail(
            f"object_array_{compressor}.joblib",
            dumped(objects, how),
            f"{fires}, in an array of objects, {behind}.",
            _LOADER,
        )
    behind_array = {"weights": numpy.arange(64.0), "then": _Evil()}
    yield fail(
        "behind_an_array.joblib",
        dumped(behind_array),
        f"{fires}, behind raw bytes of an array that no opcode covers.",
        _LOADER,
    )
    in_list = [numpy.zeros(7), [numpy.ones(3), {"k": _Evil()}]]
    yield fail("between_arrays.joblib", dumped(in_list), f"{fires}, between two arrays.", _LOADER)
    structured = numpy.zeros(2, dtype=[("a", "O"), ("b", "i4")])
    structured["a"][1] = _Evil()
    yield fail(
        "structured_objects.joblib",
        dumped(structured),
        f"{fires}, in a field of a structured array.",
        _LOADER,
    )


def _by_hand(seed: int) -> Iterator[Case]:
    wrapped = {
        "zlib": zlib.compress(_BAD),
        "zlib_level_0": zlib.compress(_BAD, 0),
        "gzip": gzip.compress(_BAD, mtime=0),
        "bz2": bz2.compress(_BAD),
        "xz": lzma.compress(_BAD),
        "lzma": lzma.compress(_BAD, lzma.FORMAT_ALONE),
        "gzip_two_members": gzip.compress(pickle.dumps(1)[:-1], mtime=0)
        + gzip.compress(b"0" + shell() + b".", mtime=0),
        "gzip_with_name": b"\x1f\x8b\x08\x08"
        + bytes(6)
        + b"model.bin\x00"
        + gzip.compress(_BAD, mtime=0)[10:],
        "gzip_trailing": gzip.compress(_BAD, mtime=0) + bytes(64),
        "xz_two_streams": lzma.compress(b"\x80\x04N0") + lzma.compress(shell() + b"."),
        "bz2_two_streams": bz2.compress(b"\x80\x04N0") + bz2.compress(shell() + b"."),
    }
    for slug, data in wrapped.items():
        yield fail(f"hand_{slug}.joblib", data, f"Runs a shell command, behind {slug}.", _LOADER)
    yield fail(
        "hand_zlib.txt", wrapped["zlib"], "Runs a shell command; the name says text.", _LOADER
    )
    yield fail(
        "hand_xz.png", wrapped["xz"], "Runs a shell command; the name says picture.", _LOADER
    )
    wrapper = call(
        name("joblib.numpy_pickle", "NumpyArrayWrapper"),
        name("numpy", "ndarray"),
        b"(t",
        text("C"),
        call(name("builtins", "eval"), text(EXPRESSION)),
    )
    yield fail(
        "wrapper_argument.joblib",
        pickled(wrapper),
        "Evaluates text among the arguments of joblib's own wrapper.",
        _LOADER,
    )
    old = call(
        name("joblib.numpy_pickle_compat", "NDArrayWrapper"),
        text("../x.npy"),
        name("numpy", "memmap"),
        b"\x88",
    )
    yield fail(
        "old_wrapper_path.joblib",
        pickled(old + b"0" + call(name("os", "system"), text(COMMAND))),
        "Names another file, then runs a shell command.",
        _LOADER,
    )


PARTS = (_honest, _bad, _by_hand)
