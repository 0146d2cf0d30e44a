"""XML as a stream of elements: nothing is resolved, expanded or fetched.

Promise: the document is read by expat alone, which is told of no entity and of no other file. A
declaration of an entity ends the reading; so does anything beyond the limits. What a reader
would open elsewhere is said, never opened.
Sources: XML 1.0 (fifth edition), XInclude 1.1, "Associating Style Sheets with XML documents".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_DEPTH = 512
MAX_ELEMENTS = 5_000_000
MAX_ATTRIBUTES = 1_000
_STEP = 1 << 16
_PLAIN_DOCTYPES = frozenset(("html", "svg", "math"))
_INCLUDE = "http://www.w3.org/2001/XInclude"
_TRANSFORM = "http://www.w3.org/1999/XSL/Transform"
# Between a namespace and a name; it stands in neither.
BETWEEN = "\n"
_RUNS = re.compile(r"php|asp|jsp|python|perl|import|xml-javascript", re.IGNORECASE)


class _StopError(Exception):
    """What was seen is enough: the rest is not read."""


@dataclass(slots=True)
class Document:
    """What was seen of the document as a whole. `problems` are pairs of a rule and why."""

    problems: list[tuple[str, str]] = field(default_factory=list)
    root: tuple[str, str] | None = None  # name space and name
    unread: str = ""  # why it was not read to its end
    elements: int = 0

    def say(self, rule: str, reason: str) -> None:
        if (rule, reason) not in self.problems and len(self.problems) < 200:
            self.problems.append((rule, reason))


# Called with (namespace, name, attributes by their full names, depth) and with each text.
OnElement = Callable[[str, str, dict[str, str], int], None]
OnText = Callable[[str], None]


def read_xml(data: memoryview, on_element: OnElement, on_text: OnText) -> Document:
    """Read all of `data`, telling of each element and text. Never raises for any content."""
    found = Document()
    parser = expat.ParserCreate(namespace_separator=BETWEEN)
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        found.elements += 1
        space, _, name = tag.rpartition(BETWEEN)
        if found.root is None:
            found.root = (space, name)
        if depth > MAX_DEPTH:
            found.say("xml.bomb", "The elements are nested deeper than any reader's.")
        if depth > MAX_DEPTH or found.elements > MAX_ELEMENTS or len(attributes) > MAX_ATTRIBUTES:
            found.unread = "The XML is deeper or larger than the limit."
            raise _StopError
        if space == _INCLUDE:
            found.say("xml.external", "The document includes another one (XInclude).")
        elif space == _TRANSFORM:
            found.say("xml.program", "The document holds a program (XSLT).")
        on_element(space, name, attributes, depth)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(name: str, system: str | None, public: str | None, internal: int) -> None:
        if (system or public) and name.casefold() not in _PLAIN_DOCTYPES:
            found.say("xml.external", "The document's type lies in another file.")
        elif internal:
            found.say("xml.external", "The document declares a type of its own.")

    def entity(*_: object) -> None:
        found.say("xml.entity", "The document declares entities.")
        found.unread = "The XML is not read beyond its entities."
        raise _StopError

    def instruction(target: str, data: str) -> None:
        if target.casefold() == "xml-stylesheet":
            found.say("xml.external", "The document names a style sheet that is fetched or run.")
        elif _RUNS.search(target):
            found.say("xml.program", "The document holds instructions for a program.")

    def external(*_: object) -> int:
        found.say("xml.external", "The document refers to another file.")
        return 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = on_text
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = entity
    parser.UnparsedEntityDeclHandler = entity
    parser.ProcessingInstructionHandler = instruction
    parser.ExternalEntityRefHandler = external
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.buffer_text = True
    try:
        for at in range(0, len(data), _STEP):
            parser.Parse(bytes(data[at : at + _STEP]), False)
        parser.Parse(b"", True)
    except _StopError:
        pass
    except (expat.ExpatError, ValueError, LookupError) as error:
        found.unread = f"The XML is broken: {_reason(error)}."
    return found


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None)
    return expat.ErrorString(code) if isinstance(code, int) else "its encoding is not known"
