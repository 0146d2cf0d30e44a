"""Scan files and folders: every file gets a verdict, and only a whole look makes it clean.

A scanner is a function from an open file to findings; the table below says which format has
one. A format without one, an error or a limit is *not evaluated*, with the reason. What only
several files together show is added to the report on one of them (`keepstone.scan.folders`).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from keepstone.core.digest import SINGLE_FILE
from keepstone.core.finding import Finding, Outcome
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive.containers import CONTAINERS
from keepstone.scan.archive.folders import also_as_folder
from keepstone.scan.archive.sevenzip import scan_7z
from keepstone.scan.archive.tar import scan_tar
from keepstone.scan.folders.disk import JudgedFiles
from keepstone.scan.folders.folder import MAX_READ
from keepstone.scan.folders.scanners import judge_folder
from keepstone.scan.formats import EMPTY, UNKNOWN, ZIPS, identify
from keepstone.scan.markup.xml import scan_xml
from keepstone.scan.onnx.structure import scan_onnx
from keepstone.scan.pickle.stream import scan_pickle
from keepstone.scan.polyglot import find_second_format
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.rules import MAX_FINDINGS, RULES_VERSION, finding, printable, verdict
from keepstone.scan.text.programs import PROGRAMS, scan_html, scan_program
from keepstone.scan.text.scanner import scan_text
from keepstone.scan.trees.catboost import scan_catboost
from keepstone.scan.trees.scanner import scan_ubjson, scan_xgboost_binary
from keepstone.scan.view import Scanner, View, open_view
from keepstone.scan.walk import NotWalked, walk
from keepstone.vault.staging import Staged

__all__ = [
    "RULES_VERSION",
    "SCANNERS",
    "FileReport",
    "Observer",
    "ScanReport",
    "judge",
    "scan_contents",
    "scan_file",
    "scan_paths",
    "scan_staged",
    "unjudged",
]

# The seam: a format's scanner, by the name that `identify` gives it.
SCANNERS: Mapping[str, Scanner] = {
    "onnx": scan_onnx,
    "pickle": scan_pickle,
    **CONTAINERS,
    **{kind: also_as_folder(CONTAINERS[kind]) for kind in ZIPS},
    "tar": scan_tar,
    "7z": scan_7z,
    "xml": scan_xml,
    "html": scan_html,
    **dict.fromkeys(("text", "json", "notebook", "lightgbm", "script"), scan_text),
    "ubjson": scan_ubjson,
    "catboost": scan_catboost,
    "xgboost-binary": scan_xgboost_binary,
    **dict.fromkeys(PROGRAMS, scan_program),
}
MAX_FILES = 100_000
# Starting processes takes longer than judging fewer files.
_WORTH_A_POOL = 32

# Called with the path of each file before it is scanned.
Observer = Callable[[str], None]


def scan_paths(
    paths: Sequence[Path],
    observer: Observer | None = None,
    *,
    exclude: Sequence[str] = (),
    workers: int = 1,
) -> ScanReport:
    """Scan files, and every file under folders. No link inside a folder is followed.

    Files and folders under a folder that match a pattern of `exclude` are left out. With more
    than one of `workers`, many files are judged in as many processes, forked from this one.
    Raises InputError `scan.missing` for a path that is not there, and `scan.unreadable` for a
    file named here that cannot be read. Inside a folder such a file is not evaluated.
    """
    reports: list[FileReport] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            raise InputError("scan.missing", f"Cannot read {path}: {_strerror(error)}.") from error
        if not stat.S_ISDIR(mode):
            _tell(observer, str(path))
            reports.append(_scan_named(path))
            continue
        most = MAX_FILES - len(reports)
        listed = list(islice(walk(path, exclude), most + 1))
        found = list(_scan_listed(listed[:most], workers, observer))
        reports += _with_folder(found, path)
        if len(listed) > most:
            reports.append(unjudged(str(path), f"There are more than {MAX_FILES} files."))
            break
    return ScanReport(tuple(reports))


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
            report = unjudged(report.path, "The copy is no longer what was staged.")
        reports.append(report)
    if staged.is_single_file:
        return reports[0]
    names = [file.path for file in staged.artifact]
    whole = ScanReport(_judged_together(names, reports, lambda name: _small(staged.file(name))))
    return FileReport(SINGLE_FILE, None, staged.size, "folder", whole.outcome, whole.findings)


def scan_contents(files: Mapping[str, bytes], shown: str) -> ScanReport:
    """Scan an artifact that is in memory: its files by their paths, reported under `shown`."""
    names = list(files)
    reports = []
    for name in names:
        path = shown if name == SINGLE_FILE else f"{shown}/{name}"
        view = View(printable(path, 4096), memoryview(files[name]), Allowance(), judge)
        reports.append(_report(view))
    if names == [SINGLE_FILE]:
        return ScanReport(tuple(reports))
    return ScanReport(_judged_together(names, reports, files.get))


def _scan_listed(
    listed: Sequence[Path | NotWalked], workers: int, observer: Observer | None
) -> Iterator[FileReport]:
    """The report on each of what was listed, in order."""
    files = [item for item in listed if isinstance(item, Path)]
    if workers < 2 or len(files) < _WORTH_A_POOL:
        judged: Iterator[FileReport] = map(scan_file, files)
    else:
        judged = _in_processes(files, workers)
    for item in listed:
        _tell(observer, item.path if isinstance(item, NotWalked) else str(item))
        if isinstance(item, NotWalked):
            yield unjudged(printable(item.path, 4096), item.reason)
        else:
            yield next(judged)


def _in_processes(files: Sequence[Path], workers: int) -> Iterator[FileReport]:
    """Judge in processes; a file whose process does not survive it is not evaluated."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    done = 0
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        try:
            for report in pool.map(scan_file, files, chunksize=4):
                done += 1
                yield report
        except BrokenProcessPool:
            for path in files[done:]:
                yield unjudged(printable(str(path), 4096), "The process that judged it was ended.")


