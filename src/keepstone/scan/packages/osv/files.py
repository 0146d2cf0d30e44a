"""The records of a folder or a zip, one after the other in a fixed order, each within a limit."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.walk import NotWalked, walk

# The largest records that OSV publishes have some 10 MiB.
MAX_RECORD = 64 << 20
MAX_RECORDS = 2_000_000
# All that OSV publishes is a few gigabytes.
MAX_TOTAL = 16 << 30
# What zipfile raises on a member; RuntimeError is an encrypted one.
_SPOILT = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
_GET = "Give a folder of OSV records or a zip of them: see docs/explain/dependencies.md."


@dataclass(frozen=True, slots=True)
class Held:
    """A record's bytes and its name in the folder; with `reason`, a clause, why there are none."""

    name: str
    data: bytes = b""
    reason: str = ""


def records_of(path: Path) -> Iterator[Held]:
    """Every `.json` under the folder or in the zip `path`, and in zips in the folder.

    Names that begin with a dot are not looked at; no link is followed.
    Raises InputError `osv.missing` and `osv.unreadable` about `path` itself.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError("osv.missing", f"There is no database at {path}.", _GET) from error
    if stat.S_ISDIR(mode):
        yield from _folder(path)
    elif stat.S_ISREG(mode) and zipfile.is_zipfile(path):
        yield from _zip(path, "")
    else:
        raise InputError("osv.unreadable", f"{path} is neither a folder nor a zip.", _GET)


def _folder(root: Path) -> Iterator[Held]:
    for found in walk(root, exclude=(".*",)):
        if isinstance(found, NotWalked):
            inside = Path(found.path).relative_to(root).as_posix()
            why = found.reason.rstrip(".")
            yield Held(inside, reason=why[:1].lower() + why[1:])
            continue
        inside = found.relative_to(root).as_posix()
        if found.suffix == ".json":
            yield _file(found, inside)
        elif found.suffix == ".zip":
            yield from _zip(found, f"{inside}/")


def _file(path: Path, name: str) -> Held:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECORD + 1)
    except OSError as error:
        return Held(name, reason=f"it cannot be read: {error.strerror}")
    if len(data) > MAX_RECORD:
        return Held(name, reason="it is larger than any record")
    return Held(name, data)


def _zip(path: Path, prefix: str) -> Iterator[Held]:
    shown = prefix.rstrip("/") or path.name
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_TOTAL:
                yield Held(shown, reason="the archive claims more than all advisories hold")
                return
            seen: set[str] = set()
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                name = f"{prefix}{entry.filename}"
                if entry.filename in seen:
                    yield Held(name, reason="the archive holds two files of this name")
                elif _is_record(entry.filename):
                    yield _member(archive, entry, name)
                seen.add(entry.filename)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = f"the archive cannot be read to its end: {type(error).__name__}"
        yield Held(shown, reason=reason)


def _is_record(name: str) -> bool:
    return name.endswith(".json") and not name.rpartition("/")[2].startswith(".")


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Held:
    # The reader gives no more than the archive claims.
    if entry.file_size > MAX_RECORD:
        return Held(name, reason="it is larger than any record")
    try:
        data = archive.read(entry)
    except _SPOILT as error:
        return Held(name, reason=f"it cannot be unpacked: {type(error).__name__}")
    return Held(name, data)
