"""The `.keras` archive: its configuration, its weights, and whatever else lies in it.

Source: `keras.src.saving.saving_lib` (`_save_model_to_fileobj`).
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.archive.zip import problems, unpacked
from keepstone.scan.archive.zipdir import read_zip
from keepstone.scan.formats import UNKNOWN, identify
from keepstone.scan.keras.config import judge_config
from keepstone.scan.strictjson import read_json
from keepstone.scan.texts import program_in
from keepstone.scan.view import View

_CONFIG = "config.json"
MAX_TEXT = 64 << 20


def scan_keras(view: View) -> Iterator[Finding]:
    """Judge a `.keras` archive. No finding means clean."""
    listing = read_zip(view.data)
    yield from problems(view, listing)
    names = [entry.name for entry in listing.entries]
    if _CONFIG not in names:
        yield view.finding("keras.malformed", "The archive has no configuration of its own.")
    for entry in listing.entries:
        if entry.name.endswith("/") and not entry.size:
            continue
        content, rule, why = unpacked(view, entry)
        if why:
            yield view.finding(rule, why, None, entry.name)
        yield from _member(view, entry.name, content)


def _member(view: View, name: str, content: memoryview) -> Iterator[Finding]:
    if name.rpartition("/")[2].casefold().endswith(".json"):
        yield from _json(view, name, bytes(content[:MAX_TEXT]))
    elif name.startswith("assets/") and identify(content, view.allowance) == UNKNOWN:
        yield from _asset(view, name, content)
    else:
        yield from view.inside(name, content)


def _json(view: View, name: str, raw: bytes) -> Iterator[Finding]:
    try:
        document = read_json(raw)
    except ValueError as error:
        yield view.finding("keras.malformed", f"It cannot be read: {error}.", None, name)
        return
    value = document.value
    if document.repeated:
        yield view.finding("keras.ambiguous", "It gives one name twice.", None, name)
    if name == _CONFIG and not (isinstance(value, dict) and "class_name" in value):
        yield view.finding("keras.malformed", "It is not that of a model.", None, name)
    if name != _CONFIG and (what := program_in(raw.decode("utf-8"))):
        yield view.finding("metadata.program", f"It holds {what}.", None, name)
    yield from judge_config(view, value, name)


def _asset(view: View, name: str, content: memoryview) -> Iterator[Finding]:
    """Vocabularies and the like: text, or nothing that is known."""
    raw = bytes(content[:MAX_TEXT])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        yield view.unseen("The format of the asset is not known.", name)
        return
    if "\x00" in text or len(content) > len(raw):
        yield view.unseen("The asset is no text, or larger than the limit.", name)
    elif what := program_in(text):
        yield view.finding("metadata.program", f"It holds {what}.", None, name)
