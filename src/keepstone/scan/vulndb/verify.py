"""Is a database folder still what its record says, no more and no less?"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.core.ports import SystemClock
from keepstone.errors import VerificationError
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.rules import printable
from keepstone.scan.vulndb.record import ARCHIVE, FILE, DatabaseRecord, Part, read_record


def verify_folder(folder: Path) -> DatabaseRecord:
    """Return the record of a folder whose every file is as recorded.

    Raises InputError `vulndb.missing`, `vulndb.malformed`; VerificationError `vulndb.changed`
    for a file that is not, is missing, or that the record does not know.
    """
    record = read_record(folder)
    expected = {FILE, *(f"{part.ecosystem}/{ARCHIVE}" for part in record.parts)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in expected and not (path.is_dir() and not path.is_symlink()):
            raise _changed(f"{printable(name)} is in the folder and not in its record")
    for part in record.parts:
        if not is_whole(folder, part):
            raise _changed(f"{part.ecosystem}/{ARCHIVE} is missing, or not what was recorded")
    if database_digest(folder, SystemClock().now_ms()) != record.digest:
        raise _changed("its records have another digest")
    return record


def database_digest(folder: Path, now: int) -> Digest:
    """The digest that scans of packages give the folder.

    Raises VerificationError `vulndb.changed` where some of it cannot be read as records.
    """
    found = read_database(folder, (), now)
    if found.broken:
        raise _changed(f"records cannot be read: {'; '.join(found.broken[:3])}")
    return found.digest


def is_whole(folder: Path, part: Part) -> bool:
    """Whether the archive of a part is there and has its digest and its size."""
    return file_digest(folder / part.ecosystem / ARCHIVE) == (part.sha256, part.size)


def file_digest(path: Path) -> tuple[Digest, int] | None:
    """Digest and size of a regular file; None for anything else, or where it cannot be read."""
    try:
        # Non-blocking: a pipe in its place must not hang us before it is refused.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        try:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Digest(digest), file.tell()
        except OSError:
            return None


def _changed(why: str) -> VerificationError:
    return VerificationError(
        "vulndb.changed",
        f"The database is not what its record says: {why}.",
        "Fetch it anew: keepstone vulndb update --into DIR.",
    )
