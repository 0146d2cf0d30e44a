"""Write docs/errors.md: every error code the source can raise, with family, exit and cause.

The codes are read off the syntax tree, never off a run: a code that a test happens not to reach
is listed too. `--check` compares instead of writing. A code that cannot be told from the source
(neither a literal, nor a constant, nor handed in by callers that name one) is refused here.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keepstone import errors
from keepstone.gateway.problem import PROBLEMS, Problem

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "errors.md"
FAMILIES: Mapping[str, type[errors.KeepstoneError]] = {
    cls.__name__: cls
    for cls in (
        errors.InputError,
        errors.VerificationError,
        errors.DeniedError,
        errors.OperationalError,
    )
}
_CODE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+\Z")
_MOST_CAUSES = 3

_HEAD = """\
# Errors

Every failure has a code that never changes once released, one sentence of cause and a next step.
The exit status belongs to the family and never depends on the output format:

| family | meaning | exit |
| --- | --- | --- |
| input | what the caller gave cannot be used | 2 |
| verification | a proof, digest or signature does not hold | 1 |
| denied | the policy, a revocation or a limit said no | 1 |
| operational | we could not decide: disk, lock, clock, missing runtime | 3 |

Where one command ends in both, 1 wins over 3. Never read a 3 as a yes.

## Codes

This table is made from the source by `make generate`; words in *italics* are filled in.

"""

_HTTP = """
## Answers over HTTP

The gateway answers a refusal as RFC 9457 problem JSON. Its `code` is one of these, or a
`request.*` code from above that the content ran into, with status 400.
An answer never holds what an exception said, a path or an address.

"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Raised:
    """One place that makes an error."""

    code: str
    family: type[errors.KeepstoneError]
    causes: tuple[str, ...]
    room: str


@dataclass(slots=True)
class Scope:
    """Where an expression stands: its file, the functions and the classes around it.

    `given` holds what one particular caller handed in, where one is followed.
    """

    file: File
    functions: tuple[Function, ...] = ()
    classes: tuple[ast.ClassDef, ...] = ()
    given: dict[str, tuple[ast.expr, Scope]] = field(default_factory=dict)


@dataclass(slots=True)
class File:
    name: str
    shown: str
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)


