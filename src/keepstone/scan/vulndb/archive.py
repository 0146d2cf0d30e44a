"""Is a zip what OSV gives out: every member one whole OSV record, named by its id?

Source: OSV schema 1.x (https://ossf.github.io/osv-schema/), and OSV's `<ecosystem>/all.zip`.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from keepstone.core.ports import parse_rfc3339
from keepstone.errors import InputError, OperationalError
from keepstone.scan.packages.osv.coverage import MAX_AHEAD_MS
from keepstone.scan.packages.osv.files import MAX_RECORD, MAX_RECORDS
from keepstone.scan.rules import printable

_TAIL = 22 + 0xFFFF
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"
# An id as a file's name: nothing that leads anywhere else.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}\Z")
_MAJOR = "1"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The most that an archive may hold; what unpacks to more is a bomb, or not this."""

    records: int = MAX_RECORDS
    directory: int = 512 << 20
    record: int = MAX_RECORD
    unpacked: int = 32 << 30


@dataclass(frozen=True, slots=True)
class Contents:
    """How many records there are, and when the youngest of them changed (ms)."""

    records: int
    newest: int


class _Record(msgspec.Struct):
    id: str
    modified: str
    schema_version: str = "1.0.0"
    affected: list[msgspec.Raw] | None = None


_decoder = msgspec.json.Decoder(_Record)


def check_archive(path: Path, now: int, limits: ArchiveLimits | None = None) -> Contents:
    """Read every record of the archive and count them.

    A record that is dated after `now` (ms), by more than clocks differ, is none to tell the
    archive's age by: one of the year 2100 would make every later archive an older one.

    Raises OperationalError `vulndb.not_osv` for anything else than a whole zip of OSV records,
    and `vulndb.newer_osv` for records of a newer major version.
    """
    limits = limits or ArchiveLimits()
    try:
        with path.open("rb") as file:
            _check_directory(file, limits)
            with zipfile.ZipFile(file) as archive:
                return _check_members(archive, now, limits)
    # NotImplementedError and RuntimeError: a method, or a password, that zipfile has not.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _not_osv(f"it is no whole zip archive ({printable(str(error))})") from error
    except OSError as error:
        raise _not_osv(f"it cannot be read ({error.strerror or printable(str(error))})") from error


def _check_directory(file: BinaryIO, limits: ArchiveLimits) -> None:
    """Before anything makes objects of it: the directory is no larger than any real one."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _TAIL))
    tail = file.read(_TAIL)
    at = tail.rfind(_END)
    if at < 0 or at + 22 > len(tail):
        raise _not_osv("it is no zip archive, or only the beginning of one")
    (size,) = struct.unpack_from("<I", tail, at + 12)
    wide = tail.rfind(_END64, 0, at)
    if size == 0xFFFFFFFF and wide >= 0 and wide + 48 <= len(tail):
        (size,) = struct.unpack_from("<Q", tail, wide + 40)
    if size > limits.directory:
        raise _not_osv(f"its directory is larger than {limits.directory} bytes")


def _check_members(archive: zipfile.ZipFile, now: int, limits: ArchiveLimits) -> Contents:
    members = archive.infolist()
    if not members:
        raise _not_osv("it holds no record")
    if len(members) > limits.records:
        raise _not_osv(f"it holds more than {limits.records} records")
    if len({member.filename for member in members}) != len(members):
        raise _not_osv("it holds two records of one name")
    unpacked, newest = 0, -1
    for member in members:
        unpacked += member.file_size
        if member.file_size > limits.record or unpacked > limits.unpacked:
            raise _not_osv(f"it unpacks to more than any record, at {printable(member.filename)}")
        modified = _check_member(archive, member)
        if modified <= now + MAX_AHEAD_MS:
            newest = max(newest, modified)
    if newest < 0:
        raise _not_osv("every record in it is dated in the future")
    return Contents(len(members), newest)


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """When the record of this member changed (ms)."""
    shown = printable(member.filename)
    name, dot, kind = member.filename.rpartition(".")
    if not dot or kind != "json" or not _ID.match(name):
        raise _not_osv(f"{shown} is no record's name")
    # No more comes out than the directory says, and the checksum is held to it at the end.
    data = archive.read(member)
    try:
        record = _decoder.decode(data)
        modified = parse_rfc3339(record.modified)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _not_osv(f"{shown} is no OSV record ({printable(str(error))})") from error
    except InputError as error:
        raise _not_osv(f"{shown} does not say when it changed") from error
    if record.id != name:
        raise _not_osv(f"{shown} holds the record {printable(record.id)}")
    if record.schema_version.partition(".")[0] != _MAJOR:
        raise OperationalError(
            "vulndb.newer_osv",
            f"{shown} is of OSV's schema {printable(record.schema_version)}, and this build reads"
            f" {_MAJOR}.x.",
            "Upgrade Keepstone.",
        )
    return modified


def _not_osv(why: str) -> OperationalError:
    return OperationalError(
        "vulndb.not_osv",
        f"What came is not OSV's archive of an ecosystem: {why}.",
        "What was there before still stands. Look at what the server sends.",
    )
