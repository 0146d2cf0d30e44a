"""Open somebody's model file only to ask it: staged, judged, and loaded in a limited child.

No admission is given and none is needed, for it serves nobody: what our scanner does not call
clean is not loaded at all, and what it calls clean runs where it can reach nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.errors import DeniedError, OperationalError
from keepstone.lab.targets.file import FileTarget, open_file
from keepstone.scan.artifact import scan_staged
from keepstone.scan.report import FileReport
from keepstone.vault.load.identify import FOLDER, find_model
from keepstone.vault.staging import Staged, stage


@dataclass(frozen=True, slots=True)
class Suspect:
    """A model that can be asked, and the digest of exactly what is asked."""

    digest: Digest
    target: FileTarget


@contextmanager
def open_suspect(path: Path, output: str | None = None) -> Iterator[Suspect]:
    """(1) Stage a private copy. (2) Scan it: only clean goes on. (3) Load that copy in a child.

    Raises DeniedError `target.flagged`; OperationalError `scan.not_evaluated`, `target.*`,
    `runtime.*`; InputError as `stage` and the loaders raise.
    """
    with tempfile.TemporaryDirectory(prefix="keepstone-suspect-") as folder:
        # (1)
        staged = stage(path, Path(folder) / "staging")
        # (2)
        format = format_of_clean(staged, scan_staged(staged), path)
        # (3)
        with open_file(staged.path, staged.digest, format, output) as target:
            yield Suspect(staged.digest, target)


def format_of_clean(staged: Staged, report: FileReport, path: Path) -> str:
    """What was judged clean, as what it was judged; a folder's files were judged each as it is.

    Raises DeniedError `target.flagged`; OperationalError `scan.not_evaluated`, `runtime.missing`.
    """
    _require_clean(report, path)
    return find_model(staged)[0] if report.format == FOLDER else report.format


def _require_clean(report: FileReport, path: Path) -> None:
    if report.outcome is Outcome.CLEAN:
        return
    why = report.findings[0].message if report.findings else "no reason was given"
    if report.outcome is Outcome.FLAGGED:
        raise DeniedError(
            "target.flagged",
            f"{path} is not loaded: {why}",
            "Ask it where it is served (--endpoint), or see `keepstone scan`.",
        )
    raise OperationalError(
        "scan.not_evaluated",
        f"{path} could not be judged, and so is not loaded: {why}",
        "Not evaluated is not clean; see `keepstone scan`.",
    )
