"""Scan files and folders: every file gets a verdict, and only a whole look makes it clean.

A scanner is a function from an open file to findings; the table below says which format has
one. A format without one, an error or a limit is *not evaluated*, with the reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from keepstone.core.digest import SINGLE_FILE
from keepstone.core.finding import Finding, Outcome
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.scan.archive.containers import CONTAINERS
from keepstone.scan.contract import scan_contract
from keepstone.scan.datafiles import data_files, settle
from keepstone.scan.formats import EMPTY, UNKNOWN, identify
from keepstone.scan.keras.archive import scan_keras
from keepstone.scan.keras.hdf5 import scan_hdf5
from keepstone.scan.onnx.structure import scan_onnx
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.polyglot import find_second_format
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.rules import MAX_FINDINGS, RULES_VERSION, finding, printable, verdict
from keepstone.scan.smells.look import smells_of
from keepstone.scan.tensorflow.saved_model import TENSORFLOW, scan_tensorflow
from keepstone.scan.tensorflow.tflite import scan_tflite
from keepstone.scan.tensors.gguf import scan_gguf
from keepstone.scan.tensors.safetensors import scan_safetensors
from keepstone.scan.torch.legacy import scan_pickle_file
from keepstone.scan.view import Scanner, View, open_view
from keepstone.vault.staging import Staged

__all__ = [
    "RULES_VERSION",
    "SCANNERS",
    "FileReport",
    "Observer",
    "ScanReport",
    "judge",
    "scan_file",
    "scan_paths",
    "scan_staged",
]

# The seam: a format's scanner, by the name that `identify` gives it.
SCANNERS: Mapping[str, Scanner] = {
    "contract": scan_contract,
    "gguf": scan_gguf,
    "onnx": scan_onnx,
    "pickle": scan_pickle_file,
    "safetensors": scan_safetensors,
    **CONTAINERS,
    **dict.fromkeys(TENSORFLOW, scan_tensorflow),
    "hdf5": scan_hdf5,
    "keras": scan_keras,
    "tflite": scan_tflite,
}
MAX_FILES = 100_000
MAX_DEPTH = 64

# Called with the path of each file before it is scanned.
Observer = Callable[[str], None]


def scan_paths(
    paths: Sequence[Path], observer: Observer | None = None, allowed: tuple[Added, ...] = ()
) -> ScanReport:
    """Scan files, and every file under folders. No link inside a folder is followed.

    `allowed` are a site's own names for pickles, beyond those that ship.

    Raises InputError `scan.missing` for a path that is not there, and `scan.unreadable` for a
    file named here that cannot be read. Inside a folder such a file is not evaluated.
    """
    reports: list[FileReport] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            raise InputError("scan.missing", f"Cannot read {path}: {_strerror(error)}.") from error
        named = not stat.S_ISDIR(mode)
        for file in iter([path]) if named else _walk(path):
            if len(reports) >= MAX_FILES:
                reports.append(_open(str(path), f"There are more than {MAX_FILES} files."))
                return ScanReport(settle(reports), allowed)
            if observer is not None:
                observer(file.path if isinstance(file, FileReport) else str(file))
            if isinstance(file, FileReport):
                reports.append(file)
            else:
                reports.append(
                    _scan_named(file, allowed) if named else scan_file(file, None, allowed)
                )
    return ScanReport(settle(reports), allowed)


def scan_staged(staged: Staged) -> FileReport:
    """Scan the private copy of an artifact, as staging made it, into one report.

    A single file's report names it `.`; a folder's has the format `folder`, no digest of its
    own and the findings of all its files. A copy that no longer has the digest that staging
    gave it is not evaluated.
    """
    reports = []
    for file in staged.artifact:
        report = scan_file(staged.file(file.path), file.path)
        if report.sha256 is not None and report.sha256 != file.sha256:
            report = _open(report.path, "The copy is no longer what was staged.")
        reports.append(report)
    if staged.is_single_file:
        return reports[0]
    whole = ScanReport(settle(reports))
    found = whole.outcome, whole.findings, whole.smells
    return FileReport(SINGLE_FILE, None, staged.size, "folder", *found)


def scan_file(path: Path, shown: str | None = None, allowed: tuple[Added, ...] = ()) -> FileReport:
    """Return the verdict on one file, whatever is in it and whatever it does to its scanner."""
    name = printable(str(path) if shown is None else shown, 4096)
    try:
        with open_view(path, name, judge, allowed) as view:
            return _report(view)
    except KeepstoneError as error:
        return _open(name, error.cause)


def _scan_named(path: Path, allowed: tuple[Added, ...]) -> FileReport:
    """The verdict on a file that the caller named, who is told where it cannot be read."""
    name = printable(str(path), 4096)
    try:
        with open_view(path, name, judge, allowed) as view:
            return _report(view)
    except OperationalError as error:
        return _open(name, error.cause)


def _report(view: View) -> FileReport:
    found = tuple(islice(judge(view), MAX_FINDINGS))
    if len(found) == MAX_FINDINGS:
        found = (*found, view.unseen(f"There are more than {MAX_FINDINGS} findings."))
    kind = identify(view.data)
    odd, reads = smells_of(view, kind), data_files(view, kind)
    size, outcome, leaned = len(view.data), verdict(found), tuple(sorted(view.allowance.leaned))
    return FileReport(view.path, view.sha256, size, kind, outcome, found, odd, reads, leaned=leaned)


def judge(view: View) -> Iterator[Finding]:
    """Judge a file, or a part of one, by what it is. No finding means clean. Never raises."""
    try:
        kind = identify(view.data, view.allowance)
        scanner = SCANNERS.get(kind)
        if scanner is None:
            yield _no_scanner(kind, view)
        else:
            yield from scanner(view)
        yield from find_second_format(view, kind)
        if view.allowance.opcodes <= 0:
            yield view.unseen("The file has more opcodes of pickles than the limit allows.")
    except KeepstoneError as error:
        yield view.unseen(error.cause)
    except Exception as error:  # noqa: BLE001  # an edge: the file is an attacker's
        # A scanner that fails on a file has not judged it, and must not end the whole scan.
        yield view.unseen(f"The scanner failed: {type(error).__name__}.")


def _no_scanner(kind: str, view: View) -> Finding:
    known = {UNKNOWN: "The format of the file is not known.", EMPTY: "The file is empty."}
    return view.unseen(known.get(kind, f"There is no scanner for the format {kind} yet."))


def _open(path: str, reason: str) -> FileReport:
    """The report on a file that could not be looked at."""
    item = finding("scan.not_evaluated", reason, path)
    return FileReport(path, None, 0, UNKNOWN, Outcome.NOT_EVALUATED, (item,))


def _walk(root: Path) -> Iterator[Path | FileReport]:
    """Every file under `root` in order; what is not one comes as a report that says so."""
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield _open(printable(str(folder), 4096), f"Cannot list it: {_strerror(error)}.")
            continue
        folders = []
        for entry in listed:
            path = Path(entry.path)
            if entry.is_symlink():
                yield _open(printable(entry.path, 4096), "A link inside a folder is not followed.")
            elif entry.is_dir(follow_symlinks=False):
                if depth + 1 > MAX_DEPTH:
                    yield _open(printable(entry.path, 4096), "Folders are nested too deep.")
                else:
                    folders.append((path, depth + 1))
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                yield _open(printable(entry.path, 4096), "It is not a regular file.")
        pending.extend(reversed(folders))


def _strerror(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not a path"
