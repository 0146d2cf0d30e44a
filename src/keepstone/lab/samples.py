"""Labelled samples to attack with, out of a file: `.npz`, CSV or Parquet.

Nothing in a file is executed, and what it says of its size is held against a limit before it is
believed.
"""

from __future__ import annotations

import csv
import io
import lzma
import os
import re
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError

MAX_FILE = 4 << 30
MAX_BYTES = 8 << 30
_X, _Y = "x", "y"
_LABELS = ("y", "label", "target", "class")
# Bytes of one number as attacks take it, whatever it was in the file.
_NUMBER = 8
_WHOLE = re.compile(r"[+-]?[0-9]+\Z")
# What numpy and zipfile raise on bytes that they did not write.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    SyntaxError,
    EOFError,
    OSError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Samples:
    """`n` rows of finite numbers `(n, d)`, their labels as the file has them, and its digest.

    `features` names the columns, where the file does.
    """

    x: Array
    y: Array
    digest: Digest
    features: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def take(self, places: Array) -> Samples:
        return Samples(self.x[places], self.y[places], self.digest, self.features)


def require_same_columns(features: Sequence[str], wanted: Sequence[str], whose: str) -> None:
    """Refuse columns that are not `wanted`, in that order; `whose` those are. Where either has no
    names nothing is known, and nothing is refused. Raises InputError `data.other_columns`."""
    first, second = _names(features), _names(wanted)
    if not first or not second or first == second:
        return
    if sorted(first) == sorted(second):
        why = f"The columns are those of {whose} in another order"
    else:
        odd = [name for name in first if name not in set(second)] or first
        why = f"The columns are not those of {whose}: {odd[0][:64]!r} is none of them"
    shown = ", ".join(second[:8]) + (", ..." if len(second) > 8 else "")
    raise InputError(
        "data.other_columns",
        f"{why}, so that numbers would be taken for others.",
        f"Write them in this order: {shown}",
    )


def _names(features: Sequence[str]) -> list[str]:
    # LightGBM writes a space as an underscore.
    return ["_".join(name.split()) for name in features]


def read_samples(path: Path, label: str | None = None) -> Samples:
    """Read `x` and `y` of an `.npz`, or a table whose column `label` holds the labels.

    Without `label` the column is the one that is called y, label, target or class. Raises
    InputError `data.*`; OperationalError `data.unreadable`, `runtime.missing`.
    """
    data = _bytes(path)
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            "data.unknown_format",
            f"{path} is none of {', '.join(readers)}.",
            "Save the samples as .npz with x and y: numpy.savez(FILE, x=..., y=...).",
        )
    x, y, features = reader(data, label)
    return _checked(x, y, Digest.of(data), features)


def _bytes(path: Path) -> bytes:
    try:
        # Without waiting: a pipe in its place may have nobody at the other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise InputError(
                "data.not_regular", f"{path} is no regular file.", "Save the samples as one."
            )
        with os.fdopen(descriptor, "rb") as file:
            if status.st_size > MAX_FILE:
                raise InputError("data.too_large", f"{path} has more than {MAX_FILE} bytes.")
            return file.read()
    except OSError as error:
        raise OperationalError(
            "data.unreadable", f"{path} cannot be read: {error.strerror}.", "Look at the path."
        ) from error


def _checked(x: Array, y: Array, digest: Digest, features: tuple[str, ...]) -> Samples:
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise InputError(
            "data.bad_shape",
            f"x has the shape {list(x.shape)} and y {list(y.shape)}: not one label for each row.",
            "Give x of n rows and y of n labels.",
        )
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biufUS":
        raise InputError("data.bad_type", "x are not numbers, or y are neither numbers nor text.")
    if not len(x):
        raise InputError("data.empty", "There are no samples in it.")
    y = _plain(y)
    flat = x.reshape(len(x), -1)
    if flat.dtype.kind != "f":
        flat = flat.astype(np.float64)
    if not np.isfinite(flat).all():
        raise InputError(
            "data.not_finite", "A sample has a value that is missing, NaN or infinite."
        )
    return Samples(flat, y, digest, features)


