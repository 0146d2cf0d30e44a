"""XML: entities, other files, programs, and classes that its reader would load.

An XML document is data to one reader and a list of objects to make to another (Java's
XMLDecoder, XStream, Spring, .NET's XAML). PMML is known, and clean where it is sound; of any
other vocabulary nothing is known but what is flagged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.markup.pmml import Pmml, is_pmml
from keepstone.scan.markup.reader import read_xml
from keepstone.scan.rules import printable
from keepstone.scan.text.payload import HOST, attack_in
from keepstone.scan.text.words import words
from keepstone.scan.view import View

MAX_XML = 1 << 30
# Readers for which elements are objects to make.
_OBJECTS = frozenset(
    words(
        """
    dynamic-proxy java beans bean objectdataprovider resourcedictionary sorted-set tree-map
    linked-hash-set void
    """
    )
)
_SCRIPTS = frozenset(("script", "foreignobject", "iframe", "handler", "listener"))
# Vocabularies that hold data and name no code.
_DATA = frozenset(("annotation", "dataset", "metadata", "net", "graphml", "svg"))
_MAX_SAID = 20


def scan_xml(view: View) -> Iterator[Finding]:
    """Judge an XML document; nothing that it names is opened."""
    if len(view.data) > MAX_XML:
        yield view.unseen("The XML is larger than the limit.")
        return
    look = _Look()
    document = read_xml(view.data, look.element, look.text)
    for rule, reason in document.problems:
        yield view.finding(rule, reason)
    yield from (view.finding(rule, reason) for rule, reason in look.said)
    if document.unread:
        yield view.unseen(document.unread)
        yield from _torn(view)
    elif document.root is None:
        yield view.unseen("The XML has no element.")
    elif look.pmml is not None:
        yield from (view.finding(rule, reason) for rule, reason in look.pmml.problems)
    elif document.root[1].casefold() not in _DATA:
        reason = f"The vocabulary of {printable(document.root[1], 60)} is not known."
        yield view.finding("xml.vocabulary", reason)


class _Look:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.pmml: Pmml | None = None
        self.first = True

    def say(self, rule: str, reason: str) -> None:
        if (rule, reason) not in self.said and len(self.said) < _MAX_SAID:
            self.said.append((rule, reason))

    def element(self, space: str, name: str, attributes: dict[str, str], depth: int) -> None:
        if self.first:
            self.first = False
            self.pmml = Pmml() if is_pmml(space, name) else None
        if self.pmml is not None:
            self.pmml.element(name, attributes, depth)
        small = name.casefold()
        if small in _SCRIPTS:
            self.say("xml.program", f"The document has an element {printable(name, 40)}.")
        if small in _OBJECTS and self.pmml is None and _makes_objects(small, space, attributes):
            reason = f"Its reader makes objects by their names ({printable(name, 40)})."
            self.say("xml.host_code", reason)
        self.text(name)
        for key, value in attributes.items():
            if key.casefold().startswith("on") and "(" in value:
                self.say("xml.program", "An element runs script on an event.")
            self.text(value)

    def text(self, value: str) -> None:
        if len(value) < 6:
            return
        if attack := attack_in(value):
            self.say("xml.host_code", f"The document says {printable(attack, 60)}.")
        elif value.lstrip()[:11].casefold() == "javascript:":
            self.say("xml.program", "The document holds script in an address.")


def _makes_objects(name: str, space: str, attributes: dict[str, str]) -> bool:
    if name == "java":
        return "class" in attributes or "version" in attributes
    if name in ("bean", "beans"):
        return "spring" in space or "class" in attributes
    if name == "void":
        return "method" in attributes or "property" in attributes
    return name not in ("sorted-set", "tree-map", "linked-hash-set") or not attributes


def _torn(view: View) -> Iterator[Finding]:
    """What another reader could find behind the place where this one stopped."""
    text = str(bytes(view.data[: 4 << 20]), "utf-8", "replace")
    if re.search(r"<!ENTITY|<!DOCTYPE[^>]{1,300}\b(?:SYSTEM|PUBLIC)\b", text):
        yield view.finding("xml.entity", "The document declares entities or another file.")
    if match := HOST.search(text):
        yield view.finding("xml.host_code", f"The document says {printable(match.group(), 60)}.")
