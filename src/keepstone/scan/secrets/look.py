"""Look for secrets in a file and in everything inside of it: the entry for every other room.

Promise: every text that is found on the way is looked at, and whatever could not be opened or read
is *not evaluated*, by name. Containers are opened by the scanners that open them for a verdict,
under the same allowance; nothing is run.

    for item in find_secrets(data, "app/settings.py"):
        if item.counts: ...

Git's history is not looked into, and no service is asked whether a token still works.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from keepstone.core.finding import Finding
from keepstone.errors import KeepstoneError
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive.compressed import KINDS, scan_compressed
from keepstone.scan.archive.sevenzip import scan_7z
from keepstone.scan.archive.tar import scan_tar
from keepstone.scan.archive.zip import scan_zip
from keepstone.scan.formats import ZIPS, identify
from keepstone.scan.pickle.constants import constants
from keepstone.scan.rules import MAX_FINDINGS, finding, printable
from keepstone.scan.secrets.found import Hit, SecretFinding, fingerprint, mask
from keepstone.scan.secrets.names import NameOf
from keepstone.scan.secrets.readers import (
    Place,
    Reader,
    Seen,
    binary_seen,
    constants_seen,
    gguf_seen,
    notebook_seen,
    numpy_seen,
    onnx_seen,
    safetensors_seen,
    strings_seen,
    text_seen,
)
from keepstone.scan.secrets.strings import Spot, Strings
from keepstone.scan.secrets.values import is_secret
from keepstone.scan.text.decode import MAX_TEXT, decode
from keepstone.scan.text.notebook import is_notebook
from keepstone.scan.text.parsed import parse_json
from keepstone.scan.view import Scanner, View

_CONTAINERS: dict[str, Scanner] = {
    **dict.fromkeys((*ZIPS,), scan_zip),
    **{kind: partial(scan_compressed, kind=kind) for kind in KINDS},
    "tar": scan_tar,
    "7z": scan_7z,
}
_READERS: dict[str, Reader] = {
    "safetensors": safetensors_seen,
    "gguf": gguf_seen,
    "onnx": onnx_seen,
    "numpy": numpy_seen,
}
# What their content is compressed in is not opened here.
_CLOSED = ("parquet", "pdf")
# What nothing here opens: everything in it is compressed or encrypted.
_SEALED = ((b"Rar!", "RAR"), (b"\x03\xd9\xa2\x9a", "KeePass"))
_LONG_WORD = re.compile(r"[A-Za-z0-9]{20,300}")
_TEXTS = ("text", "json", "notebook", "xml", "script", "html")
# What a container's scanner says where a member could not be had.
_UNREAD = frozenset({"scan.not_evaluated", "zip.encrypted", "archive.bomb", "sevenzip.bomb"})


def find_secrets(
    data: bytes | memoryview, path: str, *, allowance: Allowance | None = None
) -> Iterator[SecretFinding]:
    """Every secret in `data` and inside of it, and every part that could not be read.

    `path` names the file in findings, and its ending tells source from configuration. Never
    raises for any content. An item whose `is_secret` is false says what was not read, and why.
    """
    look = _Look(path)
    view = View(path, memoryview(data), allowance or Allowance(), look.judge)
    yield from _found(look, look.judge(view))


def find_in_view(view: View) -> Iterator[SecretFinding]:
    """The same for a file that is open already (`keepstone.scan.view.open_view`)."""
    look = _Look(view.path)
    whole = View(view.path, view.data, view.allowance, look.judge, None, 0, view.source)
    yield from _found(look, look.judge(whole))


def find_in_environment(
    variables: Mapping[str, str] | Iterable[str], path: str = "environment"
) -> Iterator[SecretFinding]:
    """Every secret among variables, as a mapping or as `NAME=value`."""
    if isinstance(variables, Mapping):
        pairs = list(variables.items())
    else:
        pairs = [(name, value) for name, _, value in (item.partition("=") for item in variables)]
    look, strings = _Look(path), Strings()
    view = View(path, memoryview(b""), Allowance(), look.judge)
    for name, value in pairs:
        strings.add(value, Spot(name))
        strings.pair(name, value, Spot(name))
    yield from _found(look, look.guarded(view, lambda view: strings_seen(view, strings), set()))


def _found(look: _Look, judged: Iterator[Finding]) -> Iterator[SecretFinding]:
    """What was found, and then what was not read, each once."""
    unread = [item for item in judged if item.rule in _UNREAD]
    yield from look.found
    said: set[tuple[str, str | None]] = set()
    for item in unread:
        key = item.message, item.location.member
        if key not in said:
            said.add(key)
            place = item.location
            yield SecretFinding(
                finding("scan.not_evaluated", item.message, place.path, place.offset, place.member)
            )


class _Look:
    """One look at a file. `found` grows as containers are opened, in their order."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[SecretFinding] = []
        self._numbers: Counter[tuple[str | None, str, str]] = Counter()

    def judge(self, view: View) -> Iterator[Finding]:
        """Look into a view; what is yielded is what could not be read. Never raises."""
        try:
            if len(view.data):
                yield from self._read(view)
        except KeepstoneError as error:
            yield view.unseen(error.cause)
        except Exception as error:  # noqa: BLE001  # an edge: the file is an attacker's
            yield view.unseen(f"The look for secrets failed: {type(error).__name__}.")

    def _read(self, view: View) -> Iterator[Finding]:
        kind, text = identify(view.data, view.allowance), None
        values: set[str] = set()
        if len(view.data) <= MAX_TEXT:
            text = _decoded(view.data)
        if text is not None:
            yield from self._text(view, text, values)
        for mark, name in _SEALED:
            if bytes(view.data[: len(mark)]) == mark:
                yield view.unseen(f"What is inside of the format {name} is not opened.")
        if kind in _CONTAINERS:
            yield from _CONTAINERS[kind](view)
        elif kind == "pickle":
            yield from self._pickle(view, values)
        elif kind in _READERS:
            yield from self.guarded(view, _READERS[kind], values)
        if kind not in _CONTAINERS and (text is None or _is_wide(view.data)):
            # Also of what begins as UTF-16: a mark in front must not turn bytes into another text.
            yield from self.guarded(view, binary_seen, values)
        if text is None and kind not in _CONTAINERS:
            if kind in _CLOSED:
                yield view.unseen(f"What is compressed inside of the format {kind} is not opened.")
            elif len(view.data) > MAX_TEXT and kind in _TEXTS:
                reason = "The text is larger than the limit: it was searched line by line only."
                yield view.unseen(reason)
        if len(self.found) >= MAX_FINDINGS:
            yield view.unseen(f"There are more than {MAX_FINDINGS} findings.")

    def guarded(self, view: View, reader: Reader, values: set[str]) -> Iterator[Finding]:
        """What a reader gave before it failed counts."""
        try:
            self.take(view, reader(view), values)
        except KeepstoneError as error:
            yield view.unseen(error.cause)

    def _pickle(self, view: View, values: set[str]) -> Iterator[Finding]:
        """The constants of a pickle, and pickles that lie as byte strings among them."""
        found = constants(view)
        self.take(view, constants_seen(view, found), values)
        for start, end in found.nested:
            yield from view.inside(f"(bytes at {start})", view.data[start:end])
        if found.why:
            yield view.unseen(found.why)

    def _text(self, view: View, text: str, values: set[str]) -> Iterator[Finding]:
        """Look at a text, and at what it says as JSON; told is JSON that could not be read."""
        start = text.lstrip("\ufeff \t\r\n")[:1]
        value: Any = None
        repeated = False
        if start in ("{", "[") and ('"cell_type"' in text or "\\" in text):
            parsed = parse_json(text)
            if parsed is not None:
                value, repeated = parsed.value, bool(parsed.repeated)
                if parsed.problem:
                    yield view.unseen(parsed.problem)
        if is_notebook(value):
            self.take(view, notebook_seen(view, value), values)
            # Of what stands there twice, one is in no cell.
            if not repeated:
                return
        name = (view.member or view.path).rsplit(" > ", 1)[-1]
        self.take(view, text_seen(view, text, name.rsplit("/", 1)[-1]), values)
        if value is not None:
            # `\u0067hp_`, or a file with its lines as one text: what a reader sees is not there.
            strings = Strings()
            strings.walk(value, Spot())
            self.take(view, strings_seen(view, strings), values)

    def take(self, view: View, seen: Iterable[Seen], values: set[str]) -> None:
        """Make findings of what was seen. Of a value that has a line or a part of its own to it,
        a second look at the same bytes says nothing new: `values` are those of this view."""
        for hit, place, allowed in seen:
            part, spot, _ = place
            if spot is None and part is None and hit.value in values:
                continue
            values.add(hit.value)
            if len(self.found) < MAX_FINDINGS:
                member = view.member if part is None else view.under(part)
                self.found.append(self._finding(view, hit, place, member, allowed))

    def _finding(
        self, view: View, hit: Hit, place: Place, member: str | None, allowed: str | None
    ) -> SecretFinding:
        _, spot, offset = place
        key = member, hit.kind, hit.name
        self._numbers[key] += 1
        shown = mask(hit.value)
        where = "" if spot is None else f" at line {spot[0]}, column {spot[1]}"
        given = _given(hit)
        note = f" {hit.note}" if hit.note else ""
        message = f"{hit.kind[:1].upper()}{hit.kind[1:]}{where}: {shown}{given}.{note}"
        return SecretFinding(
            finding(hit.rule, message, view.path, offset, member),
            hit.kind,
            None if spot is None else spot[0],
            None if spot is None else spot[1],
            shown,
            fingerprint(hit, self.path, member, self._numbers[key]),
            None if allowed is None else printable(allowed, 200),
        )


