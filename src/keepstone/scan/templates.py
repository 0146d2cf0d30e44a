"""Chat templates: Jinja that a model brings, parsed and never rendered.

Promise: nothing of the template runs. What would reach Python's internals in an environment
without a sandbox (the one that CVE-2024-34359 used) is a problem, however its name is spelled:
with a dot, with brackets, by a filter, or put together out of pieces. A template that the parser
refuses is a problem too, never silence.

Names put together are followed through assignments, loops, macros and filters, whatever their
order; a computed name counts where it could begin and end with an underscore.

Sources: https://jinja.palletsprojects.com/en/stable/templates/ and `jinja2.sandbox`; the
extensions are those of transformers' `apply_chat_template`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from keepstone.scan.rules import printable

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.environment import Environment

# The longest that real models bring are some 30 kB.
MAX_LENGTH = 128 << 10
MAX_COUNT = 1_000_000
_MAX_NODES = 200_000
_MAX_FOLDS = 50_000
# More ways than these to read one expression, and it counts as one that could be anything.
_MAX_WAYS = 16

# Attributes without underscores in front that lead to frames, code and globals.
_INTERNALS = frozenset(
    {
        *("gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code", "cr_await", "ag_frame"),
        *("ag_code", "ag_await", "f_globals", "f_locals", "f_builtins", "f_back", "f_code"),
        *("func_globals", "func_code", "func_closure", "im_func", "im_self", "im_class"),
        *("tb_frame", "tb_next", "co_consts", "co_names", "co_code", "mro"),
    }
)
_DUNDERS = frozenset(
    name
    for kind in (
        object,
        type,
        int,
        str,
        list,
        dict,
        types.FunctionType,
        types.ModuleType,
        Exception,
    )
    for name in dir(kind)
    if name.startswith("__")
) | {"__builtins__", "__import__", "__subclasses__", "__mro__", "__base__", "__bases__", "__self__"}
_INSIDE = re.compile("|".join(sorted(map(re.escape, _DUNDERS), key=len, reverse=True)))
# Methods and filters that make one text of others.
_BUILDS = frozenset({"join", "format", "format_map", "replace", "reverse", "translate", "decode"})
_KEEPS = frozenset(
    {
        *("lower", "upper", "capitalize", "title", "swapcase", "trim", "strip", "lstrip", "rstrip"),
        *("string", "safe", "escape", "e", "default", "d", "first", "last", "random", "list"),
        *("removeprefix", "removesuffix", "split"),
    }
)
# Filters whose arguments are the names of attributes.
_BY_ATTRIBUTE = frozenset(
    {"map", "selectattr", "rejectattr", "sort", "groupby", "sum", "unique", "min", "max"}
)


class TemplateProblem(NamedTuple):
    """What `rule` says of a template, why, and in which of its lines."""

    rule: str
    reason: str
    line: int


def template_findings(text: str) -> tuple[TemplateProblem, ...]:
    """What is wrong with a chat template; nothing where it does what honest ones do."""
    if len(text) > MAX_LENGTH:
        reason = f"The template is longer than {MAX_LENGTH} characters."
        return (TemplateProblem("template.unknown", reason, 1),)
    environment = _environment()
    try:
        tree = environment.parse(text)
    except Exception as error:  # noqa: BLE001  # an edge: another's parser on an attacker's text
        return tuple(_unparsed(text, error))
    look = _Look(environment)
    return tuple(dict.fromkeys(look.problems(tree)))


def _unparsed(text: str, error: Exception) -> Iterator[TemplateProblem]:
    line = getattr(error, "lineno", None) or 1
    # Another reader may take what this one refuses.
    if (found := _INSIDE.search(text)) is not None:
        reason = f"The template names {found.group()!r}, and cannot be parsed."
        yield TemplateProblem("template.escape", reason, line)
    reason = f"The template cannot be parsed: {type(error).__name__}."
    yield TemplateProblem("template.unknown", reason, line)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        """`{% generation %}`, which transformers adds: what it wraps is looked at."""

        tags = {"generation"}  # noqa: RUF012  # Jinja's own form

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.If(nodes.Const(True), body, [], [], lineno=line)

    names: list[str | type[Extension]] = [
        "jinja2.ext.do",
        "jinja2.ext.loopcontrols",
        "jinja2.ext.debug",
        Generation,
    ]
    # Never rendered, so nothing to escape.
    return Environment(extensions=names, autoescape=True)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that the template spells, or what is known of its two ends."""

    head: str
    tail: str
    whole: bool

    @property
    def is_internal(self) -> bool:
        """It is, or could be, a name of Python's internals."""
        if self.whole:
            return is_internal(self.head)
        return self.head[:1] in ("", "_") and self.tail[-1:] in ("", "_")


