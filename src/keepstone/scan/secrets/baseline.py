"""A baseline: the secrets that are known already, by fingerprints that say nothing about them.

Promise: a baseline holds no part of a value. A secret it names is shown as known and is not
flagged; an entry that names nothing in what was looked at is told, so that the file can shrink.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.scan.secrets.found import SecretFinding

SCHEMA = "keepstone.secrets-baseline/v1"
LIMIT = 16 << 20
_FINGERPRINT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One known secret. Kind and path are for people; the fingerprint alone counts."""

    path: str
    kind: str
    fingerprint: str


def parse_baseline(data: bytes) -> tuple[Entry, ...]:
    """Read a baseline. Raises InputError `secrets.baseline`, `secrets.newer_baseline`."""
    try:
        value = parse_json(data, limit=LIMIT)
    except InputError as error:
        raise _malformed(error.cause) from error
    if not isinstance(value, dict) or value.keys() != {"schema", "secrets"}:
        raise _malformed("A baseline holds exactly `schema` and `secrets`.")
    if value["schema"] != SCHEMA:
        raise InputError(
            "secrets.newer_baseline",
            f"The baseline is of the kind {str(value['schema'])[:64]!r}, not {SCHEMA!r}.",
            "Use the Keepstone that wrote it, or write it anew with --write-baseline.",
        )
    if not isinstance(value["secrets"], list):
        raise _malformed("`secrets` is not a list.")
    return tuple(_entry(item) for item in value["secrets"])


def _entry(item: Any) -> Entry:
    if not isinstance(item, dict) or item.keys() != {"path", "kind", "fingerprint"}:
        raise _malformed("An entry holds exactly `path`, `kind` and `fingerprint`.")
    if not all(isinstance(text, str) for text in item.values()):
        raise _malformed("A field of an entry is not text.")
    if not _FINGERPRINT.match(item["fingerprint"]):
        raise _malformed("A fingerprint is 40 hexadecimal digits.")
    return Entry(item["path"], item["kind"], item["fingerprint"])


def _malformed(cause: str) -> InputError:
    return InputError(
        "secrets.baseline", cause, "Write the baseline anew with --write-baseline, and read it."
    )


def write_baseline(found: Iterable[SecretFinding]) -> bytes:
    """The baseline that names every secret in `found` which no comment allows."""
    entries = sorted(
        {
            Entry(item.finding.location.path, item.kind, item.fingerprint)
            for item in found
            if item.is_secret and item.allowed is None
        }
    )
    listed = [
        {"path": entry.path, "kind": entry.kind, "fingerprint": entry.fingerprint}
        for entry in entries
    ]
    return (json.dumps({"schema": SCHEMA, "secrets": listed}, indent=1) + "\n").encode()


def gone(entries: Iterable[Entry], found: Iterable[SecretFinding]) -> tuple[Entry, ...]:
    """The entries that name nothing of what was found."""
    there = {item.fingerprint for item in found}
    return tuple(sorted({entry for entry in entries if entry.fingerprint not in there}))
