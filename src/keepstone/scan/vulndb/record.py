"""What a database folder is: which ecosystems, from where, when, and with which digest.

The record stands in the folder beside the data, in a file that readers of OSV folders pass by:

    {"schema": "keepstone.vulndb/v1", "digest": "sha256:...", "ecosystems": [{"name": "PyPI",
     "source": "https://...", "sha256": "...", "bytes": 1, "records": 1, "newest": "2026-...Z",
     "fetched": "...", "checked": "...", "etag": null, "last_modified": null}]}

The digest is the one that `keepstone scan deps` gives the same folder, over every record in it. It
is no signature: whoever can write the folder can write the record. It tells a folder that was
damaged or mixed up, and names in evidence what was judged by.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError
from keepstone.evidence.fields import Fields

SCHEMA = "keepstone.vulndb/v1"
FILE = ".vulndb.json"
ARCHIVE = "all.zip"
MAX_ECOSYSTEMS = 128
MALFORMED = "vulndb.malformed"
_VERSION = re.compile(r"keepstone\.vulndb/v[0-9]+\Z")
# OSV's names: `PyPI`, `Debian:12`, `Alpine:v3.19`, `crates.io`, `Rocky Linux:9`.
_ECOSYSTEM = re.compile(r"[A-Za-z][A-Za-z0-9.:_ -]{0,62}[A-Za-z0-9]\Z")


@dataclass(frozen=True, slots=True)
class Part:
    """The data of one ecosystem. Times in ms; `newest` is when its youngest record changed.

    `checked` is when the source last said that this is what it has.
    """

    ecosystem: str
    source: str
    sha256: Digest
    size: int
    records: int
    newest: int | None
    fetched: int
    checked: int
    etag: str | None = None
    last_modified: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.ecosystem,
            "source": self.source,
            "sha256": self.sha256.hex,
            "bytes": self.size,
            "records": self.records,
            "newest": None if self.newest is None else rfc3339(self.newest),
            "fetched": rfc3339(self.fetched),
            "checked": rfc3339(self.checked),
            "etag": self.etag,
            "last_modified": self.last_modified,
        }

    @classmethod
    def read(cls, fields: Fields) -> Part:
        part = cls(
            ecosystem=check_ecosystem(fields.line("name", 64)),
            source=fields.line("source"),
            sha256=Digest.parse(fields.text("sha256")),
            size=fields.integer("bytes"),
            records=fields.integer("records"),
            newest=None if fields.raw("newest") is None else fields.time("newest"),
            fetched=fields.time("fetched"),
            checked=fields.time("checked"),
            etag=None if fields.raw("etag") is None else fields.line("etag"),
            last_modified=(
                None if fields.raw("last_modified") is None else fields.line("last_modified")
            ),
        )
        fields.done()
        return part


@dataclass(frozen=True, slots=True)
class DatabaseRecord:
    """The record of a whole folder, its parts in the order of their names."""

    digest: Digest
    parts: tuple[Part, ...]

    @property
    def checked(self) -> int:
        """How current the whole folder is: as current as its oldest part."""
        return min(part.checked for part in self.parts)

    @property
    def records(self) -> int:
        return sum(part.records for part in self.parts)

    def part(self, ecosystem: str) -> Part | None:
        return next((part for part in self.parts if part.ecosystem == ecosystem), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "digest": str(self.digest),
            "ecosystems": [part.to_dict() for part in self.parts],
        }


def check_ecosystem(name: str) -> str:
    """`name` if it can be one of OSV's ecosystems. Raises InputError `vulndb.ecosystem`."""
    if not _ECOSYSTEM.match(name) or ".." in name:
        raise InputError(
            "vulndb.ecosystem",
            f"{name[:64]!r} is not the name of an ecosystem.",
            "OSV's names are PyPI, npm, Debian:12, Alpine:v3.19 and so on.",
        )
    return name


def parse_record(data: bytes) -> DatabaseRecord:
    """Read a record strictly.

    Raises InputError `vulndb.malformed`, `vulndb.newer_version`, `json.*`.
    """
    fields = Fields(parse_json(data), "vulnerability database's record", MALFORMED)
    schema = fields.line("schema", 64)
    if schema != SCHEMA:
        if _VERSION.match(schema):
            raise InputError(
                "vulndb.newer_version",
                f"The database is {schema}, and this build reads {SCHEMA}.",
                "Upgrade Keepstone.",
            )
        raise fields.fault("schema", f"is not {SCHEMA}")
    items = fields.items("ecosystems", MAX_ECOSYSTEMS)
    parts = tuple(Part.read(Fields(item, "database's ecosystem", MALFORMED)) for item in items)
    digest = fields.digest("digest")
    fields.done()
    names = [part.ecosystem for part in parts]
    if not names or names != sorted(set(names)):
        raise fields.fault("ecosystems", "is empty, not in order, or names one twice")
    return DatabaseRecord(digest, parts)


def read_record(folder: Path) -> DatabaseRecord:
    """The record of the folder. Raises InputError `vulndb.missing`, and as `parse_record`."""
    path = folder / FILE
    try:
        # A pipe in its place must not hang us.
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "its record is not a regular file")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            "vulndb.missing",
            f"{folder} was not written by `keepstone vulndb update`: {error.strerror}.",
            "keepstone vulndb update --into DIR makes one.",
        ) from error
    return parse_record(data)
