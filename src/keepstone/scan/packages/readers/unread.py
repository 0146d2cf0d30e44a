"""Lists of packages that are known by name and not read: said so, never passed over."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.readers.source import Source

UNREAD_INSTALLED = (
    r"(?:var/lib|usr/lib/sysimage)/rpm/(?:Packages|Packages\.db|rpmdb\.sqlite)",
    r"[^/]+\.egg",
)
UNREAD_LOCKS = (
    r"yarn\.lock",
    r"pnpm-lock\.yaml",
    r"bun\.lockb?",
    r"Cargo\.lock",
    r"go\.(?:mod|sum)",
    r"Gemfile\.lock",
    r"composer\.lock",
    r"mix\.lock",
    r"pubspec\.lock",
    r"pom\.xml",
    r"gradle\.lockfile",
    r"packages\.lock\.json",
    r"conda-lock\.ya?ml",
    r"pixi\.lock",
)


def read_nothing(source: Source) -> Iterator[NotJudged]:
    """The file names packages in a form that is not read."""
    yield source.open("Keepstone does not read this kind of list of packages.")
