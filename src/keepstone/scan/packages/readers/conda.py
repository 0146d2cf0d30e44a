"""conda: what is installed (`conda-meta`), and what an environment.yml fixes.

OSV has no ecosystem for conda's packages: they are named, and no database judges them. The
Python packages among them have their own metadata in site-packages, which is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.jsons import read_object
from keepstone.scan.packages.readers.requirements import requirement
from keepstone.scan.packages.readers.source import BrokenListError, Source
from keepstone.scan.text.yamls import read_yaml

CONDA = "conda"
# `channel::name==version` and `name=version=build`; to conda `name=1.2` is any version 1.2.x.
_PIN = re.compile(
    r"(?:[\w./-]+::)?(?P<name>[\w.-]+)\s*"
    r"(?:==\s*(?P<exact>[\w.!+]+)(?:=\w+)?|=\s*(?P<built>[\w.!+]+)=\w+)"
)
_NAME = re.compile(r"(?:[\w./-]+::)?([\w.-]+)")


def read_conda_meta(source: Source) -> Iterator[Package | NotJudged]:
    document = read_object(source)
    if "name" in document or "version" in document:
        yield source.package(CONDA, document.get("name"), document.get("version"))
    else:
        yield source.open("It names no package.")


def read_environment(source: Source) -> Iterator[Package | NotJudged]:
    """The pins of conda's packages, and under `pip:` those of PyPI's."""
    document = read_yaml(source.text())
    if document.broken or document.problem or len(document.documents) != 1:
        raise BrokenListError("It is no YAML document that can be read to its end.")
    top = document.documents[0]
    if not isinstance(top, dict) or document.repeated:
        raise BrokenListError("It is no mapping, or gives a key twice.")
    listed = top.get("dependencies")
    if listed is None:
        return  # some other program's environment
    if not isinstance(listed, list):
        raise BrokenListError("Its dependencies are no list.")
    for item in listed:
        if isinstance(item, str):
            yield _conda(source, item)
        elif isinstance(item, dict) and isinstance(item.get("pip"), list):
            for line in item["pip"]:
                yield from _pip(source, str(line))
        else:
            yield source.open("A dependency is neither a text nor a list for pip.")


def _conda(source: Source, item: str) -> Package | NotJudged:
    pin = _PIN.fullmatch(item.strip())
    if pin is None:
        name = _NAME.match(item.strip())
        return source.open("No exact version is fixed.", name[1] if name else item)
    return source.package(CONDA, pin["name"], pin["exact"] or pin["built"])


def _pip(source: Source, line: str) -> Iterator[Package | NotJudged]:
    if line.startswith("-"):
        yield source.open("A line for pip is an option, which is not followed.")
    else:
        yield from requirement(source, line)