class Source:
    """Every file of the package, and who calls what."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, File] = {}
        self.calls: dict[str, list[tuple[ast.Call, Scope]]] = defaultdict(list)
        # What each function assigns to its names, its inner functions' too; keyed by identity.
        self.assigned: dict[int, list[tuple[str, ast.expr]]] = defaultdict(list)
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder.parent)
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            file = File(name, relative.as_posix(), ast.parse(path.read_text(encoding="utf-8")))
            self.files[name] = file
            self._index(file)
        for calls in self.calls.values():
            calls.sort(key=lambda found: (found[1].file.shown, found[0].lineno))

    def _index(self, file: File) -> None:
        for node in file.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                file.constants[node.targets[0].id] = node.value
            elif (
                isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
            ):
                file.constants[node.target.id] = node.value
        for inner, scope in _walk(file.tree, Scope(file)):
            if isinstance(inner, ast.Call):
                self.calls[_called(inner)].append((inner, scope))
            elif isinstance(inner, ast.ImportFrom) and inner.module:
                for alias in inner.names:
                    file.imported[alias.asname or alias.name] = (inner.module, alias.name)
            elif isinstance(inner, ast.Assign) and scope.functions:
                for function in scope.functions:
                    self.assigned[id(function)].extend(_pairs(inner))

    def codes(self, node: ast.AST | None, scope: Scope) -> list[str]:
        """Return every error code that `node` may be; a computed one in all its values."""
        found = self.texts(node, scope)
        if isinstance(node, ast.JoinedStr):
            found = [""]
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                values = self.texts(inner, scope)
                found = [head + tail for head in found for tail in values]
        return [text for text in dict.fromkeys(found) if _CODE.match(text)]

    def texts(self, node: ast.AST | None, scope: Scope, depth: int = 0) -> list[str]:
        """Return every string that `node` may be, as far as the tree tells."""
        if node is None or depth > 6:
            return []
        match node:
            case ast.Constant(value=str() as text):
                return [text]
            case ast.JoinedStr():
                return ["".join(_template(part) for part in node.values)]
            case ast.IfExp():
                return self.texts(node.body, scope, depth) + self.texts(node.orelse, scope, depth)
            case ast.Name():
                return self._named(node.id, scope, depth + 1)
            case ast.Attribute(value=ast.Name(id="self")) if scope.classes:
                return self._attribute(node.attr, scope, depth + 1)
            case ast.Subscript(value=value):
                return self.texts(value, scope, depth + 1)
            case ast.Dict():
                return [t for value in node.values for t in self.texts(value, scope, depth + 1)]
            case ast.Tuple() | ast.List():
                return [t for value in node.elts for t in self.texts(value, scope, depth + 1)]
            case ast.Call(func=ast.Attribute(attr="get", value=value), args=[_, *rest]):
                found = self.texts(value, scope, depth + 1)
                return found + [t for a in rest for t in self.texts(a, scope, depth + 1)]
            case ast.BinOp(op=ast.Add()):
                left, right = (self.texts(n, scope, depth + 1) for n in (node.left, node.right))
                return [a + b for a in left for b in right]
        return []

    def _named(self, name: str, scope: Scope, depth: int) -> list[str]:
        if name in scope.given:
            return self.texts(*scope.given[name], depth)
        for function in reversed(scope.functions):
            local = [
                text
                for target, value in self.assigned[id(function)]
                if target == name
                for text in self.texts(value, scope, depth)
            ]
            if local:
                return local
            if name in _parameters(function):
                return self._handed_in(function, name, scope, depth)
        if name in scope.file.constants:
            return self.texts(scope.file.constants[name], Scope(scope.file), depth)
        module, original = scope.file.imported.get(name, ("", ""))
        if module in self.files and original in self.files[module].constants:
            home = self.files[module]
            return self.texts(home.constants[original], Scope(home), depth)
        return []

    def callers(self, function: Function, scope: Scope) -> Iterator[tuple[ast.Call, Scope]]:
        called = function.name
        if called == "__init__" and scope.classes:
            called = scope.classes[-1].name
        for call, caller in self.calls[called]:
            if _may_call(caller.file, scope.file, called):
                yield call, caller

    def _handed_in(self, function: Function, name: str, scope: Scope, depth: int) -> list[str]:
        """What callers pass for the parameter `name`, and its default."""
        found = self.texts(_default(function, name), scope, depth)
        for call, caller in self.callers(function, scope):
            found += self.texts(_argument(function, name, call), caller, depth)
        return list(dict.fromkeys(found))

    def settings(self, code: ast.expr | None, scope: Scope) -> list[Scope]:
        """One scope for each caller, where the code hangs on what the caller hands in."""
        if not scope.functions or code is None:
            return [scope]
        function = scope.functions[-1]
        named = {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
        if not named & set(_parameters(function)):
            return [scope]
        settings = []
        for call, caller in self.callers(function, scope):
            given = {
                name: (argument, caller)
                for name in _parameters(function)
                if (argument := _argument(function, name, call)) is not None
            }
            settings.append(Scope(scope.file, scope.functions, scope.classes, given))
        return settings or [scope]

    def _attribute(self, attribute: str, scope: Scope, depth: int) -> list[str]:
        for node in scope.classes[-1].body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                inner = Scope(scope.file, (node,), scope.classes)
                for statement in ast.walk(node):
                    if isinstance(statement, ast.Assign):
                        target = statement.targets[0]
                        if isinstance(target, ast.Attribute) and target.attr == attribute:
                            return self.texts(statement.value, inner, depth)
        return []


# Nothing that could raise an error lies below these, and they are most of a tree.
_LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator, ast.cmpop, ast.boolop)


def _walk(tree: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    waiting = [(tree, scope)]
    while waiting:
        node, around = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _LEAVES):
                continue
            inner = around
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = Scope(around.file, (*around.functions, child), around.classes)
            elif isinstance(child, ast.ClassDef):
                inner = Scope(around.file, around.functions, (*around.classes, child))
            yield child, inner
            waiting.append((child, inner))


def _may_call(caller: File, home: File, name: str) -> bool:
    """Whether a call of `name` in `caller` can mean the one in `home`: names are no addresses."""
    if caller is home:
        return True
    return not name.startswith("_") and any(m == home.name for m, _ in caller.imported.values())


def _called(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _default(function: Function, name: str) -> ast.expr | None:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    start = len(positional) - len(arguments.defaults)
    for index, argument in enumerate(positional):
        if argument.arg == name and index >= start:
            return arguments.defaults[index - start]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg == name:
            return default
    return None


def _argument(function: Function, name: str, call: ast.Call) -> ast.expr | None:
    """What `call` passes for the parameter `name`."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    parameters = _parameters(function)
    place = parameters.index(name) - (parameters[:1] in (["self"], ["cls"]))
    return call.args[place] if 0 <= place < len(call.args) else None


