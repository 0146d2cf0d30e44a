"""requirements.txt and constraints.txt: exact pins are packages, the rest is said to be open.

Source: pip's requirements file format, PEP 508. Markers are not evaluated: a package that some
machine installs is named. Hashes and options say nothing about which package it is.
"""

from __future__ import annotations

import codecs
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from keepstone.errors import InputError
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers.installed import PYPI
from keepstone.scan.packages.readers.source import BrokenListError, Source
from keepstone.scan.rules import printable

_MAX_INCLUDED = 50
_MAX_LINES = 20_000
_LIMIT = 4 << 20
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
# A line among the first two says in which encoding pip reads the file.
_COOKIE = re.compile(rb"coding[:=]\s*([-\w.]+)")
_PLAIN = frozenset(("utf-8", "utf-8-sig", "ascii"))
_OPTIONS = re.compile(
    r"\s--(?:hash|config-settings?|global-option|install-option|build-option)\b.*$"
)
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")
# How Windows' shells write what `pip freeze` prints.
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# An address may hold a user's name and token.
_CREDENTIALS = re.compile(r"//[^/\s]*@")
# The files that were read, each as a constraint or not.
_Seen = set[tuple[str, bool]]


def read_requirements(source: Source) -> Iterator[Package | NotJudged]:
    """The pins of the file and of the files that it includes from the tree."""
    yield from _read(source, False, {(source.path, False)})


def read_sources(source: Source) -> Iterator[Package | NotJudged]:
    """requirements.in: beside the list that was compiled from it, only its pins count."""
    compiled = source.beside(source.path.rpartition("/")[2].removesuffix(".in") + ".txt")
    yield from _read(source, compiled, {(source.path, compiled)})


def read_constraints(source: Source) -> Iterator[Package | NotJudged]:
    """The pins alone: a constraint without one installs nothing by itself."""
    yield from _read(source, True, {(source.path, True)})


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
        yield source.open(f"The line {why}: {_shown(line)}", egg[1] if egg else "")
        return
    if wanted.url is not None:
        yield source.open(f"It comes from an address: {_shown(wanted.url)}", wanted.name)
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


def _read(source: Source, constraint: bool, seen: _Seen) -> Iterator[Package | NotJudged]:
    for count, line in enumerate(_lines(_text(source))):
        if count == _MAX_LINES:
            yield source.open(f"It has more than {_MAX_LINES} lines.")
            return
        if len(line) > _LONGEST:
            yield source.open(f"A line is longer than any: {_shown(line, 40)}")
            continue
        include, editable = _INCLUDE.fullmatch(line), _EDITABLE.fullmatch(line)
        if include:
            constrains = constraint or include[1] in ("-c", "--constraint")
            yield from _included(source, include[2].strip().strip("'\""), constrains, seen)
        elif editable:
            egg = _EGG.search(line)
            where = _shown(editable[1])
            yield source.open(
                f"It is installed from a folder or an address: {where}", egg[1] if egg else ""
            )
        elif line.startswith("-"):
            if not _chooses_where_from(line):
                yield source.open(f"The line is no option of pip's: {_shown(line)}")
        else:
            yield from requirement(source, _OPTIONS.sub("", line).strip(), constraint=constraint)


def _included(
    source: Source, name: str, constraint: bool, seen: _Seen
) -> Iterator[Package | NotJudged]:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source.path), name))
    if "://" in name or name.startswith(("/", "~")) or path.startswith("../"):
        yield source.open(f"It includes a file from elsewhere: {_shown(name)}")
        return
    if (path, constraint) in seen:
        return
    if len(seen) >= _MAX_INCLUDED:
        yield source.open(f"It includes more than {_MAX_INCLUDED} files.")
        return
    seen.add((path, constraint))
    try:
        data = source.tree.read(path, _LIMIT)
        yield from _read(replace(source, path=path, data=data), constraint, seen)
    except InputError as error:
        yield source.open(f"It includes {_shown(name)}: {error.cause}")
    except BrokenListError as error:
        yield NotJudged(printable(path, 4096), str(error))


def _text(source: Source) -> str:
    if len(source.data) > _LIMIT:
        raise BrokenListError(f"It is larger than {_LIMIT} bytes.")
    if not source.data.startswith(_UTF16):
        _check_cookie(source.data)
        return source.text()
    try:
        text = source.data.decode("utf-16")
    except UnicodeDecodeError:
        raise BrokenListError("It is not in the encoding that it begins with.") from None
    if "\0" in text:
        raise BrokenListError("It holds a NUL byte.")
    return text


def _check_cookie(data: bytes) -> None:
    """In another encoding than ours pip may read requirements in what is a comment to us."""
    for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n", 2)[:2]:
        cookie = _COOKIE.search(line) if line.startswith(b"#") else None
        if cookie is None:
            continue
        said = cookie[1].decode("ascii", "replace")
        try:
            plain = codecs.lookup(said).name in _PLAIN
        except (LookupError, ValueError):
            plain = False
        if not plain:
            raise BrokenListError(f"It says that it is in {printable(said, 40)}, not in UTF-8.")


def _shown(text: str, limit: int = 80) -> str:
    # Behind `?` and `#` an address may hold a signature or a token too.
    bare = text.partition("?")[0].partition("#")[0]
    return printable(_CREDENTIALS.sub("//...@", bare), limit)


def _lines(text: str) -> Iterator[str]:
    for line in _joined(text):
        bare = _COMMENT.sub("", line).strip()
        if bare:
            yield bare


def _joined(text: str) -> Iterator[str]:
    """Lines as pip joins them: one that is a comment ends what went before, and never goes on."""
    begun: list[str] = []
    for line in text.splitlines():
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            begun.append(line.strip("\\"))
            continue
        yield "".join((*begun, f" {line}" if comment else line))
        begun = []
    if begun:
        yield "".join(begun)


def _chooses_where_from(line: str) -> bool:
    """Whether every option of the line does; pip takes several, an include among them too."""
    try:
        words = shlex.split(line)
    except ValueError:
        return False
    return all(_OPTION.match(word) for word in words if word.startswith("-"))


def _is_place(line: str) -> bool:
    return "://" in line or line.startswith((".", "/", "~", "git+")) or "/" in line
