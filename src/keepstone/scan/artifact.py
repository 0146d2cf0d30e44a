"""Scan an artifact as the vault has it: the staged copy, or its files in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keepstone.core.digest import SINGLE_FILE
from keepstone.scan.allowance import Allowance
from keepstone.scan.datafiles import settle
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.rules import printable
from keepstone.scan.scanner import judge, report_on, scan_file, unjudged
from keepstone.scan.together import Content, judge_together, small_content
from keepstone.scan.view import View
from keepstone.vault.load.identify import FOLDER
from keepstone.vault.staging import Staged


def scan_staged(staged: Staged) -> FileReport:
    """Scan the private copy of an artifact, as staging made it, into one report.

    A single file's report names it `.`; a folder's has the format `folder`, no digest of its
    own and the findings of all its files. A copy that no longer has the digest that staging
    gave it is not evaluated; a large file's is not looked at again, as its sealing does that.
    """
    reports = []
    for file in staged.artifact:
        # A large copy was hashed while it was written, and is held against that when it is sealed.
        report = scan_file(staged.file(file.path), file.path, known=file.sha256)
        if report.sha256 is not None and report.sha256 != file.sha256:
            report = unjudged(report.path, "The copy is no longer what was staged.")
        reports.append(report)
    if staged.is_single_file:
        return reports[0]
    names = [file.path for file in staged.artifact]
    whole = _together(names, reports, lambda name: small_content(staged.file(name)))
    found = whole.outcome, whole.findings, whole.smells
    return FileReport(SINGLE_FILE, None, staged.size, FOLDER, *found)


def scan_contents(
    files: Mapping[str, bytes | memoryview], shown: str, allowed: tuple[Added, ...] = ()
) -> ScanReport:
    """Scan an artifact that is in memory: its files by their paths, reported under `shown`."""
    names = list(files)
    reports = []
    for name in names:
        path = shown if name == SINGLE_FILE else f"{shown}/{name}"
        view = View(
            printable(path, 4096), memoryview(files[name]), Allowance(), judge, allowed=allowed
        )
        reports.append(report_on(view))
    if names == [SINGLE_FILE]:
        return ScanReport(tuple(reports))
    return _together(names, reports, files.get)


def _together(names: Sequence[str], reports: Sequence[FileReport], content: Content) -> ScanReport:
    return ScanReport(settle(judge_together(names, reports, content)))
