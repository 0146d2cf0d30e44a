"""pyproject.toml (PEP 621, 735): what a project asks for where no lock file says what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.requirements import requirement
from keepstone.scan.packages.readers.source import BrokenListError, Source
from keepstone.scan.packages.readers.tomllocks import load_toml

# Lists that are worked out from this file. A requirements.txt may be about anything else.
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")
_ASKED = ("dependencies", "optional-dependencies")
_POETRY_OWN = "python"


def read_pyproject(source: Source) -> Iterator[Package | NotJudged]:
    """What it asks for, extras and groups too; nothing where a lock file lies beside it, which is
    read itself."""
    document = load_toml(source)
    asked, open_ = _asked(document)
    named = _of_poetry(document)
    if (not asked and not open_ and not named) or any(map(source.beside, _LOCKS)):
        return
    for line in asked:
        yield from requirement(source, line)
    for reason in open_:
        yield source.open(reason)
    for name in named:
        if name != _POETRY_OWN:
            yield source.open("No lock file beside it fixes the version.", name)


def _asked(document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The requirements of the standard tables, and what stands there in another form."""
    project, groups = _table(document, "project"), _table(document, "dependency-groups")
    lists = [project.get("dependencies", [])]
    lists += _table(project, "optional-dependencies").values()
    items = [item for one in (*lists, *groups.values()) for item in _list(one)]
    asked = [item for item in items if isinstance(item, str)]
    open_ = [
        "A dependency is neither a text nor another group's name."
        for item in items
        if not isinstance(item, str) and not _is_group(item)
    ]
    dynamic = _list(project.get("dynamic", []))
    open_ += [f"Its {name} are worked out as it is built." for name in _ASKED if name in dynamic]
    return asked, open_


def _of_poetry(document: dict[str, Any]) -> list[str]:
    poetry = _table(_table(document, "tool"), "poetry")
    groups = _table(poetry, "group")
    tables = [_table(poetry, "dependencies"), _table(poetry, "dev-dependencies")]
    tables += [_table(_table(groups, name), "dependencies") for name in groups]
    return [name for table in tables for name in table]


def _is_group(item: object) -> bool:
    # That group's own list is read too, wherever it stands in the file.
    return isinstance(item, dict) and list(item) == ["include-group"]


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise BrokenListError(f"Its `{name}` is no table.")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BrokenListError("Its dependencies are no list.")
    return value
