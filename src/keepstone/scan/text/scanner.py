"""Text: what a reader of text makes of it decides which checks it gets, never its name.

Promise: a text is clean only where every reading of it that a loader could have (JSON, YAML,
TOML, INI, Jinja, requirements, source) has been tried and none names code. A name may add a
reading, and never takes one away. Text that nothing reads as any of these is data: vocabularies,
licences, tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.templates import template_findings
from keepstone.scan.text.config import config_findings
from keepstone.scan.text.decode import MAX_TEXT, decode
from keepstone.scan.text.notebook import is_notebook, notebook_findings
from keepstone.scan.text.parsed import MAX_JSON, Parsed, parse_ini, parse_json, parse_toml
from keepstone.scan.text.payload import attack_in, template_reaches
from keepstone.scan.text.requirements import requirement_findings, resembles_requirements
from keepstone.scan.text.source import MAX_SOURCE, resembles_source, source_findings
from keepstone.scan.text.words import words
from keepstone.scan.text.yamls import (
    MAX_UNFOLDED,
    MAX_YAML,
    TAGS,
    documents_of,
    names_code,
    read_yaml,
)
from keepstone.scan.trees.jsons import tree_model_findings
from keepstone.scan.trees.lightgbm import MARK as LIGHTGBM
from keepstone.scan.trees.lightgbm import lightgbm_findings
from keepstone.scan.view import View

# Python's own scripts are source like any other.
_SCRIPT = re.compile(r"\ufeff?#!\s*/(?!\S*python|\S+\s+python)\S+")
# The keys of loaders, as they stand in a text that no parser here read to its end.
_KEYS = re.compile(
    r"_target_|class_path|loader_module|trust_remote_code|auto_map|py/(?:object|reduce)"
    r"|__reduce__|init_args|\"\(\)\"|\btarget\b|__class__|class_name|_component_"
)
_MAX_PLAIN_YAML = 1 << 20
_SCRIPTS = (".py", ".pyw", ".pyi", ".pyx", ".ipy")
_SHELLS = (".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1", ".vbs", ".command")
_CODE = (
    *_SCRIPTS,
    *words(".r .jl .lua .js .mjs .ts .java .c .cc .cpp .cu .cuh .h .hpp .rs .go .rb .pl .php"),
    *words(".scala .html .htm"),
)
_PROSE = (".md", ".rst", ".txt", "license", "notice", "readme", ".csv", ".tsv", ".bib", ".cff")


def name_of(view: View) -> str:
    """The last part of the name that a view goes by, in small letters."""
    whole = view.path if view.member is None else view.member
    return re.split(r"[\\/]|> ", whole.casefold())[-1]


def scan_text(view: View) -> Iterator[Finding]:
    """Judge a text by every reading it could have."""
    name = name_of(view)
    if len(view.data) > MAX_JSON:
        yield view.unseen("The text is larger than the limit.")
        return
    text = decode(view.data)
    if text is None:
        yield view.unseen("The file begins as text and is none.")
        return
    if _SCRIPT.match(text) or name.endswith(_SHELLS):
        yield view.finding("file.program", "The file is a script that a system would run.")
    if text.startswith(LIGHTGBM):
        yield from lightgbm_findings(view, text)
    else:
        yield from _read(view, text, name)


def _read(view: View, text: str, name: str) -> Iterator[Finding]:
    """Try the readings of a text, the strictest first."""
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start and start in '{["-0123456789tfnIN':
        parsed = parse_json(text)
        if parsed is not None:
            yield from json_findings(view, parsed, name)
            return
        if start == "{" and (lines := _json_lines(text)) is not None:
            for parsed in lines:
                yield from json_findings(view, parsed, name)
            return
    if len(text) > MAX_TEXT:
        yield view.unseen("The text is larger than its readers' limit.")
        return
    yield from _template(view, text, name)
    if name.endswith(".pth") and re.search(r"^import[ \t]", text, re.MULTILINE):
        yield view.finding("file.program", "Python runs the lines of this file as it starts.")
    if name.endswith(_CODE) or resembles_source(text):
        yield from _source(view, text, name)
        return
    if name.startswith("requirements") or resembles_requirements(text):
        yield from requirement_findings(view, text)
        return
    if (parsed := parse_toml(text) or parse_ini(text)) is not None:
        yield from _structured(view, parsed)
    yield from _yaml(view, text, name)
    yield from _plain(view, text, name)


def json_findings(view: View, parsed: Parsed, name: str) -> Iterator[Finding]:
    """A JSON value: a notebook, a model of trees, or configuration."""
    if parsed.problem:
        yield view.unseen(parsed.problem)
        if parsed.deep:
            yield view.finding("config.bomb", "It is nested so deep that readers run out of stack.")
        return
    if isinstance(parsed.value, dict) and is_notebook(parsed.value):
        yield from notebook_findings(view, parsed.value)
        return
    found = tree_model_findings(view, parsed.value)
    if found is not None:
        yield from _repeated(view, parsed)
        yield from found
        return
    if name.endswith(".ipynb"):
        yield view.unseen("The file is named a notebook and is none.")
    yield from _structured(view, parsed)


def _structured(view: View, parsed: Parsed) -> Iterator[Finding]:
    if parsed.problem:
        yield view.unseen(parsed.problem)
    yield from _repeated(view, parsed)
    yield from config_findings(view, parsed.value)


def _repeated(view: View, parsed: Parsed) -> Iterator[Finding]:
    for key in sorted(set(parsed.repeated))[:10]:
        yield view.finding("config.ambiguous", f"The key {printable(key, 60)} comes twice.")


def _json_lines(text: str) -> list[Parsed] | None:
    """Every line as JSON, or None where one is not."""
    found: list[Parsed] = []
    for line in text.splitlines():
        if line.strip():
            parsed = parse_json(line)
            if parsed is None or len(found) > 1_000_000:
                return None
            found.append(parsed)
    return found


def _source(view: View, text: str, name: str) -> Iterator[Finding]:
    if len(text) > MAX_SOURCE:
        yield view.unseen("The source is larger than the limit.")
    yield from source_findings(view, text)
    yield view.finding("code.not_judged", "The file is source code, which is not judged.")
    if not name.endswith(_CODE):
        # A YAML of calls is Python to `ast` as well.
        yield from _yaml(view, text, name)


def _yaml(view: View, text: str, name: str) -> Iterator[Finding]:
    """What a reader of YAML would make of the text."""
    suspect = TAGS.search(text) is not None or _KEYS.search(text) is not None
    named = name.endswith((".yaml", ".yml")) or name == "mlmodel"
    if len(text) > MAX_YAML:
        if suspect or named:
            yield view.unseen("The YAML is larger than the limit.")
        return
    # Without a tag, and without a key that names code, only a small text is worth it.
    worth = len(text) <= _MAX_PLAIN_YAML and (":" in text or "&" in text)
    if not (named or suspect or worth):
        return
    found = read_yaml(text)
    for tag, line in found.tags:
        shown = printable(tag, 80)
        if names_code(tag) is not None:
            yield view.finding("config.tag", f"The tag {shown} (line {line}) names code.")
        elif named or not name.endswith(_PROSE):
            yield view.finding("config.unknown_tag", f"The tag {shown} (line {line}) is not known.")
    if found.problem and (named or suspect):
        yield view.unseen(found.problem)
    if found.unfolded > MAX_UNFOLDED:
        yield view.finding("config.bomb", "Its aliases unfold to more than ten million values.")
    documents = list(documents_of(found))
    # In prose the same word before a colon comes again and again. Both values are looked at.
    if documents and not found.broken and (named or suspect):
        yield from _repeated(view, Parsed(None, found.repeated))
    for value in documents:
        yield from config_findings(view, value)
        yield from _conda(view, value)
    if found.broken:
        # Another reader of YAML may go on where this one stops.
        if TAGS.search(text) and not name.endswith(_PROSE):
            yield view.finding(
                "config.tag", "The text breaks off as YAML and has tags that name code."
            )
        elif named or (suspect and not name.endswith(_PROSE)):
            yield view.unseen("The text cannot be read as YAML to its end.")


def _conda(view: View, value: Any) -> Iterator[Finding]:
    """`conda.yaml`: the pip requirements in its list of dependencies."""
    packages = value.get("dependencies") if isinstance(value, dict) else None
    for item in packages if isinstance(packages, list) else []:
        if isinstance(item, dict) and isinstance(item.get("pip"), list):
            lines = [line for line in item["pip"] if isinstance(line, str)]
            yield from requirement_findings(view, lines)
        elif isinstance(item, str) and "://" in item:
            yield from requirement_findings(view, [item.rsplit("::", 1)[0]])
    build = value.get("build_dependencies") if isinstance(value, dict) else None
    for key in (packages, build):
        if isinstance(key, list):
            lines = [line for line in key if isinstance(line, str) and line.startswith("-")]
            yield from requirement_findings(view, lines)


def _template(view: View, text: str, name: str) -> Iterator[Finding]:
    """A text of Jinja: by its name, or by what it reaches for."""
    jinja = name.endswith((".jinja", ".jinja2", ".j2"))
    if jinja or ("{%" in text and "%}" in text) or template_reaches(text):
        for problem in template_findings(text):
            if jinja or problem.rule != "template.unknown":
                yield view.finding(problem.rule, problem.reason)


def _plain(view: View, text: str, name: str) -> Iterator[Finding]:
    """Text that is prose or a table to its readers."""
    if "<!ENTITY" in text:
        # Broken XML is none to expat, and may be some to another reader.
        yield view.finding("config.quoted_code", "The text declares entities as XML does.")
    if attack := attack_in(text):
        yield view.finding("config.quoted_code", f"The text says {printable(attack, 60)}.")
