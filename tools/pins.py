"""Write `constraints.txt`: the exact version of everything each extra brings, by extra.

`python -m tools.pins` pins what the current environment holds; `--check` compares instead and
names what differs. A package is listed once, under the first extra that needs it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.extras import extras

PROJECT = "keepstone"
# What builds the package itself, without an environment apart.
BUILD = ("hatchling", "editables")
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in (extras or {""})):
            yield requirement


def closure(roots: list[tuple[str, frozenset[str]]]) -> set[str]:
    """Return the canonical names of everything installed that `roots` need, themselves too."""
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = list(roots)
    while queue:
        name, extras = queue.pop()
        key = (canonicalize_name(name), extras)
        if key in seen:
            continue
        seen.add(key)
        queue += [(r.name, frozenset(r.extras)) for r in _requirements(name, extras)]
    return {name for name, _ in seen}


def _public_version(name: str) -> str:
    """The installed version without its local part: `2.13.0+cpu` is what one index calls 2.13.0."""
    return metadata.version(name).partition("+")[0]


def sections() -> dict[str, list[str]]:
    """Return `name==version` lines by extra, each package under the first that needs it."""
    groups: dict[str, list[tuple[str, frozenset[str]]]] = {
        "core": [(PROJECT, frozenset())],
        **{extra: [(PROJECT, frozenset({extra}))] for extra in extras()},
        "build": [(name, frozenset()) for name in BUILD],
    }
    known = {PROJECT}
    result = {}
    for group, roots in groups.items():
        names = closure(roots) - known
        known |= names
        result[group] = sorted(f"{name}=={_public_version(name)}" for name in names)
    return result


def render(groups: dict[str, list[str]]) -> str:
    lines = ["# Exact versions of everything. Made by `make pins`; do not edit by hand."]
    for group, pins in groups.items():
        lines += ["", f"# {group}", *pins]
    return "\n".join(lines) + "\n"


def pinned(text: str) -> dict[str, str]:
    """Read constraints back: canonical name to version."""
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def differences(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """Name each package whose version, or presence, differs."""
    return [
        f"{name}: pinned {wanted.get(name, 'not at all')}, needed {found.get(name, 'not at all')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]


def main(arguments: list[str]) -> int:
    text = render(sections())
    if "--check" not in arguments:
        CONSTRAINTS.write_text(text)
        return 0
    differing = differences(pinned(CONSTRAINTS.read_text()), pinned(text))
    for line in differing:
        print(line, file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
