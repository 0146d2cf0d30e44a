"""Which reader takes which file. One file per manager beside this one."""

from __future__ import annotations

import re

from keepstone.scan.packages.readers.apk import read_apk
from keepstone.scan.packages.readers.conda import read_conda_meta, read_environment
from keepstone.scan.packages.readers.dpkg import read_dpkg
from keepstone.scan.packages.readers.installed import read_metadata, read_record
from keepstone.scan.packages.readers.npm import read_global, read_npm
from keepstone.scan.packages.readers.pipfile import read_pipfile
from keepstone.scan.packages.readers.pyproject import read_pyproject
from keepstone.scan.packages.readers.requirements import (
    read_constraints,
    read_requirements,
    read_sources,
)
from keepstone.scan.packages.readers.source import BrokenListError, Reader, Source
from keepstone.scan.packages.readers.tomllocks import read_pdm, read_poetry, read_pylock, read_uv
from keepstone.scan.packages.readers.unread import (
    UNREAD_INSTALLED,
    UNREAD_LOCKS,
    read_nothing,
    read_pipenv,
    read_setuptools,
)

# A package's folder, in its scope where it has one.
_NPM = r"(?:@[^/]+/)?[^/@][^/]*"
_INSTALLED: tuple[tuple[str, Reader], ...] = (
    (r"var/lib/dpkg/status", read_dpkg),
    (r"var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)", read_dpkg),
    (r"(?:usr/)?lib/apk/db/installed", read_apk),
    (r"[^/]+\.dist-info/METADATA", read_metadata),
    (r"[^/]+\.dist-info/RECORD", read_record),
    (r"[^/]+\.egg-info(?:/PKG-INFO)?", read_metadata),
    (r"EGG-INFO/PKG-INFO", read_metadata),
    (r"conda-meta/[^/]+\.json", read_conda_meta),
    (r"node_modules/\.package-lock\.json", read_npm),
    (rf"lib/node_modules/(?:{_NPM}/node_modules/)*{_NPM}/package\.json", read_global),
    *((pattern, read_nothing) for pattern in UNREAD_INSTALLED),
)
_LOCKS: tuple[tuple[str, Reader], ...] = (
    (r"[^/]*requirements[^/]*\.txt", read_requirements),
    (r"requirements/[^/]+\.txt", read_requirements),
    (r"[^/]*requirements[^/]*\.in", read_sources),
    (r"requirements/[^/]+\.in", read_sources),
    (r"[^/]*constraints[^/]*\.txt", read_constraints),
    (r"poetry\.lock", read_poetry),
    (r"uv\.lock", read_uv),
    (r"pdm\.lock", read_pdm),
    (r"pylock(?:\.[^./]+)?\.toml", read_pylock),
    (r"pyproject\.toml", read_pyproject),
    (r"Pipfile\.lock", read_pipfile),
    (r"Pipfile", read_pipenv),
    (r"setup\.(?:py|cfg)", read_setuptools),
    # MLflow's name for it is the other.
    (r"(?:environment|conda)\.ya?ml", read_environment),
    (r"(?:package-lock|npm-shrinkwrap)\.json", read_npm),
    *((pattern, read_nothing) for pattern in UNREAD_LOCKS),
)
# They say what is missing and name no package.
CHECKS = frozenset((read_nothing, read_pipenv, read_record, read_setuptools))
# Lock files of what is installed there say how somebody else developed it.
_OF_OTHERS = re.compile(r"(?:^|/)(?:site-packages|dist-packages|node_modules)/")


def _compiled(table: tuple[tuple[str, Reader], ...]) -> tuple[tuple[re.Pattern[str], Reader], ...]:
    return tuple((re.compile(rf"(?:^|/){pattern}\Z"), reader) for pattern, reader in table)


_INSTALLED_AT, _LOCKS_AT = _compiled(_INSTALLED), _compiled(_LOCKS)


def reader_of(path: str, *, locks: bool = True) -> Reader | None:
    """The reader for a file of this path, None where its name speaks of no packages."""
    tables = (_INSTALLED_AT, _LOCKS_AT if locks and not _OF_OTHERS.search(path) else ())
    for pattern, reader in (row for table in tables for row in table):
        if pattern.search(path):
            return reader
    return None


__all__ = ["CHECKS", "BrokenListError", "Reader", "Source", "reader_of"]
