"""package-lock.json and npm-shrinkwrap.json, lockfileVersion 2 and 3, and what npm installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.jsons import read_object
from keepstone.scan.packages.readers.source import BrokenListError, Source

NPM = "npm"
_FOLDER = "node_modules/"


def read_npm(source: Source) -> Iterator[Package | NotJudged]:
    """Every package under node_modules, however deep; the project's own folders are none."""
    document = read_object(source)
    if document.get("lockfileVersion") not in (2, 3):
        raise BrokenListError("Its lockfileVersion is neither 2 nor 3.")
    packages = document.get("packages")
    if not isinstance(packages, dict):
        raise BrokenListError("It has no `packages`.")
    for place, entry in packages.items():
        if not isinstance(entry, dict):
            yield source.open("An entry is no object.", place)
        elif _FOLDER in place:
            yield from _package(source, place, entry)


def read_global(source: Source) -> Iterator[Package | NotJudged]:
    """The package.json of what is installed for the whole system, which no list names."""
    document = read_object(source)
    yield source.package(NPM, document.get("name"), document.get("version"))


def _package(source: Source, place: str, entry: dict[str, Any]) -> Iterator[Package | NotJudged]:
    # An alias is installed under another name than the registry's.
    name = entry.get("name", place.rpartition(_FOLDER)[2])
    resolved = entry.get("resolved", "")
    if entry.get("link") is True:
        if not isinstance(resolved, str) or resolved.startswith(("/", "..")):
            yield source.open("It is a link to a folder outside of the project.", str(name))
    elif isinstance(resolved, str) and resolved.startswith(("git", "file:", "github:")):
        yield source.open("It comes from a repository or a file, not a registry.", str(name))
    else:
        yield source.package(NPM, name, entry.get("version"))
