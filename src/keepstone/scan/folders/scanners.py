"""Every folder scanner: each finds the folders that are its own."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import Files, FolderScanner, Look
from keepstone.scan.folders.huggingface import scan_huggingface
from keepstone.scan.folders.mlflow import scan_mlflow
from keepstone.scan.folders.nemo import scan_nemo
from keepstone.scan.folders.python import scan_python
from keepstone.scan.folders.torchserve import scan_torchserve

# The seam: a new kind of folder is one function here.
FOLDER_SCANNERS: tuple[FolderScanner, ...] = (
    scan_huggingface,
    scan_mlflow,
    scan_nemo,
    scan_python,
    scan_torchserve,
)


def judge_folder(files: Files) -> Iterator[Finding]:
    """What only the whole of a folder shows."""
    look = Look.into(files)
    for scanner in FOLDER_SCANNERS:
        yield from scanner(look)