def _pairs(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Name):
            yield target.id, node.value
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for part, value in zip(target.elts, node.value.elts, strict=False):
                if isinstance(part, ast.Name):
                    yield part.id, value


def _template(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value: ast.AST = part.value
    while isinstance(value, (ast.Subscript, ast.Call)):
        value = value.value if isinstance(value, ast.Subscript) else value.func
    word = getattr(value, "attr", None) or getattr(value, "id", None) or "value"
    return "{" + word.strip("_").replace("_", " ") + "}"


def collect(folder: Path) -> tuple[list[Raised], list[str]]:
    """Return every error the package makes, and the places whose code cannot be told."""
    source = Source(folder)
    raised: list[Raised] = []
    unclear: list[str] = []
    for name, family in FAMILIES.items():
        for call, scope in source.calls[name]:
            arguments = {k.arg: k.value for k in call.keywords}
            code = call.args[0] if call.args else arguments.get("code")
            cause = call.args[1] if len(call.args) > 1 else arguments.get("cause")
            room = scope.file.name.split(".")[1] if "." in scope.file.name else "keepstone"
            found = [
                Raised(text, family, tuple(source.texts(cause, setting)), room)
                for setting in source.settings(code, scope)
                for text in source.codes(code, setting)
            ]
            if not found:
                unclear.append(f"{scope.file.shown}:{call.lineno}: the code cannot be told")
            raised += found
    return raised, unclear


def _shown(text: str) -> str:
    plain = text.replace("|", "\\|").replace("*", "\\*").replace("<", "\\<")
    return re.sub(r"\{([^}]*)\}", r"*\1*", plain)


def render(raised: list[Raised]) -> str:
    """Return the page."""
    by_code: dict[tuple[str, str], list[Raised]] = defaultdict(list)
    for one in raised:
        by_code[one.code, one.family.family].append(one)
    lines = ["| code | family | exit | cause | from |", "| --- | --- | --- | --- | --- |"]
    for (code, family), places in sorted(by_code.items()):
        causes = list(dict.fromkeys(cause for place in places for cause in place.causes))
        shown = " ".join(_shown(cause) for cause in causes[:_MOST_CAUSES])
        if len(causes) > _MOST_CAUSES:
            shown += f" (and {len(causes) - _MOST_CAUSES} more)"
        rooms = ", ".join(sorted({place.room for place in places}))
        status = int(places[0].family.exit_code)
        lines.append(f"| `{code}` | {family} | {status} | {shown} | {rooms} |")
    return _HEAD + "\n".join(lines) + "\n"


def render_answers(problems: Iterable[Problem]) -> str:
    """Return the section on what the gateway answers."""
    lines = ["| code | status | title |", "| --- | --- | --- |"]
    for problem in sorted(problems, key=lambda one: (one.status, one.code)):
        title = json.loads(problem.body)["title"]
        lines.append(f"| `{problem.code}` | {problem.status} | {title} |")
    return _HTTP + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    raised, unclear = collect(ROOT / "src" / "keepstone")
    for line in unclear:
        print(line, file=sys.stderr)
    page = render(raised) + render_answers(PROBLEMS.values())
    if "--check" not in arguments:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print("docs/errors.md is not what the source raises: run `make generate`", file=sys.stderr)
        return 1
    return 1 if unclear else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
