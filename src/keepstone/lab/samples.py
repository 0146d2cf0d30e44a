"""Labelled samples to attack with, out of a file: `.npz`, CSV or Parquet.

Nothing in a file is executed, and what it says of its size is held against a limit before it is
believed.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError

MAX_FILE = 4 << 30
MAX_BYTES = 8 << 30
_X, _Y = "x", "y"
_LABELS = ("y", "label", "target", "class")


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
        if path.stat().st_size > MAX_FILE:
            raise InputError("data.too_large", f"{path} has more than {MAX_FILE} bytes.")
        return path.read_bytes()
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
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biufU":
        raise InputError("data.bad_type", "x are not numbers, or y are neither numbers nor text.")
    if y.dtype.kind == "f":
        if not (np.isfinite(y).all() and (y == np.rint(y)).all()):
            raise InputError(
                "data.bad_labels", "A label is missing, or no whole number.", "Drop such rows."
            )
        y = y.astype(np.int64)
    if y.dtype.kind in "bu":
        y = y.astype(np.int64)
    if not len(x):
        raise InputError("data.empty", "There are no samples in it.")
    flat = x.reshape(len(x), -1)
    if flat.dtype.kind != "f":
        flat = flat.astype(np.float64)
    if not np.isfinite(flat).all():
        raise InputError(
            "data.not_finite", "A sample has a value that is missing, NaN or infinite."
        )
    return Samples(flat, y, digest, features)


def _read_npz(data: bytes, label: str | None) -> tuple[Array, Array, tuple[str, ...]]:
    wanted = label or _Y
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise InputError("data.too_large", "Unpacked it has too many bytes.")
            return _member(archive, _X), _member(archive, wanted), ()
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError) as error:
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
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise _malformed("an array in it has a version that is not read")
        shape, _, dtype = readers[version](stream)
        if dtype.hasobject or prod(shape) * dtype.itemsize > MAX_BYTES:
            raise _malformed("an array in it holds objects, or is too large")
    with archive.open(entry) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _read_csv(data: bytes, label: str | None) -> tuple[Array, Array, tuple[str, ...]]:
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
    """Whole numbers where all are, else text."""
    stripped = [text.strip() for text in texts]
    if all(text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() for text in stripped):
        try:
            return np.array([int(text) for text in stripped], np.int64)
        except (OverflowError, ValueError):
            pass
    return np.array(stripped)


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
        if file.metadata.num_rows * max(1, file.metadata.num_columns) * 8 > MAX_BYTES:
            raise InputError("data.too_large", "Unpacked it has too many bytes.")
        table = file.read()
        at = _label_column(list(table.column_names), label)
        y = table.column(at).to_numpy(zero_copy_only=False)
        kept = [name for place, name in enumerate(table.column_names) if place != at]
        columns = [
            table.column(place).to_numpy(zero_copy_only=False)
            for place in range(table.num_columns)
            if place != at
        ]
        x = np.column_stack([np.asarray(one, np.float64) for one in columns])
    except (pa.ArrowException, ValueError, TypeError, OSError) as error:
        raise _malformed("it is no Parquet file of numbers and one column of labels") from error
    return x, np.array(list(map(str, y))) if y.dtype.kind == "O" else y, tuple(kept)


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


def _malformed(why: str) -> InputError:
    return InputError("data.malformed", f"The samples cannot be read: {why}.")
