"""Keep the rings: imports point inward, siblings are blind to each other, nothing goes in circles.

`python -m tools.rings [PACKAGE_FOLDER]` reads every file's imports from its syntax tree (nothing is
run, and an import inside a function counts like any other) and prints what breaks a rule:

    undeclared  a room that is not on the list of rings below
    outward     an import of an outer ring
    sibling     an import of another room of the same ring
    lab         the lab imported from a ring inside the workspace
    heavy       a heavy library imported outside the folders that own it
    core        core or errors importing more than the standard library
    dynamic     core or errors importing, or evaluating, what the tree cannot show
    cycle       modules that import each other in a circle
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Innermost first. Rooms of one ring never import each other. `__init__` is the public face,
# `__main__` the command line.
RINGS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("core",),
    ("files",),
    ("contract",),
    ("identity",),
    ("ledger",),
    ("evidence",),
    ("policy",),
    ("vault",),
    ("trust",),
    ("scan", "data", "pipeline", "lab", "monitor"),
    ("gateway", "governance", "deploy"),
    ("workspace",),
    ("console", "integrations", "__init__"),
    ("cli",),
    ("__main__",),
)
RING_OF = {room: index for index, rooms in enumerate(RINGS) for room in rooms}

# Nothing inside the workspace may lean on the attacks.
LAB, LAB_FROM = "lab", "workspace"

# Libraries too heavy or too rare to be imported anywhere but in the files that adapt them.
HEAVY: Mapping[str, tuple[str, ...]] = {
    "torch": ("vault/load", "lab/targets", "lab/attacks", "lab/adapters", "lab/defences"),
    "art": ("lab/adapters",),
    "foolbox": ("lab/adapters",),
    "eagerpy": ("lab/adapters",),
    "cleverhans": ("lab/adapters",),
    "opacus": ("lab/defences",),
    "dp_accounting": ("lab/defences",),
    "shap": ("monitor",),
    "mlflow": ("integrations",),
    "requests": ("integrations",),
    "kfp": ("integrations",),
    "ray": ("lab/suites", "integrations"),
    "sklearn": ("vault/load", "lab"),
    "safetensors": ("lab",),
    # What a defence trained is written as the vault opens it.
    "skops": ("vault/load", "lab/defences"),
    "xgboost": ("vault/load", "lab"),
    "lightgbm": ("vault/load", "lab"),
    "onnx": (),
    "pkcs11": ("identity/keystores", "vault/keks"),
    "pyarrow": ("lab",),
    "boto3": ("identity/keystores", "vault/keks", "vault/stores"),
    "botocore": ("identity/keystores", "vault/keks", "vault/stores"),
    "sigstore": ("evidence",),
    "httpx": ("vault/stores/oci", "scan/vulndb", "workspace/registry"),
    "cvss": ("scan/packages",),
    "packaging": ("scan/packages",),
}

# These rings hold the words every other one trusts: the standard library, nothing else.
PURE = ("errors", "core")
# A constant that any ring may name: importing a room runs the package's face anyway.
CONSTANTS = frozenset({"__version__"})
_DYNAMIC_CALLS = frozenset({"__import__", "eval", "exec", "compile"})


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module. `typing_only` where only a type checker follows it."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    path: str
    room: str
    tree: ast.Module
    is_package: bool


def _room(name: str, package: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == package else "__init__"


def load(folder: Path) -> dict[str, Module]:
    """Parse every Python file under `folder`, keyed by its dotted name."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        parts = [folder.name, *relative.with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        shown = f"{folder.name}/{relative.as_posix()}"
        tree = ast.parse(path.read_text(encoding="utf-8"), shown)
        modules[name] = Module(name, shown, _room(name, folder.name), tree, is_package)
    return modules


def _guards_typing(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    named = test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")
    return named == "TYPE_CHECKING"


def _statements(node: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, typing_only
        if isinstance(child, ast.If) and _guards_typing(child):
            for statement in child.body:
                yield statement, True
                yield from _statements(statement, True)
            for statement in child.orelse:
                yield statement, typing_only
                yield from _statements(statement, typing_only)
        else:
            yield from _statements(child, typing_only)


def imports(module: Module, known: Mapping[str, Module]) -> Iterator[Import]:
    """Yield what `module` imports; `from a import b` is `a.b` where that is a file."""
    for node, typing_only in _statements(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in known:
                    yield Import(full, node.lineno, typing_only)
                elif alias.name not in CONSTANTS:
                    yield Import(base, node.lineno, typing_only)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    # Inside a package's __init__ one dot is the package itself.
    keep = len(parts) - node.level + (1 if module.is_package else 0)
    return ".".join([*parts[: max(keep, 0)], *([node.module] if node.module else [])])


def _check_import(module: Module, found: Import, package: str) -> Iterator[Violation]:
    def violation(rule: str, message: str) -> Violation:
        return Violation(module.path, found.line, rule, message)

    top = found.target.split(".")[0]
    if top != package:
        owners = HEAVY.get(top)
        inside = module.path.removeprefix(f"{package}/")
        if owners is not None and not inside.startswith(tuple(f"{owner}/" for owner in owners)):
            allowed = ", ".join(owners) or "nowhere"
            yield violation("heavy", f"{top} may be imported in: {allowed}")
        if module.room in PURE and top not in sys.stdlib_module_names:
            yield violation("core", f"{module.room} may not import {top}")
        return
    room = _room(found.target, package)
    if room == module.room or room not in RING_OF or module.room not in RING_OF:
        return
    here, there = RING_OF[module.room], RING_OF[room]
    if there > here:
        yield violation("outward", f"{module.room} may not import {room}, an outer ring")
    elif there == here:
        yield violation("sibling", f"{module.room} and {room} share a ring and stay apart")
    if room == LAB and here < RING_OF[LAB_FROM]:
        yield violation("lab", f"only {LAB_FROM} and outward may import {LAB}")


def _check_dynamic(module: Module) -> Iterator[Violation]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in _DYNAMIC_CALLS:
                yield Violation(module.path, node.lineno, "dynamic", f"calls {node.func.id}()")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            if any(name.split(".")[0] in ("importlib", "runpy", "pkgutil") for name in names):
                yield Violation(module.path, node.lineno, "dynamic", "imports the import machinery")


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected groups of two or more modules (Tarjan 1972), sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            cut = stack.index(name)
            group = stack[cut:]
            del stack[cut:]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return sorted(groups)


def check(folder: Path) -> list[Violation]:
    """Return everything under the package `folder` that breaks a rule, sorted."""
    package = folder.name
    modules = load(folder)
    violations: list[Violation] = []
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        if module.room not in RING_OF:
            violations.append(
                Violation(module.path, 1, "undeclared", f"{module.room} is on no ring")
            )
        for found in imports(module, modules):
            violations += _check_import(module, found, package)
            if found.target in modules and found.target != module.name and not found.typing_only:
                graph[module.name].add(found.target)
        if module.room in PURE:
            violations += _check_dynamic(module)
    for group in find_cycles(graph):
        first = modules[group[0]]
        violations.append(Violation(first.path, 1, "cycle", " <-> ".join(group)))
    return sorted(set(violations))


def main(arguments: list[str]) -> int:
    default = Path(__file__).parent.parent / "src" / "keepstone"
    violations = check(Path(arguments[0]) if arguments else default)
    for violation in violations:
        print(violation, file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