_OPEN = _Text("", "", False)


def is_internal(name: str) -> bool:
    """True for an attribute that no template has a use for. Dots may join several."""
    return any(part.startswith("__") or part in _INTERNALS for part in name.split("."))


@dataclass(slots=True)
class _Look:
    """One look at a tree: what its names were ever set to, and how much may still be folded."""

    environment: Environment
    values: dict[str, list[nodes.Node]] = field(default_factory=dict)
    macros: dict[str, list[str]] = field(default_factory=dict)
    folds: int = _MAX_FOLDS
    active: set[str] = field(default_factory=set)
    known: dict[str, list[_Text]] = field(default_factory=dict)

    def problems(self, tree: nodes.Template) -> Iterator[TemplateProblem]:
        found = _flat(tree)
        if len(found) > _MAX_NODES:
            yield TemplateProblem("template.unknown", "The template is larger than the limit.", 1)
            return
        # Macros first: calls bind their parameters, wherever they are defined.
        for node in sorted(found, key=lambda node: type(node).__name__ != "Macro"):
            self.note(node)
        if _counted(tree) > MAX_COUNT:
            reason = f"The template counts to more than {MAX_COUNT}."
            yield TemplateProblem("template.exhausts", reason, 1)
        for node in found:
            visit = getattr(self, f"on_{type(node).__name__.lower()}", None)
            if visit is not None:
                for rule, reason in visit(node):
                    yield TemplateProblem(rule, reason, node.lineno)
        if self.folds <= 0:
            reason = "The template computes more texts than the limit allows."
            yield TemplateProblem("template.unknown", reason, 1)

    # What names may stand for ---------------------------------------------------------------------

    def note(self, node: Any) -> None:
        """Keep what a name is set to, anywhere: order and scope are the attacker's."""
        kind = type(node).__name__
        if kind == "Assign":
            self.bind(node.target, node.node)
        elif kind == "For":
            self.bind(node.target, node.iter)
        elif kind == "With":
            for target, value in zip(node.targets, node.values, strict=True):
                self.bind(target, value)
        elif kind == "Macro":
            self.macros.setdefault(node.name, []).extend(item.name for item in node.args)
            defaults = node.defaults
            for item, value in zip(
                node.args[len(node.args) - len(defaults) :], defaults, strict=True
            ):
                self.bind(item, value)
        elif kind == "AssignBlock":
            # The text of a block is whatever it renders to.
            self.bind(node.target, node)
        elif kind == "Call":
            self.pass_on(node)

    def bind(self, target: Any, value: nodes.Node) -> None:
        kind = type(target).__name__
        if kind == "Name":
            self.values.setdefault(target.name, []).append(value)
        elif kind == "NSRef":
            self.values.setdefault(f".{target.attr}", []).append(value)
        elif kind == "Tuple":
            for item in target.items:
                self.bind(item, value)

    def pass_on(self, node: Any) -> None:
        """Arguments become the values of parameters; keywords those of attributes too."""
        for item in node.kwargs:
            self.values.setdefault(item.key, []).append(item.value)
            self.values.setdefault(f".{item.key}", []).append(item.value)
        if type(node.node).__name__ == "Name":
            # Which macro is called may be decided by a name: all that share it count.
            for parameter in self.macros.get(node.node.name, ()):
                self.values.setdefault(parameter, []).extend(node.args)

    # What an expression spells --------------------------------------------------------------------

    def texts(self, node: Any, depth: int = 0) -> Iterator[_Text]:
        """The texts that `node` may be, as far as the template itself spells or builds them."""
        self.folds -= 1
        if depth > 12 or self.folds <= 0:
            yield _OPEN
            return
        match type(node).__name__:
            case "Const":
                if isinstance(node.value, str):
                    yield _Text(node.value, node.value, True)
            case "Concat":
                yield from self.joined(node.nodes, depth)
            case "Add":
                left, right = self.some(node.left, depth), self.some(node.right, depth)
                if left or right:
                    yield from _joins([left or [_OPEN], right or [_OPEN]])
            case "Mod" | "Mul":
                if self.some(node.left, depth) or self.some(node.right, depth):
                    yield _OPEN
            case "CondExpr" | "Or" | "And":
                for part in _branches(node):
                    yield from self.texts(part, depth + 1)
            case "List" | "Tuple":
                for part in node.items:
                    yield from self.texts(part, depth + 1)
            case "Dict":
                for pair in node.items:
                    yield from self.texts(pair.key, depth + 1)
                    yield from self.texts(pair.value, depth + 1)
            case "Filter":
                yield from self.changed(node.node, node.name, depth)
            case "Call" if type(node.node).__name__ == "Getattr":
                yield from self.changed(node.node.node, node.node.attr, depth)
            case "Getitem":
                # A piece cut out of a text, or an entry of what the template lists.
                sliced = type(node.arg).__name__ == "Slice"
                for text in self.texts(node.node, depth + 1):
                    yield _OPEN if sliced else text
            case "AssignBlock":
                yield _OPEN
            case "Name" | "Getattr":
                name = node.name if type(node).__name__ == "Name" else f".{node.attr}"
                yield from self.named(name, depth)

    def named(self, name: str, depth: int) -> list[_Text]:
        """What a name may stand for. What it is made of itself adds nothing: a counter is none."""
        if name in self.known:
            return self.known[name]
        if name in self.active:
            return []
        first = not self.active
        self.active.add(name)
        values = self.values.get(name, [])
        found = _few(text for value in values for text in self.texts(value, depth + 1))
        self.active.discard(name)
        if first:
            self.known[name] = found
        return found

    def some(self, node: Any, depth: int = 0) -> list[_Text]:
        return _few(self.texts(node, depth + 1))

    def joined(self, parts: list[nodes.Expr], depth: int) -> Iterator[_Text]:
        yield from _joins([self.some(part, depth) or [_OPEN] for part in parts])

    def changed(self, node: Any, by: str, depth: int) -> Iterator[_Text]:
        """What a filter or method makes of a text."""
        if by in _BUILDS:
            yield _OPEN
        elif by in _KEEPS:
            for text in self.texts(node, depth + 1):
                # An inner space could go with what was around it.
                head, tail = text.head.strip().lower(), text.tail.strip().lower()
                yield _Text(head, tail, text.whole)

    # What each kind of node may not do ------------------------------------------------------------

    def on_getattr(self, node: Any) -> Iterator[tuple[str, str]]:
        if node.attr.startswith("_") or node.attr in _INTERNALS:
            yield "template.escape", f"The template reads the attribute {_shown(node.attr)}."

    def on_getitem(self, node: Any) -> Iterator[tuple[str, str]]:
        # Brackets fall back to attributes.
        if type(node.arg).__name__ != "Slice":
            yield from self.name(node.arg, "reads")

    def on_name(self, node: Any) -> Iterator[tuple[str, str]]:
        if is_internal(node.name):
            yield "template.escape", f"The template names {_shown(node.name)}."

    def on_keyword(self, node: Any) -> Iterator[tuple[str, str]]:
        if is_internal(node.key):
            yield "template.escape", f"The template names {_shown(node.key)}."

    def on_const(self, node: Any) -> Iterator[tuple[str, str]]:
        if isinstance(node.value, str) and node.value in _DUNDERS:
            yield "template.escape", f"The template spells {_shown(node.value)}."

    def on_filter(self, node: Any) -> Iterator[tuple[str, str]]:
        if node.name not in self.environment.filters:
            yield "template.unknown", f"The filter {_shown(node.name)} is not one of Jinja's."
        keywords = {item.key: item.value for item in node.kwargs}
        if node.name == "attr":
            wanted = [*node.args, *keywords.values()]
            if any(type(item).__name__ != "Const" for item in wanted) or node.dyn_args:
                yield "template.escape", "The template computes the name of an attribute."
            for item in wanted:
                yield from self.name(item, "reads")
        elif node.name in _BY_ATTRIBUTE:
            for item in [*node.args, *keywords.values()]:
                yield from self.name(item, "reads")
        elif node.name == "format":
            yield from self.formatted(node.node)

    def on_test(self, node: Any) -> Iterator[tuple[str, str]]:
        if node.name not in self.environment.tests:
            yield "template.unknown", f"The test {_shown(node.name)} is not one of Jinja's."

    def on_call(self, node: Any) -> Iterator[tuple[str, str]]:
        kind = type(node.node).__name__
        if kind == "Getattr" and node.node.attr in ("format", "format_map"):
            yield from self.formatted(node.node.node)
        if kind == "Name" and node.node.name == "range":
            counts = [item.value for item in node.args if type(item).__name__ == "Const"]
            if any(isinstance(count, int) and abs(count) > MAX_COUNT for count in counts):
                yield "template.exhausts", f"The template counts to more than {MAX_COUNT}."

    def on_mul(self, node: Any) -> Iterator[tuple[str, str]]:
        ends = [side.value for side in (node.left, node.right) if type(side).__name__ == "Const"]
        if any(isinstance(end, int) and end > MAX_COUNT for end in ends):
            yield "template.exhausts", f"The template multiplies by more than {MAX_COUNT}."

    def on_pow(self, node: Any) -> Iterator[tuple[str, str]]:
        # Templates have nothing to raise to a power but the reader's patience.
        yield "template.exhausts", "The template raises a number to a power."

    def on_include(self, node: Any) -> Iterator[tuple[str, str]]:
        yield "template.loads", "The template loads another one."

    on_import = on_fromimport = on_extends = on_include

    def on_contextreference(self, node: Any) -> Iterator[tuple[str, str]]:
        yield "template.loads", "The template dumps its context."

    def on_extensionattribute(self, node: Any) -> Iterator[tuple[str, str]]:
        yield "template.loads", "The template asks for what its reader knows."

    def name(self, node: Any, verb: str) -> Iterator[tuple[str, str]]:
        """A text that is used as a name."""
        for text in self.some(node):
            if text.is_internal:
                shown = f"the name {_shown(text.head)}" if text.whole else "a name that it computes"
                yield "template.escape", f"The template {verb} {shown}."

    def formatted(self, node: Any) -> Iterator[tuple[str, str]]:
        """`"{0.__class__}".format(x)` reads attributes too."""
        for text in self.some(node):
            if not text.whole or (found := _INSIDE.search(text.head)) is None:
                continue
            yield "template.escape", f"The template formats with {_shown(found.group())}."


