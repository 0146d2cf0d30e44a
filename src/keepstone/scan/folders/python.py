"""Python by its place: files that run, or replace others, once the folder is on the path."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import basename, dirname

from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import Look
from keepstone.scan.rules import printable
from keepstone.scan.text.config import loader_names
from keepstone.scan.text.names import shadows
from keepstone.scan.text.words import words

# Python's `site` imports these by itself.
_AT_START = frozenset(("sitecustomize.py", "usercustomize.py"))
# What Python runs when it is given the folder or the archive.
_MAIN = "__main__.py"
# Nobody calls a file of their own so, unless it is meant to be taken for the other.
_TAKEN = frozenset(
    f"{name}.py"
    for name in words(
        """
    torch numpy transformers tensorflow keras sklearn pandas scipy safetensors onnx onnxruntime
    mlflow joblib pickle os sys json struct zipfile io
    """
    )
)


def scan_python(look: Look) -> Iterator[Finding]:
    """Names that mean something to Python itself."""
    yield from own_code(look)
    for path in look.known:
        name = basename(path)
        if name in _AT_START:
            yield look.say("folder.runs_at_start", f"Python runs {name} as it starts.", path)
        elif path == _MAIN:
            yield look.say("folder.runs_at_start", "Python runs the archive as a program.", path)
        elif name in _TAKEN and not is_package(look, dirname(path)):
            yield look.say("folder.shadow", f"It takes the place of {name[:-3]}.", path)


def own_code(look: Look) -> Iterator[Finding]:
    """Configurations that name a module which lies beside them."""
    for path in look.known:
        if not path.endswith((".json", ".yaml", ".yml")):
            continue
        around = {top(one) for one in look.under(dirname(path)) if one.endswith(".py")}
        if not around:
            continue
        value = look.json(path) if path.endswith(".json") else look.yaml(path)
        for name in sorted({name for name in loader_names(value) if top(name) in around}):
            yield look.say("folder.code", f"It loads {printable(name, 60)}, which is here.", path)


def top(name: str) -> str:
    """The module that a dotted name, or a path of a module, begins with."""
    return name.replace("/", ".").split(".", 1)[0]


def shadowing(look: Look, folder: str) -> Iterator[Finding]:
    """Modules in `folder`, which a loader puts first on its path, that take a known one's place."""
    seen = set()
    for path in look.under(folder):
        top, _, rest = path.partition("/")
        module = top.removesuffix(".py") if not rest else top
        code = path.endswith((".py", ".so", ".pyc", ".pyd"))
        if code and shadows(module.split(".", 1)[0]) and module not in seen:
            seen.add(module)
            whole = path if folder in ("", ".") else f"{folder}/{path}"
            yield look.say("folder.shadow", f"It takes the place of {module}.", whole)


def is_package(look: Look, folder: str) -> bool:
    """True where modules of the folder are reached through its name, and shadow nothing."""
    return bool(folder) and f"{folder}/__init__.py" in look.known
