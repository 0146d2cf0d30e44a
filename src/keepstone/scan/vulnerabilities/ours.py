"""Our own report, `keepstone.scan-deps/v1`, read back from its JSON.

Whether a vulnerability counts is worked out anew: what the report calls waived, or below a limit,
is a finding here until a signed waiver that is given now covers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstone.evidence.made import Tool
from keepstone.evidence.vulnerabilities import Database
from keepstone.scan.packages.names import normal_ecosystem
from keepstone.scan.packages.report import SCHEMA
from keepstone.scan.vulnerabilities.examined import Examined, Known
from keepstone.scan.vulnerabilities.outside import MAX_ITEMS, Outside, newer, severity_of

_FAMILY = "keepstone.scan-deps/v"


def read_ours(value: Mapping[str, Any]) -> Examined:
    """Raises InputError `report.malformed`, `report.newer_version`."""
    top = Outside(value, "Keepstone report")
    schema = top.exactly("schema", 64)
    if schema != SCHEMA:
        if schema.startswith(_FAMILY):
            raise newer("the form", schema, SCHEMA)
        raise top.fault("schema", f"is not {SCHEMA}")
    packages = [Outside(item, "report's package") for item in top.items("packages", MAX_ITEMS)]
    named = {
        (one.exactly("ecosystem"), one.exactly("name"), one.exactly("version")) for one in packages
    }
    read = [item for item in top.many("read") if isinstance(item, str)]
    more = f" and {len(read) - 1} more" if len(read) > 1 else ""
    return Examined(
        scanner=Tool("keepstone", top.exactly("version", 64)),
        target=f"{read[0]}{more}" if read else "",
        packages=len(named),
        known=tuple(map(_known, top.items("vulnerabilities", MAX_ITEMS))),
        database=_database(top, {normal_ecosystem(ecosystem) for ecosystem, _, _ in named}),
        open=tuple(map(_open, top.items("not_evaluated", MAX_ITEMS))),
        time=top.moment("time"),
    )


def _known(item: Any) -> Known:
    one = Outside(item, "report's vulnerability")
    package = one.part("package")
    paths = [path for path in one.many("paths") if isinstance(path, str)]
    ids = [each for each in one.items("ids", 1000) if isinstance(each, str) and each]
    if not ids:
        raise one.fault("ids", "names no advisory")
    return Known(
        package.exactly("ecosystem"),
        package.exactly("name"),
        package.exactly("version"),
        tuple(ids),
        severity_of(one.word("severity", 32)),
        paths[0] if paths else "",
    )


def _open(item: Any) -> str:
    one = Outside(item, "report's open item")
    return f"{one.word('name', 300) or one.word('path', 300)}: {one.word('reason', 1024)}"


def _database(top: Outside, asked: set[str]) -> Database | None:
    """As old as its part for any ecosystem that was asked for: the oldest of these counts."""
    found = top.part_or_none("database")
    if found is None:
        return None
    held = found.part("ecosystems")
    newest: dict[str, int | None] = {}
    for ecosystem in held.names:
        newest[normal_ecosystem(ecosystem)] = held.part(ecosystem).moment("newest")
    times = [newest.get(release) for release in asked]
    known = [time for time in times if time is not None]
    time = min(known) if known and len(known) == len(times) else None
    return Database("osv", found.digest("digest"), time)
