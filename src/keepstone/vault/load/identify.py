"""Which of an artifact's files is the model, and in what format: by content, never by name."""

from __future__ import annotations

import re
from zipfile import BadZipFile, ZipFile

from keepstone.contract.onnx import resembles_onnx
from keepstone.errors import InputError, OperationalError
from keepstone.vault.load.reader import ViewReader
from keepstone.vault.staging import CONTRACT_FILE
from keepstone.vault.verified import Files

# A folder's scan names no one format: each of its files has its own.
FOLDER = "folder"
_HEAD = 1 << 16
# Either member may come first; many other files begin with a version that is a text.
_XGBOOST = re.compile(
    rb'\s*\{\s*(?:"learner"\s*:\s*\{|"version"\s*:\s*\[)'
    rb"|\{L\x00{7}\x07(?:learner\{|version\[)"
)
_LIGHTGBM = re.compile(rb"tree\r?\nversion=")


def find_model(files: Files) -> tuple[str, tuple[str, ...]]:
    """Return the format of the model in `files`, and its own files in order.

    Other files may lie beside it; a loader reads only those that the model names. Raises
    OperationalError `runtime.missing` where there is none, InputError `model.ambiguous` where
    there are models of two formats.
    """
    found: dict[str, list[str]] = {}
    for path in files.paths:
        format = None if path == CONTRACT_FILE else format_of(files.view(path))
        if format is not None:
            found.setdefault(format, []).append(path)
    if len(found) > 1:
        raise InputError(
            "model.ambiguous",
            f"The artifact holds models of several formats: {', '.join(sorted(found))}.",
            "Leave one model in the folder.",
        )
    for format, paths in found.items():
        return format, tuple(paths)
    raise OperationalError(
        "runtime.missing",
        "The artifact holds no model of a format that has a runtime.",
        "See docs/explain/loading.md for the formats.",
    )


def require_scanned(scanned: str, format: str) -> None:
    """Refuse to load as `format` what was scanned as something else. Raises `model.ambiguous`."""
    if scanned not in (format, FOLDER):
        raise InputError(
            "model.ambiguous",
            f"The model was scanned as {scanned} and would be loaded as {format}.",
            "Export it again: a file that two readers understand differently is not loaded.",
        )


def is_xgboost(head: bytes) -> bool:
    """True where a file that begins with `head` is XGBoost's JSON or UBJSON."""
    return _XGBOOST.match(head) is not None


def format_of(data: memoryview) -> str | None:
    """The format that a file's content has, or None."""
    head = bytes(data[:_HEAD])
    if head[:4] == b"PK\x03\x04":
        return _zip_format(data)
    length = int.from_bytes(head[:8], "little")
    if 2 <= length <= len(data) - 8 and head[8:9] == b"{":
        return "safetensors"
    if is_xgboost(head):
        return "xgboost"
    if _LIGHTGBM.match(head):
        return "lightgbm"
    return "onnx" if resembles_onnx(head) else None


def _zip_format(data: memoryview) -> str | None:
    try:
        with ZipFile(ViewReader(data)) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        return None
    lasts = {name.rsplit("/", 1)[-1].casefold() for name in names}
    if "schema.json" in names:
        return "skops"
    return "torch" if "data.pkl" in lasts or "constants.pkl" in lasts else None
