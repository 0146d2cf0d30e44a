"""YAML, read as events: nothing is constructed, whatever its tags ask for.

A tag can name a class or function for the loader to call (`!!python/object/apply:os.system`),
and a few aliases of aliases unfold into more than any memory holds. Both are seen in the stream
of events, which builds nothing. Source: YAML 1.1 (what PyYAML and SnakeYAML read).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from keepstone.scan.text.parsed import MAX_NESTING
from keepstone.scan.text.words import words

# A configuration with more nodes than this, or whose aliases unfold to more, is not one.
MAX_NODES = 500_000
MAX_UNFOLDED = 10_000_000
MAX_YAML = 8 << 20

_STANDARD = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    _STANDARD + name
    for name in words(
        """
    binary bool float int map merge null omap pairs seq set str timestamp value
    """
    )
)
# Those build a plain value, of a type that every Python has.
_PLAIN_PYTHON = frozenset(
    f"{_STANDARD}python/{name}"
    for name in words(
        """
    none bool str unicode bytes int long float complex list tuple dict
    """
    )
)
# Where the values of keys that come again are kept.
_AGAIN = "(again)"
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null"), None),
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
# What a tag looks like in a text that no parser here could read to its end.
TAGS = re.compile(
    r"!!python/|!!(?:java|javax|com|org|net|sun)\.|!ruby/|!<[^>]{0,200}>|tag:yaml\.org|%TAG"
)


@dataclass(slots=True)
class YamlText:
    """What a YAML text says: its documents' values, its tags, and how it ended.

    Scalars are their text, but for nulls and booleans. `broken` says that the reader stopped
    before the end.
    """

    documents: list[Any] = field(default_factory=list)
    tags: list[tuple[str, int]] = field(default_factory=list)  # each with its line, from 1
    repeated: list[str] = field(default_factory=list)
    unfolded: int = 0
    problem: str = ""
    broken: bool = False


def read_yaml(text: str) -> YamlText:
    """Read every document of `text`. Never raises for any content."""
    import yaml

    found = YamlText()
    builder = _Builder(found)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if not builder.take(event):
                break
    except yaml.YAMLError:
        found.broken = True
    except (RecursionError, MemoryError, ValueError, UnicodeError):
        found.broken, found.problem = True, "The YAML is more than its reader takes."
    return found


def is_plain(tag: str) -> bool:
    """True where a tag asks for a plain value that needs no code of anybody's."""
    return tag in _PLAIN_TAGS or tag in _PLAIN_PYTHON


def names_code(tag: str) -> str | None:
    """The name of the class or function that a tag makes its loader call, if it names one."""
    if tag.startswith(_STANDARD):
        kind = tag.removeprefix(_STANDARD)
        if kind.startswith("python/"):
            return kind.split(":", 1)[-1]
        # SnakeYAML: any class of the class path (CVE-2022-1471).
        return kind if not is_plain(tag) else None
    for mark in ("!python/", "!ruby/", "!java/", "!!"):
        if tag.startswith(mark):
            return tag.split(":", 1)[-1]
    return None


@dataclass(slots=True)
class _Open:
    """A collection that has begun: its value, its size unfolded, and the key that waits."""

    value: Any
    anchor: str | None
    size: int = 1
    key: str | None = None
    waiting: bool = True


class _Builder:
    """Puts values together out of events; an alias is the same value again, never a copy."""

    def __init__(self, found: YamlText) -> None:
        self._found = found
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def take(self, event: Any) -> bool:
        """One event; False where a limit ends the reading."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._found.problem = f"The YAML has more than {MAX_NODES} nodes."
            return False
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._tagged(event)
            # YAML 1.1: only a plain scalar without a tag is more than its text.
            plain = event.implicit[0] and not event.style
            value = _WORDS.get(event.value.lower(), event.value) if plain else event.value
            self._put(value, 1, event.anchor)
        elif kind == "AliasEvent":
            value, size = self._anchors.get(event.anchor, (None, 1))
            self._put(value, size, None)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._tagged(event)
            self._open.append(_Open({} if kind[0] == "M" else [], event.anchor))
            if event.anchor:
                # An alias inside of its own anchor makes a value that holds itself.
                self._anchors[event.anchor] = (None, 1)
            if len(self._open) > MAX_NESTING:
                self._found.problem = "The YAML is nested deeper than the limit."
                return False
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            done = self._open.pop()
            self._put(done.value, done.size, done.anchor)
        elif kind == "DocumentStartEvent":
            self._anchors.clear()
        return True

    def _tagged(self, event: Any) -> None:
        tag = event.tag
        if tag and tag != "!" and not is_plain(tag) and len(self._found.tags) < 1000:
            self._found.tags.append((tag, event.start_mark.line + 1))

    def _put(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self._found.documents.append(value)
            self._found.unfolded = max(self._found.unfolded, size)
            return
        top = self._open[-1]
        top.size = min(top.size + size, MAX_UNFOLDED + 1)
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.waiting:
            # A key that is itself a collection names no loader.
            top.key = "(a collection)" if isinstance(value, dict | list) else str(value)
            top.waiting = False
        else:
            assert top.key is not None
            if top.key in top.value and top.key != "<<" and len(self._found.repeated) < 100:
                self._found.repeated.append(top.key)
            if top.key in top.value:
                # Whichever of the two a reader takes, both are looked at.
                top.value.setdefault(_AGAIN, []).append({top.key: value})
            else:
                top.value[top.key] = value
            top.waiting = True


def documents_of(found: YamlText) -> Iterator[Any]:
    """The documents that are more than one text."""
    return (value for value in found.documents if isinstance(value, dict | list))
