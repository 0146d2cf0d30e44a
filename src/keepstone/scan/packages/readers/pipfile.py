"""Pipfile.lock, as pipenv writes it."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.installed import PYPI
from keepstone.scan.packages.readers.jsons import read_object
from keepstone.scan.packages.readers.source import BrokenListError, Source


def read_pipfile(source: Source) -> Iterator[Package | NotJudged]:
    """The packages of every category (`default`, `develop` and a project's own)."""
    for category, entries in read_object(source).items():
        if category == "_meta":
            continue
        if not isinstance(entries, dict):
            raise BrokenListError("A category is no object.")
        for name, entry in entries.items():
            version = entry.get("version") if isinstance(entry, dict) else None
            if isinstance(version, str) and version.startswith("=="):
                yield source.package(PYPI, name, version.lstrip("="))
            else:
                yield source.open("No exact version from an index is fixed.", name)
