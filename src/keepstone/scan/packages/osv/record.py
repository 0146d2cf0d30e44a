"""One OSV record, read strictly: a member of another type than the schema's is a broken record.

Source: the OSV schema 1.7. Members that we do not use are not looked at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from keepstone.scan.strictjson import read_json

MAJOR = "1"
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class BadRecordError(ValueError):
    """The file is no record that can be trusted to be understood; the message is the reason."""


class Named(msgspec.Struct, frozen=True):
    ecosystem: str
    name: str


class _HeadAffected(msgspec.Struct, frozen=True):
    package: Named | None = None


class Head(msgspec.Struct, frozen=True):
    """Which packages a record is about: all that is kept of most of them."""

    id: _Id
    modified: _Time
    schema_version: str = "1.0.0"
    affected: list[_HeadAffected] | None = None


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None

    def __post_init__(self) -> None:
        given = (self.introduced, self.fixed, self.last_affected, self.limit)
        if sum(item is not None for item in given) != 1:
            raise ValueError("An event says more or less than one thing.")

    @property
    def version(self) -> str:
        return self.introduced or self.fixed or self.last_affected or self.limit or ""


class Range(msgspec.Struct, frozen=True):
    type: str
    events: list[Event]


class Scale(msgspec.Struct, frozen=True):
    """A severity: a type such as `CVSS_V3` and its vector, or an ecosystem's own word."""

    type: str
    score: str


class Affected(msgspec.Struct, frozen=True):
    package: Named | None = None
    ranges: list[Range] | None = None
    versions: list[str] | None = None
    severity: list[Scale] | None = None
    ecosystem_specific: dict[str, Any] | None = None
    database_specific: dict[str, Any] | None = None


class Record(msgspec.Struct, frozen=True):
    id: _Id
    modified: _Time
    withdrawn: _Time | None = None
    aliases: list[_Id] | None = None
    upstream: list[_Id] | None = None
    summary: str = ""
    affected: list[Affected] | None = None
    severity: list[Scale] | None = None
    database_specific: dict[str, Any] | None = None


_HEAD = msgspec.json.Decoder(Head)
_RECORD = msgspec.json.Decoder(Record)


def read_head(data: bytes) -> Head:
    """Raises BadRecordError, also for a schema of another major version."""
    try:
        head = _HEAD.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f"it is no OSV record ({type(error).__name__})") from error
    if head.schema_version.partition(".")[0] != MAJOR:
        raise BadRecordError(f"its schema is {head.schema_version[:20]!r}, not {MAJOR}.x")
    return head


def read_record(data: bytes) -> Record:
    """The whole record. Raises BadRecordError; a name that is given twice is one reason."""
    try:
        if read_json(data).repeated:
            raise BadRecordError("it gives a name twice")
        return _RECORD.decode(data)
    except BadRecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"it is no OSV record ({type(error).__name__})") from error
