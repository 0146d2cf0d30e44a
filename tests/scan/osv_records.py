"""What tests of packages are made of: trees in memory, OSV records, and databases of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keepstone.errors import InputError
from keepstone.scan.packages.inventory import Inventory, inventory
from keepstone.scan.packages.judging import DepsReport, judge_packages
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.package import Package

NOW = int(datetime(2026, 6, 10, tzinfo=UTC).timestamp() * 1000)
RECENT = "2026-06-08T09:30:00.123456789Z"
HIGH = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"  # 7.5


class HeldTree:
    """A file tree in memory."""

    def __init__(self, files: dict[str, bytes | str]) -> None:
        self.files = {
            path: data.encode() if isinstance(data, str) else data for path, data in files.items()
        }

    def paths(self) -> Iterator[str]:
        yield from sorted(self.files)

    def read(self, path: str, limit: int) -> bytes:
        if path not in self.files:
            raise InputError("scan.unreadable", f"Cannot read {path}: No such file.")
        if len(self.files[path]) > limit:
            raise InputError("scan.too_large", f"{path} is larger than {limit} bytes.")
        return self.files[path]


def found_in(files: dict[str, bytes | str], *, locks: bool = True) -> Inventory:
    return inventory(HeldTree(files), locks=locks)


def affected(
    name: str,
    *events: dict[str, str],
    ecosystem: str = "PyPI",
    kind: str = "ECOSYSTEM",
    **more: Any,
) -> dict[str, Any]:
    ranges = [{"type": kind, "events": list(events)}] if events else []
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges, **more}


def record(name: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain = {"schema_version": "1.6.0", "id": name, "modified": RECENT, "affected": list(entries)}
    return {**plain, **more}


def before(fixed: str, name: str = "thing", ecosystem: str = "PyPI") -> dict[str, Any]:
    """An entry about every version before `fixed`."""
    return affected(name, {"introduced": "0"}, {"fixed": fixed}, ecosystem=ecosystem)


def write_folder(folder: Path, records: Iterable[dict[str, Any] | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for place, item in enumerate(records):
        data = item if isinstance(item, bytes) else json.dumps(item).encode()
        (folder / f"{place}.json").write_bytes(data)
    return folder


def write_zip(path: Path, records: Iterable[dict[str, Any] | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for place, item in enumerate(records):
            data = item if isinstance(item, bytes) else json.dumps(item).encode()
            archive.writestr(f"{place}.json", data)
    return path


def thing(version: str, ecosystem: str = "PyPI", name: str = "thing") -> Package:
    return Package(ecosystem, name, version, "requirements.txt", name, version)


def judged(
    path: Path | None, packages: Iterable[Package], now: int = NOW, **options: Any
) -> DepsReport:
    packages = tuple(packages)
    database = None if path is None else read_database(path, packages, now)
    return judge_packages(Inventory(packages, ("requirements.txt",)), database, now, **options)


def names(found: Inventory) -> list[tuple[str, str, str]]:
    return [(one.ecosystem, one.name, one.version) for one in found.packages]


def left(found: Inventory) -> dict[str, str]:
    """What was not evaluated: the package's name, or the file's where the file is meant."""
    return {one.name or one.path: one.reason for one in found.open}


OTHER = record("CVE-9", before("1", "other"))


def ids(report: DepsReport) -> list[tuple[str, ...]]:
    return [found.ids for found in report.vulnerabilities]


def open_(report: DepsReport) -> dict[str, str]:
    return {item.name: item.reason for item in report.open}


def v3(vector: str) -> list[dict[str, str]]:
    return [{"type": "CVSS_V3", "score": vector}]
