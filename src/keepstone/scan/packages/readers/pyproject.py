"""pyproject.toml (PEP 621): what a project asks for where no lock file says what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.requirements import requirement
from keepstone.scan.packages.readers.source import BrokenListError, Source
from keepstone.scan.packages.readers.tomllocks import load_toml

_LOCKS = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pylock.toml",
    "requirements.txt",
    "constraints.txt",
)
_POETRY_OWN = "python"


def read_pyproject(source: Source) -> Iterator[Package | NotJudged]:
    """The dependencies by name; nothing where a lock file lies beside it, which is read itself."""
    document = load_toml(source)
    asked = _table(document, "project").get("dependencies", [])
    named = _table(_table(_table(document, "tool"), "poetry"), "dependencies")
    if not isinstance(asked, list):
        raise BrokenListError("Its dependencies are no list.")
    if (not asked and not named) or _locked(source):
        return
    for line in asked:
        yield from requirement(source, str(line))
    for name in named:
        if name != _POETRY_OWN:
            yield source.open("No lock file beside it fixes the version.", name)


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise BrokenListError(f"Its `{name}` is no table.")
    return value


def _locked(source: Source) -> bool:
    folder = source.path.removesuffix("pyproject.toml")
    for name in _LOCKS:
        try:
            source.tree.read(folder + name, 64 << 20)
        except InputError:
            continue
        return True
    return False