def _with_folder(reports: Sequence[FileReport], root: Path) -> tuple[FileReport, ...]:
    """The reports on a folder's files, with what only the whole of it shows."""
    start = f"{printable(str(root), 4096).rstrip('/')}/"
    names = [report.path.removeprefix(start) for report in reports]
    return _judged_together(names, reports, lambda name: _small(root / name))


def _judged_together(
    names: Sequence[str],
    reports: Sequence[FileReport],
    content: Callable[[str], bytes | None],
) -> tuple[FileReport, ...]:
    known = {
        name: (report.path, report.sha256) for name, report in zip(names, reports, strict=True)
    }
    more: dict[str, list[Finding]] = {}
    for item in islice(judge_folder(JudgedFiles(known, content)), MAX_FINDINGS):
        more.setdefault(item.location.path, []).append(item)
    return tuple(
        _with(report, more[report.path]) if report.path in more else report for report in reports
    )


def _with(report: FileReport, more: Sequence[Finding]) -> FileReport:
    found = (*report.findings, *more)
    return replace(report, outcome=verdict(found), findings=found)


def _small(path: Path) -> bytes | None:
    """A file's content where it is small enough to name others."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_READ + 1)
    except OSError:
        return None


def _tell(observer: Observer | None, path: str) -> None:
    if observer is not None:
        observer(path)


def scan_file(path: Path, shown: str | None = None) -> FileReport:
    """Return the verdict on one file, whatever is in it and whatever it does to its scanner."""
    name = printable(str(path) if shown is None else shown, 4096)
    try:
        with open_view(path, name, judge) as view:
            return _report(view)
    except KeepstoneError as error:
        return unjudged(name, error.cause)


def _scan_named(path: Path) -> FileReport:
    """The verdict on a file that the caller named, who is told where it cannot be read."""
    name = printable(str(path), 4096)
    try:
        with open_view(path, name, judge) as view:
            return _report(view)
    except OperationalError as error:
        return unjudged(name, error.cause)


def _report(view: View) -> FileReport:
    found = tuple(islice(judge(view), MAX_FINDINGS))
    if len(found) == MAX_FINDINGS:
        found = (*found, view.unseen(f"There are more than {MAX_FINDINGS} findings."))
    kind = identify(view.data)
    return FileReport(view.path, view.sha256, len(view.data), kind, verdict(found), found)


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


def unjudged(path: str, reason: str) -> FileReport:
    """The report on a file that could not be looked at."""
    item = finding("scan.not_evaluated", reason, path)
    return FileReport(path, None, 0, UNKNOWN, Outcome.NOT_EVALUATED, (item,))


def _strerror(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not a path"