def _plain(y: Array) -> Array:
    """Labels as whole numbers of 64 bits or as text. Raises InputError `data.bad_labels`."""
    if y.dtype.kind == "f":
        if not (np.isfinite(y).all() and (y == np.rint(y)).all()):
            _bad_labels()
        if not ((y >= -(2.0**63)) & (y < 2.0**63)).all():
            _bad_labels()
    if y.dtype.kind == "u" and y.max() > np.iinfo(np.int64).max:
        _bad_labels()
    if y.dtype.kind in "bfu":
        return y.astype(np.int64)
    if y.dtype.kind == "S":
        # Text takes four bytes for what was one.
        if y.nbytes * 4 > MAX_BYTES:
            _too_large()
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            _bad_labels(error)
    if y.dtype.kind == "U" and (np.char.strip(y) == "").any():
        _bad_labels()
    return y


def _texts(names: list[str], places: Array | None = None) -> Array:
    """An array of text, or of the `names` at these places: each as long as the longest."""
    count = max(len(names), 0 if places is None else len(places))
    if max(map(len, names), default=0) * count * 4 > MAX_BYTES:
        _too_large()
    found = np.array(names, str)
    return found if places is None else found[places]


def _read_npz(data: bytes, label: str | None) -> tuple[Array, Array, tuple[str, ...]]:
    wanted = label or _Y
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                _too_large()
            return _member(archive, _X), _member(archive, wanted), ()
    except _BROKEN as error:
        raise _malformed("it is no .npz of plain arrays") from error


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    """One array, with no more memory than its own header and the limit allow."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        raise InputError(
            "data.no_column",
            f"There is no array {name[:64]!r} in it.",
            "Save it with x and y: numpy.savez(FILE, x=..., y=...).",
        ) from error
    with archive.open(entry) as stream:
        shape, dtype = _header(stream)
        # Neither objects nor records, nor more than there is.
        if dtype.kind in "OV" or prod(shape) * dtype.itemsize > entry.file_size:
            raise _malformed("an array in it holds objects, or is larger than it says")
        if prod(shape) * max(_NUMBER, dtype.itemsize) > MAX_BYTES:
            _too_large()
    with archive.open(entry) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise _malformed("an array in it has a version that is not read")
    shape, _, dtype = readers[version](stream)
    if any(type(length) is not int or length < 0 for length in shape):
        raise _malformed("an array in it has a length that is none")
    return shape, dtype


def _read_csv(data: bytes, label: str | None) -> tuple[Array, Array, tuple[str, ...]]:
    if (data.count(b",") + data.count(b"\n")) * _NUMBER > MAX_BYTES:
        _too_large()
    try:
        text = data.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed("it is no CSV in UTF-8") from error
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise InputError("data.empty", "There are no samples in it.")
    head, body = rows[0], rows[1:]
    at = _label_column(head, label)
    _require_apart(head)
    if any(len(row) != len(head) for row in body):
        raise _malformed("its rows have different lengths")
    try:
        x = np.array([row[:at] + row[at + 1 :] for row in body], np.float64)
    except ValueError as error:
        raise InputError(
            "data.bad_type",
            "A feature is no number.",
            "Encode categories as numbers first, as the model takes them.",
        ) from error
    return x, _labels([row[at] for row in body]), tuple(head[:at] + head[at + 1 :])


def _labels(texts: list[str]) -> Array:
    """Whole numbers where all are, else text. Raises InputError `data.bad_labels`."""
    stripped = [text.strip() for text in texts]
    if not all(map(_WHOLE.match, stripped)):
        return _texts(stripped)
    try:
        return np.array([int(text) for text in stripped], np.int64)
    except (OverflowError, ValueError) as error:
        _bad_labels(error)


def _read_parquet(data: bytes, label: str | None) -> tuple[Array, Array, tuple[str, ...]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "Parquet files are read by pyarrow, which is not installed.",
            "pip install 'keepstone[parquet]'",
        ) from error
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names, types = list(file.schema_arrow.names), list(file.schema_arrow.types)
        groups = range(file.metadata.num_row_groups)
        rows = sum(file.metadata.row_group(group).num_rows for group in groups)
        if max(rows, file.metadata.num_rows) * max(1, len(names)) * _NUMBER > MAX_BYTES:
            _too_large()
        at = _label_column(names, label)
        _require_apart(names)
        _require_flat(types, at)
        # A text that comes in each row is not unpacked for each.
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=[names[at]])
        table = file.read()
        y = _parquet_labels(table.column(at))
        kept = [name for place, name in enumerate(names) if place != at]
        columns = [
            table.column(place).to_numpy(zero_copy_only=False)
            for place in range(table.num_columns)
            if place != at
        ]
        x = np.column_stack([np.asarray(one, np.float64) for one in columns])
    except (pa.ArrowException, ValueError, TypeError, OSError) as error:
        raise _malformed("it is no Parquet file of numbers and one column of labels") from error
    return x, y, tuple(kept)


def _require_flat(types: list[Any], at: int) -> None:
    """Numbers, and labels that are numbers, truth values or text: told before any is read."""
    from pyarrow import types as kinds

    def is_number(kind: Any) -> bool:
        return bool(kinds.is_integer(kind) or kinds.is_floating(kind))

    label = types[at]
    texts = (kinds.is_string, kinds.is_large_string, kinds.is_binary, kinds.is_large_binary)
    named = kinds.is_boolean(label) or any(is_text(label) for is_text in texts)
    features = types[:at] + types[at + 1 :]
    if not all(map(is_number, features)) or not (named or is_number(label)):
        raise _malformed("it is no Parquet file of numbers and one column of labels")


def _parquet_labels(column: Any) -> Array:
    """Raises InputError `data.bad_labels` for a row without one."""
    if column.null_count:
        _bad_labels()
    if not hasattr(column.type, "value_type"):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    # Each piece numbers its texts anew.
    names, places, start = [], [np.zeros(0, np.int64)], 0
    for piece in column.chunks:
        known = piece.dictionary.to_pylist()
        names += [_decoded(name) for name in known]
        places.append(piece.indices.to_numpy(zero_copy_only=False).astype(np.int64) + start)
        start += len(known)
    return _texts(names, np.concatenate(places))


def _decoded(name: str | bytes) -> str:
    try:
        return name if isinstance(name, str) else name.decode("utf-8")
    except UnicodeDecodeError as error:
        _bad_labels(error)


def _label_column(names: list[str], label: str | None) -> int:
    wanted = _LABELS if label is None else (label,)
    found = [place for place, name in enumerate(names) if name.strip() in wanted]
    if len(found) != 1:
        raise InputError(
            "data.no_column",
            f"{len(found)} columns are called {' or '.join(wanted)}.",
            "Name the column of labels with --label.",
        )
    return found[0]


def _require_apart(names: list[str]) -> None:
    known: set[str] = set()
    for name in map(str.strip, names):
        if name in known:
            raise InputError(
                "data.two_columns",
                f"Two columns are called {name[:64]!r}: which is which cannot be told.",
                "Give each column a name of its own.",
            )
        known.add(name)


def _bad_labels(error: Exception | None = None) -> NoReturn:
    raise InputError(
        "data.bad_labels",
        "A label is missing, or no text and no whole number of 64 bits.",
        "Drop such rows.",
    ) from error


def _too_large() -> NoReturn:
    raise InputError("data.too_large", "Unpacked it has too many bytes.")


def _malformed(why: str) -> InputError:
    return InputError("data.malformed", f"The samples cannot be read: {why}.")
