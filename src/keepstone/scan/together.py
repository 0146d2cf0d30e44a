"""What only several files together show: one that names another, and code that comes along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from keepstone.core.finding import Finding
from keepstone.scan.folders.disk import Content, JudgedFiles
from keepstone.scan.folders.folder import MAX_READ
from keepstone.scan.folders.scanners import judge_folder
from keepstone.scan.report import FileReport
from keepstone.scan.rules import MAX_FINDINGS, printable, verdict

__all__ = ["Content", "judge_folder_of", "judge_together", "small_content"]


def judge_folder_of(reports: Sequence[FileReport], root: Path) -> tuple[FileReport, ...]:
    """The reports on a folder's files, with what only the whole of it shows."""
    start = f"{printable(str(root), 4096).rstrip('/')}/"
    names = [report.path.removeprefix(start) for report in reports]
    return judge_together(names, reports, lambda name: small_content(root / name))


def judge_together(
    names: Sequence[str],
    reports: Sequence[FileReport],
    content: Content,
) -> tuple[FileReport, ...]:
    """The reports on files called `names`, with what the folder of them shows.

    `content` gives a file again, if it is small; it is believed only with the digest of its
    report.
    """
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


def small_content(path: Path) -> bytes | None:
    """A file's content where it is small enough to name others."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_READ + 1)
    except OSError:
        return None
