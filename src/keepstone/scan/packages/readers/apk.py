"""What apk has installed: `lib/apk/db/installed`. Source: apk-tools, apk-installed(5).

Advisories of Alpine speak of the source package, which apk calls the origin; it shares the
package's version.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.source import Source
from keepstone.scan.packages.readers.stanzas import stanzas
from keepstone.scan.packages.release import ecosystem_of, os_release

_WANTED = frozenset("PVo")


def read_apk(source: Source) -> Iterator[Package | NotJudged]:
    """Every package of the database."""
    root = source.path.removesuffix("lib/apk/db/installed").removesuffix("usr/")
    ecosystem = ecosystem_of(os_release(source.tree, root), "apk")
    entries = 0
    for fields, repeated in stanzas(source.lines(), _field):
        entries += 1
        yield _package(source, ecosystem, fields, repeated)
    if not entries:
        yield source.open("It holds no package.")


def _field(line: str) -> tuple[str, str] | None:
    key, colon, value = line.partition(":")
    return (key, value) if colon and key in _WANTED else None


def _package(
    source: Source, ecosystem: str, fields: dict[str, str], repeated: bool
) -> Package | NotJudged:
    name, version = fields.get("P", ""), fields.get("V", "")
    if repeated:
        return source.open("An entry gives one field twice.", name)
    return source.package(ecosystem, name, version, fields.get("o", ""), version)
