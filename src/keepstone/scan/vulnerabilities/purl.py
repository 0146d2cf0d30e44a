"""A package URL, read into OSV's ecosystem and the ecosystem's own name for the package.

Source: the package URL specification (ECMA-427), and the qualifiers `distro` and `upstream` as
Syft writes them.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from keepstone.scan.packages.package import Package

# How each type writes a namespace into the name; those of one word have none.
_JOINED = {
    "pypi": ("PyPI", ""),
    "npm": ("npm", "/"),
    "golang": ("Go", "/"),
    "cargo": ("crates.io", ""),
    "maven": ("Maven", ":"),
    "gem": ("RubyGems", ""),
    "nuget": ("NuGet", ""),
    "composer": ("Packagist", "/"),
    "hex": ("Hex", ""),
    "pub": ("Pub", ""),
}
_DISTRO = re.compile(r"([a-z]+)-([0-9][0-9.]*)\Z")
_RELEASES = {"debian": "Debian", "ubuntu": "Ubuntu", "alpine": "Alpine"}
_OF_DISTRIBUTIONS = ("deb", "apk")
MAX_LENGTH = 2048


class PurlError(ValueError):
    """The text names no package of an ecosystem that advisories speak of; the message says why."""


def read_purl(text: str, path: str, *, source_is_said: bool) -> Package:
    """The package that `text` names.

    With `source_is_said`, a package of a distribution that names no source package is its own
    source. Without, it is unknown, and advisories could not be found. Raises PurlError.
    """
    kind, namespace, name, version, more = _split(text)
    if not version:
        raise PurlError("it has no version")
    if kind in _JOINED:
        ecosystem, joint = _JOINED[kind]
        if namespace and not joint:
            raise PurlError(f"packages of {kind} have no namespace")
        return Package(ecosystem, f"{namespace}{joint}{name}" if namespace else name, version, path)
    if kind not in _OF_DISTRIBUTIONS:
        raise PurlError(f"no database is known for the type {kind[:20]!r}")
    source, _, source_version = more.get("upstream", "").partition("@")
    if not source and not source_is_said:
        raise PurlError("it does not say its source package")
    ecosystem = _release(more.get("distro", ""))
    return Package(ecosystem, name, version, path, source or name, source_version or version)


def ecosystem_of(text: str, otherwise: str) -> str:
    """The ecosystem of the package that `text` names, or `otherwise` where it names none."""
    try:
        return read_purl(text, "", source_is_said=True).ecosystem
    except PurlError:
        return otherwise


def _split(text: str) -> tuple[str, str, str, str, dict[str, str]]:
    """Type, namespace, name, version and qualifiers."""
    if len(text) > MAX_LENGTH or not text.startswith("pkg:"):
        raise PurlError("it is no package URL")
    rest, _, _ = text.removeprefix("pkg:").partition("#")
    rest, _, query = rest.partition("?")
    kind, slash, place = rest.lstrip("/").partition("/")
    # The version is behind the last `@`; a scope of npm is written as %40.
    before, at, version = place.rpartition("@")
    if not at:
        before, version = place, ""
    namespace, _, name = before.rpartition("/")
    try:
        parts = [unquote(part, errors="strict") for part in (namespace, name, version)]
        more = dict(parse_qsl(query, errors="strict", max_num_fields=32))
    except (UnicodeDecodeError, ValueError) as error:
        raise PurlError("it is no package URL") from error
    if not slash or not parts[1] or any("\n" in part for part in parts):
        raise PurlError("it names no package")
    return kind.lower(), parts[0], parts[1], parts[2], more


def _release(distro: str) -> str:
    """OSV's ecosystem of `debian-12`, `ubuntu-22.04`, `alpine-3.19.1`."""
    match = _DISTRO.match(distro)
    if match is None or match[1] not in _RELEASES:
        raise PurlError(f"no database is known for the distribution {distro[:40]!r}")
    name, numbers = _RELEASES[match[1]], match[2].split(".")
    if name == "Alpine":
        return f"Alpine:v{'.'.join(numbers[:2])}"
    return f"{name}:{numbers[0]}" if name == "Debian" else f"{name}:{match[2]}"
