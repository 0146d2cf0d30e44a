"""Lists of packages that are known by name and not read: said so, never passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.readers.source import Source

UNREAD_INSTALLED = (
    r"(?:var/lib|usr/lib/sysimage)/rpm/(?:Packages|Packages\.db|rpmdb\.sqlite)",
    r"var/lib/pacman/local/[^/]+/desc",
    r"(?:usr|var)/lib/opkg/status",
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

# `install_requires`, `extras_require`, a file of requirements that it reads; not `python_requires`.
_REQUIRES = re.compile(rb"(?<!python_)require", re.IGNORECASE)


def read_pipenv(source: Source) -> Iterator[NotJudged]:
    """A Pipfile asks for packages; its lock file, where there is one, is read itself."""
    if not source.beside("Pipfile.lock"):
        yield source.open("No lock file beside it says what is installed.")


def read_setuptools(source: Source) -> Iterator[NotJudged]:
    """setup.py is a program and setup.cfg its settings: either may ask for packages, or not."""
    if _REQUIRES.search(source.data):
        yield source.open("It asks for packages in a form that Keepstone does not read.")


def read_nothing(source: Source) -> Iterator[NotJudged]:
    """The file names packages in a form that is not read."""
    yield source.open("Keepstone does not read this kind of list of packages.")
