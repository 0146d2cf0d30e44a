"""What dpkg has installed: `var/lib/dpkg/status`, or a file per package (distroless).

Source: deb-control(5), dpkg's status file. Advisories of Debian and Ubuntu speak of source
packages, whose version differs where the stanza's Source field says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.source import Source
from keepstone.scan.packages.readers.stanzas import stanzas
from keepstone.scan.packages.release import ecosystem_of, os_release

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,63}):[ \t]*(.*)")
_SOURCE = re.compile(r"(\S+)(?:\s+\((\S+)\))?")
_WANTED = frozenset(("package", "status", "version", "source"))
# No file of the package is left on the disk.
_GONE = frozenset(("not-installed", "config-files"))


def read_dpkg(source: Source) -> Iterator[Package | NotJudged]:
    """Every package with files on the disk, half-installed ones too."""
    root, _, place = source.path.rpartition("var/lib/dpkg/")
    ecosystem = ecosystem_of(os_release(source.tree, root), "dpkg")
    # Distroless keeps no status in its stanzas: what lies there is installed.
    alone = place.startswith("status.d/")
    entries = 0
    for fields, repeated in stanzas(source.lines(), _field):
        entries += 1
        yield from _package(source, ecosystem, fields, repeated, alone)
    if not entries:
        yield source.open("It holds no package.")


def _package(
    source: Source, ecosystem: str, fields: dict[str, str], repeated: bool, alone: bool
) -> Iterator[Package | NotJudged]:
    name = fields.get("package", "")
    if repeated:
        yield source.open("A stanza gives one field twice.", name)
        return
    status = fields.get("status", "").split()
    if not alone or status:
        if len(status) != 3:
            yield source.open("A stanza does not say whether the package is installed.", name)
            return
        if status[2] in _GONE:
            return
    origin = _SOURCE.fullmatch(fields.get("source", name).strip())
    if origin is None:
        yield source.open("The source package's name or version cannot be one.", name)
        return
    version = fields.get("version", "")
    yield source.package(ecosystem, name, version, origin[1], origin[2] or version)


def _field(line: str) -> tuple[str, str] | None:
    # A line that begins with a space goes on with the field before.
    match = None if line[0] in " \t" else _FIELD.match(line)
    return (match[1].lower(), match[2]) if match and match[1].lower() in _WANTED else None
