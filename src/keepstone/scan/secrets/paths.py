"""Look for secrets in what somebody names: files, and every file under folders."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from keepstone.core.finding import Finding
from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.paths import MAX_FILES, Observer
from keepstone.scan.rules import finding, printable
from keepstone.scan.secrets.baseline import Entry, gone
from keepstone.scan.secrets.found import SecretFinding
from keepstone.scan.secrets.look import find_in_view
from keepstone.scan.secrets.report import FileSecrets, SecretsReport
from keepstone.scan.view import View, open_view
from keepstone.scan.walk import NotWalked, walk

# A repository's history is not looked into: what was removed from it must be revoked anyway.
HISTORY = (".git", ".hg", ".svn")


def scan_secrets(
    paths: Sequence[Path],
    observer: Observer | None = None,
    *,
    exclude: Sequence[str] = (),
    baseline: Sequence[Entry] = (),
) -> SecretsReport:
    """Look into files, and every file under folders. No link inside a folder is followed.

    Raises InputError `scan.missing` for a path that is not there, and `scan.unreadable` for a
    file named here that cannot be read. Inside a folder such a file is not evaluated.
    """
    known = {entry.fingerprint for entry in baseline}
    files: list[FileSecrets] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "not a path"
            raise InputError("scan.missing", f"Cannot read {path}: {why}.") from error
        if not stat.S_ISDIR(mode):
            if observer is not None:
                observer(str(path))
            files.append(_named(path, known))
            continue
        for item in walk(path, (*HISTORY, *exclude)):
            if len(files) >= MAX_FILES:
                files.append(_unread(str(path), f"There are more than {MAX_FILES} files."))
                break
            if observer is not None:
                observer(item.path if isinstance(item, NotWalked) else str(item))
            files.append(_listed(item, known))
    found = [item for file in files for item in file.found]
    return SecretsReport(tuple(files), gone(baseline, found))


def _listed(item: Path | NotWalked, known: set[str]) -> FileSecrets:
    if isinstance(item, NotWalked):
        return _unread(item.path, item.reason)
    try:
        return _named(item, known)
    except KeepstoneError as error:
        return _unread(str(item), error.cause)


def _named(path: Path, known: set[str]) -> FileSecrets:
    name = printable(str(path), 4096)
    with open_view(path, name, _nothing) as view:
        found = tuple(
            item.as_known() if item.fingerprint in known and item.is_secret else item
            for item in find_in_view(view)
        )
        return FileSecrets(name, found)


def _nothing(view: View) -> Iterator[Finding]:
    """The look brings its own judge."""
    return iter(())


def _unread(path: str, reason: str) -> FileSecrets:
    name = printable(path, 4096)
    item = SecretFinding(finding("scan.not_evaluated", reason, name))
    return FileSecrets(name, (item,))
