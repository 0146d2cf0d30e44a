"""Which distribution and release a tree is, in OSV's words. Source: os-release(5), OSV schema."""

from __future__ import annotations

import re

from keepstone.errors import InputError
from keepstone.scan.packages.tree import FileTree
from keepstone.scan.rules import printable

_LIMIT = 64 << 10
# os-release(5): etc/ is often a link to the other.
_PLACES = ("etc/os-release", "usr/lib/os-release")
_LINE = re.compile(r"([A-Z][A-Z0-9_]*)=(?:\"([^\"\\]*)\"|'([^']*)'|([^\s\"'\\]*))\s*")


def os_release(tree: FileTree, root: str = "") -> dict[str, str]:
    """The settings of the os-release file under `root`, empty where none can be read."""
    for place in _PLACES:
        try:
            data = tree.read(f"{root}{place}", _LIMIT)
        except InputError:
            continue
        lines = map(_LINE.fullmatch, data.decode("utf-8", "replace").splitlines())
        found = {
            line[1]: printable(line[2] or line[3] or line[4] or "", 64) for line in lines if line
        }
        if found:
            return found
    return {}


def ecosystem_of(release: dict[str, str], fallback: str) -> str:
    """OSV's ecosystem: `Debian:12`, `Ubuntu:22.04:LTS`, `Alpine:v3.19`, `Wolfi`.

    A release that is not said, or one that OSV has no name for, gives an ecosystem that no
    database covers. `fallback` is the word for a tree without a distribution's name.
    """
    name, version = release.get("ID", ""), release.get("VERSION_ID", "")
    if name == "debian":
        return f"Debian:{version or release.get('VERSION_CODENAME') or 'unknown'}"
    if name == "ubuntu":
        # OSV: with a mandatory `:LTS` where the release is one.
        long = ":LTS" if "LTS" in release.get("VERSION", "").split() else ""
        return f"Ubuntu:{version or 'unknown'}{long}"
    if name == "alpine":
        branch = re.fullmatch(r"(\d+\.\d+)(?:\.\d+)*", version)
        return f"Alpine:v{branch[1]}" if branch else "Alpine:edge"
    if name in ("wolfi", "chainguard"):
        return name.capitalize()
    if name == "":
        return f"{fallback}:unknown"
    # A derivative's packages are not its parent's: its versions mean something else.
    return f"{name}:{version or 'unknown'}"