def _given(hit: Hit) -> str:
    """What it was given to. Who logs in is not told, nor a name that may hold a secret itself."""
    if hit.of_user:
        return ", given to a user"
    if any(is_secret(word, NameOf.KEY, True) for word in _LONG_WORD.findall(hit.name)):
        return ", given to a name that looks like a secret"
    return f", given to {printable(hit.name, 80)!r}" if hit.name else ""


def _is_wide(data: memoryview) -> bool:
    return bytes(data[:2]) in (b"\xff\xfe", b"\xfe\xff") or 0 in bytes(data[:512])


def _decoded(data: memoryview) -> str | None:
    """The text that `data` is: UTF-8, UTF-16 with its mark or without, or Latin-1."""
    if (text := decode(data)) is not None:
        return text
    head = bytes(data[:512])
    zeros = head[1::2].count(0), head[::2].count(0)
    most = len(head) // 2
    for coding, here, there in (("utf-16-le", *zeros), ("utf-16-be", *zeros[::-1])):
        if len(data) % 2 == 0 and most >= 4 and here > 0.8 * most and there < 0.1 * most:
            try:
                return str(data, coding)
            except UnicodeDecodeError:
                return None
    if any(byte < 32 and byte not in b"\t\n\r\x0c\x1b" for byte in head):
        return None
    whole = bytes(data)
    if whole.translate(None, bytes(range(32, 256)) + b"\t\n\r\x0c\x1b"):
        return None
    return whole.decode("latin-1")
