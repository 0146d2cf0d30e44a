"""What framework's own files import, and what loading does with each name: data, reviewable.

The lists lie beside this file in `allowed/`, one for each top-level package (`python.json` for
the standard library), and are made by `python -m tools.allowlist`. A name that no list has is
unknown, and unknown is flagged. Each name carries words:

    value           it may be imported, and stored as a value; nothing else (every name may)
    new             a class: an object of it may be made without its constructor (NEWOBJ)
    call            it may be called (REDUCE), with any arguments that are allowed themselves
    call:CHECK      it may be called where the named check of `arguments` has nothing to say
    build           what it makes may be given a state (BUILD)
    build:CHECK     so may it, where the named check has nothing to say
    list dict set   what it makes may be added to, as one of these
    attributes      as `dict`, and its items read as attributes

A name with dots (`Outer.inner`) is an attribute, and is allowed only as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

_HOME = "keepstone.scan.pickle"
STANDARD = "python"


@dataclass(frozen=True, slots=True)
class Entry:
    """What may be done with one name. A check's name is None where there is none."""

    new: bool = False
    call: bool = False
    build: bool = False
    shape: str | None = None
    call_check: str | None = None
    build_check: str | None = None
    added: bool = False  # by a site's own list

    @classmethod
    def parse(cls, words: str) -> Entry:
        """Raises ValueError for a word that is not in the list above."""
        found: dict[str, bool | str] = {}
        for word in words.split():
            head, _, check = word.partition(":")
            if head in ("new", "call", "build"):
                found[head] = True
                if check:
                    found[f"{head}_check"] = check
            elif word in ("list", "dict", "set", "attributes"):
                found["shape"] = word
            elif word != "value":
                raise ValueError(f"unknown word {word!r}")
        return cls(**found)  # type: ignore[arg-type]


@cache
def _packages() -> frozenset[str]:
    """The top-level packages that have a list: a file's own words never become a path."""
    files = resources.files(_HOME).joinpath("allowed").iterdir()
    return frozenset(file.name.removesuffix(".json") for file in files)


@cache
def _shipped(package: str) -> Mapping[tuple[str, str], Entry]:
    """The list of one of the packages that have one."""
    file = resources.files(_HOME).joinpath("allowed").joinpath(f"{package}.json")
    names: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))["names"]
    parsed: dict[str, Entry] = {}
    found = {}
    for module, members in names.items():
        for name, words in members.items():
            if words not in parsed:
                parsed[words] = Entry.parse(words)
            found[module, name] = parsed[words]
    return found


@dataclass(frozen=True, slots=True)
class Added:
    """Names that a site allows beyond those that ship, and on whose word."""

    source: str
    key_id: str
    digest: str
    expires: str
    entries: Mapping[tuple[str, str], Entry] = field(default_factory=dict)


def look_up(module: str, name: str, added: Iterable[Added] = ()) -> Entry | None:
    """What may be done with `module.name`, or None where it is unknown."""
    package = module.partition(".")[0].lower()
    for listed in (package, STANDARD):
        found = _shipped(listed).get((module, name)) if listed in _packages() else None
        if found is not None:
            return found
    for one in added:
        entry = one.entries.get((module, name))
        if entry is not None:
            return entry
    return None
