"""What is installed for Python: the metadata beside each package's code.

Source: the core metadata specification, the specification of recorded projects (PEP 376, 427).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.names import normal_pypi
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.source import Source
from keepstone.scan.packages.versions import UnorderableError, order_of
from keepstone.scan.rules import printable

PYPI = "PyPI"
_FOLDER = re.compile(r"(?:^|/)([^/-]+)-([^/-]+)\.dist-info/METADATA\Z")


def read_metadata(source: Source) -> Iterator[Package | NotJudged]:
    """The one package that METADATA or PKG-INFO describes.

    Where the folder's name says another name or version than the file, the package counts as
    what the file says, which is what Python reads, and the difference is told.
    """
    names: list[str] = []
    versions: list[str] = []
    for line in source.lines():
        if not line.strip():
            break  # behind the first empty line is the description
        key, colon, value = line.partition(":")
        if colon and key.lower() == "name":
            names.append(value.strip())
        elif colon and key.lower() == "version":
            versions.append(value.strip())
    if len(names) > 1 or len(versions) > 1:
        yield source.open("It gives the name or the version twice.", names[0] if names else "")
        return
    found = source.package(PYPI, "".join(names), "".join(versions))
    yield found
    if isinstance(found, Package) and (folder := _FOLDER.search(source.path)):
        said, at = folder[1], folder[2]
        if normal_pypi(said) != normal_pypi(found.name) or _differ(at, found.version):
            why = f"Its folder says {printable(said)} {printable(at)}, the file {found.version}."
            yield source.open(why, found.name)


def _differ(one: str, other: str) -> bool:
    order = order_of(PYPI)
    assert order is not None
    try:
        # A folder's name has `_` where a version has `-`.
        return order(one.replace("_", "-"), other) != 0
    except UnorderableError:
        return False


def read_record(source: Source) -> Iterator[NotJudged]:
    """Nothing, unless the package's METADATA is not there to be read."""
    beside = source.path.removesuffix("RECORD") + "METADATA"
    try:
        source.tree.read(beside, 64 << 20)
    except InputError as error:
        folder = source.path.split("/")[-2]
        yield source.open(f"Something is installed here without metadata: {error.cause}", folder)
