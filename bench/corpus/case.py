"""One file or folder of the corpus: what it holds, what is expected of it, and what opens it."""

from __future__ import annotations

import importlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Content = bytes | Mapping[str, bytes]

MARK = "CORPUS_MARK"
CANARY = "corpus-canary.txt"
# What a payload does: an empty file where the environment says, or nothing at all.
COMMAND = 'touch "${CORPUS_MARK:-/dev/null}"'
EXPRESSION = "open(__import__('os').environ.get('CORPUS_MARK','/dev/null'),'w').close()"
CODE = "import os\nopen(os.environ.get('CORPUS_MARK', os.devnull), 'w').close()\n"


class MissingError(Exception):
    """A library that a part of the corpus is made with is not installed."""


@dataclass(frozen=True, slots=True)
class Case:
    """`name` ends as the file does; a mapping as content makes a folder of files.

    `loader` is the name of one in `bench.corpus.loaders`; `fires` says in words what it would do.
    """

    name: str
    malicious: bool
    content: Content
    loader: str
    fires: str = ""

    @property
    def file_name(self) -> str:
        return f"{'fail' if self.malicious else 'good'}_{self.name}"


Part = Callable[[int], Iterator[Case]]


def fail(name: str, content: Content, fires: str, loader: str = "pickle.load") -> Case:
    return Case(name, True, content, loader, fires)


def good(name: str, content: Content, loader: str = "pickle.load") -> Case:
    return Case(name, False, content, loader)


def need(module: str) -> Any:
    """The module, untyped. Raises MissingError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"{module.partition('.')[0]} is not installed") from error


Members = Iterable[tuple[str, bytes]]


def zipped(members: Members, method: int = zipfile.ZIP_STORED, prefix: bytes = b"") -> bytes:
    """A zip archive with one fixed date; a name may come more than once."""
    out = io.BytesIO()
    out.write(prefix)
    with zipfile.ZipFile(out, "a" if prefix else "w", method) as archive:
        for name, content in members:
            # Not writestr with a name: that looks at the clock, and warns of the second of two.
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.NameToInfo.pop(name, None)
            archive.writestr(info, content)
    return out.getvalue()


def tarred(members: Members, mode: str = "w") -> bytes:
    """A tar archive in which nothing tells the time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = out.getvalue()
    # A gzip stream holds the time in these four bytes (RFC 1952 2.3.1).
    return found[:4] + bytes(4) + found[8:] if mode.endswith(":gz") else found
