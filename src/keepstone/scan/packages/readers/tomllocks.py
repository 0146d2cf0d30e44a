"""Lock files in TOML: poetry.lock, uv.lock, pdm.lock, and pylock.toml (PEP 751)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.installed import PYPI
from keepstone.scan.packages.readers.source import BrokenListError, Source

# PEP 751: a reader must refuse another major version.
_PYLOCK = "1."
# Python's reader of TOML takes seconds for more.
_MAX_TOML = 16 << 20


def read_poetry(source: Source) -> Iterator[Package | NotJudged]:
    for entry in _entries(load_toml(source), "package", "metadata"):
        kind = entry.get("source")
        # `legacy` is another index: the name is still an index's.
        elsewhere = isinstance(kind, dict) and kind.get("type") not in (None, "legacy")
        yield from _one(source, entry, elsewhere)


def read_uv(source: Source) -> Iterator[Package | NotJudged]:
    for entry in _entries(load_toml(source), "package", "version"):
        origin = entry.get("source")
        origin = origin if isinstance(origin, dict) else {}
        if any(_inside(origin.get(key)) for key in ("virtual", "editable", "directory")):
            continue  # the project itself, or a member of its workspace
        yield from _one(source, entry, "registry" not in origin)


def read_pdm(source: Source) -> Iterator[Package | NotJudged]:
    for entry in _entries(load_toml(source), "package", "metadata"):
        yield from _one(
            source, entry, any(key in entry for key in ("git", "url", "path", "hg", "svn"))
        )


def read_pylock(source: Source) -> Iterator[Package | NotJudged]:
    document = load_toml(source)
    version = document.get("lock-version")
    if not isinstance(version, str) or not version.startswith(_PYLOCK):
        raise BrokenListError("Its lock-version is not 1.")
    for entry in _entries(document, "packages", "lock-version"):
        directory = entry.get("directory")
        if isinstance(directory, dict) and _inside(directory.get("path")):
            continue
        yield from _one(source, entry, any(key in entry for key in ("vcs", "directory", "archive")))


def _one(source: Source, entry: dict[str, Any], elsewhere: bool) -> Iterator[Package | NotJudged]:
    name = entry.get("name")
    if elsewhere:
        shown = name if isinstance(name, str) else ""
        yield source.open("It comes from an address, a repository or a path, not an index.", shown)
    else:
        yield source.package(PYPI, name, entry.get("version"))


def _inside(path: object) -> bool:
    """Whether a folder is one of the project's own."""
    return isinstance(path, str) and not path.startswith("/") and ".." not in path.split("/")


def load_toml(source: Source) -> dict[str, Any]:
    """The document. Raises BrokenListError."""
    if len(source.data) > _MAX_TOML:
        raise BrokenListError(f"It is larger than {_MAX_TOML} bytes.")
    try:
        return tomllib.loads(source.text())
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BrokenListError(f"It is no TOML: {type(error).__name__}.") from error


def _entries(document: dict[str, Any], key: str, mark: str) -> Iterator[dict[str, Any]]:
    """The tables under `key`; none where there is no such key, if `mark` says what the file is."""
    entries = document.get(key, [] if mark in document else None)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BrokenListError(f"Its `{key}` is no list of tables.")
    yield from entries
