"""Scan what somebody names: files, and every file under folders, in several processes if asked."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.datafiles import settle
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.rules import printable
from keepstone.scan.scanner import scan_file, scan_named, unjudged
from keepstone.scan.together import judge_folder_of
from keepstone.scan.walk import NotWalked, walk

MAX_FILES = 100_000
# Starting processes takes longer than judging fewer files.
_WORTH_A_POOL = 32

# Called with the path of each file before it is scanned.
Observer = Callable[[str], None]
JudgeFile = Callable[[Path], FileReport]


def scan_paths(
    paths: Sequence[Path],
    observer: Observer | None = None,
    *,
    exclude: Sequence[str] = (),
    workers: int = 1,
    allowed: tuple[Added, ...] = (),
) -> ScanReport:
    """Scan files, and every file under folders. No link inside a folder is followed.

    Files and folders under a folder that match a pattern of `exclude` are left out. With more
    than one of `workers`, many files are judged in as many processes, forked from this one.
    `allowed` are a site's own names for pickles, beyond those that ship.
    Raises InputError `scan.missing` for a path that is not there, and `scan.unreadable` for a
    file named here that cannot be read. Inside a folder such a file is not evaluated.
    """
    judge_one = partial(scan_file, allowed=allowed)
    reports: list[FileReport] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            raise InputError("scan.missing", f"Cannot read {path}: {_strerror(error)}.") from error
        if not stat.S_ISDIR(mode):
            _tell(observer, str(path))
            reports.append(scan_named(path, allowed))
            continue
        most = MAX_FILES - len(reports)
        listed = list(islice(walk(path, exclude), most + 1))
        found = list(_scan_listed(listed[:most], workers, observer, judge_one))
        reports += judge_folder_of(found, path)
        if len(listed) > most:
            reports.append(unjudged(str(path), f"There are more than {MAX_FILES} files."))
            break
    return ScanReport(settle(reports), allowed)


def _scan_listed(
    listed: Sequence[Path | NotWalked],
    workers: int,
    observer: Observer | None,
    judge_one: JudgeFile,
) -> Iterator[FileReport]:
    """The report on each of what was listed, in order."""
    files = [item for item in listed if isinstance(item, Path)]
    if workers < 2 or len(files) < _WORTH_A_POOL:
        judged: Iterator[FileReport] = map(judge_one, files)
    else:
        judged = _in_processes(files, workers, judge_one)
    for item in listed:
        _tell(observer, item.path if isinstance(item, NotWalked) else str(item))
        if isinstance(item, NotWalked):
            yield unjudged(printable(item.path, 4096), item.reason)
        else:
            yield next(judged)


def _in_processes(
    files: Sequence[Path], workers: int, judge_one: JudgeFile
) -> Iterator[FileReport]:
    """Judge in processes; a file whose process does not survive it is not evaluated."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    done = 0
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        try:
            for report in pool.map(judge_one, files, chunksize=4):
                done += 1
                yield report
        except BrokenProcessPool:
            for path in files[done:]:
                yield unjudged(printable(str(path), 4096), "The process that judged it was ended.")


def _tell(observer: Observer | None, path: str) -> None:
    if observer is not None:
        observer(path)


def _strerror(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not a path"