def _joins(parts: list[list[_Text]]) -> Iterator[_Text]:
    """Every way to put one text of each part in a row, as far as their ends are known."""
    made = [_Text("", "", True)]
    for options in parts[:256]:
        made = _few(_join(left, right) for left in made for right in options)
    yield from made if len(parts) <= 256 else [_OPEN]


def _few(texts: Iterable[_Text]) -> list[_Text]:
    """The different ones; where there are too many, one that could be anything."""
    found: dict[_Text, None] = {}
    for text in texts:
        found[text] = None
        if len(found) > _MAX_WAYS:
            return [_OPEN]
    return list(found)


def _join(left: _Text, right: _Text) -> _Text:
    if left.whole and right.whole:
        both = (left.head + right.head)[:4096]
        return _Text(both, both, True)
    head = left.head + right.head if left.whole else left.head
    tail = left.tail + right.tail if right.whole else right.tail
    return _Text(head[:4096], tail[-4096:], False)


def _branches(node: Any) -> list[Any]:
    kind = type(node).__name__
    both = [node.expr1, node.expr2] if kind == "CondExpr" else [node.left, node.right]
    return [part for part in both if part is not None]


def _flat(tree: nodes.Node) -> list[Any]:
    """Every node, without recursion: an attacker chooses the depth."""
    found: list[Any] = []
    stack = [tree]
    while stack and len(found) <= _MAX_NODES:
        node = stack.pop()
        found.append(node)
        stack.extend(node.iter_child_nodes())
    return found


def _counted(tree: nodes.Template) -> int:
    """How often the innermost loop runs, where loops over constant ranges lie in one another."""
    most = 0
    stack: list[tuple[Any, int]] = [(tree, 1)]
    while stack:
        node, times = stack.pop()
        most = max(most, times)
        inner: Any = node
        if type(node).__name__ == "For":
            times *= _length(inner.iter)
        stack.extend((child, times) for child in node.iter_child_nodes())
    return most


def _length(node: Any) -> int:
    kind = type(node).__name__
    if kind == "Call" and type(node.node).__name__ == "Name" and node.node.name == "range":
        counts = [item.value for item in node.args if type(item).__name__ == "Const"]
        return max((n for n in counts if type(n) is int and n > 0), default=1)
    if kind == "Mul":
        sides = [side.value for side in (node.left, node.right) if type(side).__name__ == "Const"]
        return max((n for n in sides if type(n) is int and n > 0), default=1)
    return 1


def _shown(name: str) -> str:
    return repr(printable(name, 60))
