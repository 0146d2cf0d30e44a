"""requirements.txt and constraints.txt: exact pins are packages, the rest is said to be open.

Source: pip's requirements file format, PEP 508. Markers are not evaluated: a package that some
machine installs is named. Hashes and options say nothing about which package it is.
"""

from __future__ import annotations

import codecs
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.installed import PYPI
from keepstone.scan.packages.readers.source import BrokenListError, Source
from keepstone.scan.rules import printable

_MAX_INCLUDED = 200
_LIMIT = 16 << 20
# With the hashes of every wheel of a package.
_LONGEST = 64 << 10
_INCLUDE = re.compile(r"(-r|-c|--requirement|--constraint)(?:\s+|=|(?<=-[rc]))(\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)(.+)")
# Options that choose where from, and not what.
_OPTION = re.compile(
    r"(?:-i|-f|--(?:(?:extra-)?index-url|no-index|find-links|no-binary|only-binary|prefer-binary"
    r"|require-hashes|pre|trusted-host|use-feature|no-build-isolation|config-settings?))(?:[\s=]|\Z)"
)
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_OPTIONS = re.compile(
    r"\s--(?:hash|config-settings?|global-option|install-option|build-option)\b.*$"
)
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")
# How Windows' shells write what `pip freeze` prints.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_requirements(source: Source) -> Iterator[Package | NotJudged]:
    """The pins of the file and of the files that it includes from the tree."""
    yield from _read(source, False, {source.path})


def read_constraints(source: Source) -> Iterator[Package | NotJudged]:
    """The pins alone: a constraint without one installs nothing by itself."""
    yield from _read(source, True, {source.path})


def requirement(
    source: Source, line: str, *, constraint: bool = False
) -> Iterator[Package | NotJudged]:
    """What one requirement (PEP 508, or an address as pip takes it) names."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(line)
    except (InvalidRequirement, RecursionError):
        egg = _EGG.search(line)
        why = "is an address or a path" if _is_place(line) else "is no requirement"
        yield source.open(f"The line {why}: {printable(line, 80)}", egg[1] if egg else "")
        return
    if wanted.url is not None:
        yield source.open(f"It comes from an address: {printable(wanted.url, 80)}", wanted.name)
        return
    pins = {
        clause.version
        for clause in wanted.specifier
        if clause.operator in ("==", "===") and not clause.version.endswith(".*")
    }
    if len(pins) == 1:
        yield source.package(PYPI, wanted.name, pins.pop())
    elif not constraint:
        said = str(wanted.specifier) or "any"
        yield source.open(f"No exact version is fixed ({printable(said, 80)}).", wanted.name)


def _read(source: Source, constraint: bool, seen: set[str]) -> Iterator[Package | NotJudged]:
    for line in _lines(_text(source)):
        if len(line) > _LONGEST:
            yield source.open(f"A line is longer than any: {printable(line, 40)}")
            continue
        include, editable = _INCLUDE.fullmatch(line), _EDITABLE.fullmatch(line)
        if include:
            constrains = constraint or include[1] in ("-c", "--constraint")
            yield from _included(source, include[2].strip().strip("'\""), constrains, seen)
        elif editable:
            egg = _EGG.search(line)
            where = printable(editable[1], 80)
            yield source.open(
                f"It is installed from a folder or an address: {where}", egg[1] if egg else ""
            )
        elif line.startswith("-"):
            if not _OPTION.match(line):
                yield source.open(f"The line is no option of pip's: {printable(line, 80)}")
        else:
            yield from requirement(source, _OPTIONS.sub("", line).strip(), constraint=constraint)


def _included(
    source: Source, name: str, constraint: bool, seen: set[str]
) -> Iterator[Package | NotJudged]:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source.path), name))
    if "://" in name or name.startswith(("/", "~")) or path.startswith("../"):
        yield source.open(f"It includes a file from elsewhere: {printable(name, 80)}")
        return
    if path in seen:
        return
    if len(seen) >= _MAX_INCLUDED:
        yield source.open(f"It includes more than {_MAX_INCLUDED} files.")
        return
    seen.add(path)
    try:
        data = source.tree.read(path, _LIMIT)
        yield from _read(replace(source, path=path, data=data), constraint, seen)
    except InputError as error:
        yield source.open(f"It includes {printable(name, 80)}: {error.cause}")
    except BrokenListError as error:
        yield NotJudged(printable(path, 4096), str(error))


def _text(source: Source) -> str:
    for mark, encoding in _MARKS[1:]:
        if source.data.startswith(mark):
            try:
                return source.data.decode(encoding)
            except UnicodeDecodeError:
                raise BrokenListError("It is not in the encoding that it begins with.") from None
    return source.text()


def _lines(text: str) -> Iterator[str]:
    joined = re.sub(r"\\\r?\n", " ", text)
    for line in joined.splitlines():
        bare = _COMMENT.sub("", line).strip()
        if bare:
            yield bare


def _is_place(line: str) -> bool:
    return "://" in line or line.startswith((".", "/", "~", "git+")) or "/" in line
