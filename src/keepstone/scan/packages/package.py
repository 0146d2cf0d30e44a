"""One installed or pinned package, as every reader of lock files and databases returns it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """A package at one version, and the file that says so.

    `ecosystem` is OSV's name: `PyPI`, `Debian:12`, `Alpine:v3.19`, `npm`. `source` is the source
    package where the ecosystem's advisories speak of it (dpkg's Source, apk's origin), with its
    own version; both are the package's own where nothing else is said. `path` is the file that
    names it, relative to what was looked at.
    """

    ecosystem: str
    name: str
    version: str
    path: str
    source: str = ""
    source_version: str = ""
