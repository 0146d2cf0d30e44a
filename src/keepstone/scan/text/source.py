"""Python source: parsed, never compiled or run; only blatant attacks are flagged.

Promise: what is flagged, no library that comes with a model needs. What is not flagged is *not
evaluated*: whether code is good is beyond a scanner. Names are followed through imports,
assignments, `getattr` and constants that are put together, in any order.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.text.fold import fold
from keepstone.scan.text.payload import attack_in
from keepstone.scan.text.shell import is_routine
from keepstone.scan.text.words import words
from keepstone.scan.view import View

# Parsing takes some hundred times the text.
MAX_SOURCE = 2 << 20
_MAX_NODES = 400_000
_MAX_DEPTH = 3

_PROCESS = re.compile(
    r"""
      (?:os|posix|nt)\.(?:system|popen\w*|exec[lv]\w*|spawn\w*|posix_spawn\w*|startfile|fork_exec)
    | subprocess\.(?:run|Popen|call|check_call|check_output|getoutput|getstatusoutput)
    | _posixsubprocess\.fork_exec | pty\.spawn | commands\.\w+ | popen2\.\w+ | platform\.popen
    | asyncio\.(?:subprocess\.)?create_subprocess_(?:exec|shell) | webbrowser\.(?:open\w*|get)
    | pexpect\.(?:spawn|run)\w* | (?:IPython\.)?get_ipython\.(?:system|getoutput)
    | IPython\.get_ipython\.(?:system|getoutput)
    """,
    re.VERBOSE,
)
_NATIVE = re.compile(
    r"ctypes\.(?:\w*DLL|\w*dll(?:\.LoadLibrary|\[\]|\.\w+)?|pythonapi\.\w+|CFUNCTYPE|PyDLL)"
    r"|cffi\.FFI\.dlopen|torch\.(?:ops|classes)\.load_library|\w+\.load_op_library|_ctypes\.dlopen"
    r"|importlib\.machinery\.ExtensionFileLoader|imp\.load_dynamic"
)
_BASES = re.compile(r"__(?:bases?|mro)__")
_CONNECTS = re.compile(r"socket\.(?:create_connection|socket\.connect(?:_ex)?)")
_RUNS = frozenset(
    words(
        """
    eval exec builtins.eval builtins.exec compile builtins.compile __builtins__.eval
    __builtins__.exec marshal.loads pickle.loads cPickle.loads dill.loads cloudpickle.loads
    types.FunctionType types.CodeType runpy.run_path code.InteractiveInterpreter.runcode
    get_ipython.run_cell IPython.get_ipython.run_cell joblib.load torch.load yaml.unsafe_load
    """
    )
)
# What makes a text that nobody can read in the source: decoding, and other machines.
_DECODES = re.compile(
    r"""
      (?:base64|binascii|codecs|zlib|gzip|bz2|lzma|marshal)\.\w*(?:decode\w*|decompress|loads
        |unhexlify|a2b_\w+)
    | bytes\.fromhex | bytearray\.fromhex
    | (?:requests|httpx)\.(?:get|post|request) | urllib\.request\.urlopen | urllib2\.urlopen
    | urllib\.urlopen | socket\.socket\.recv\w* | .*\.recv | http\.client\.\w+
    | (?:Crypto|cryptography|nacl)\.\w.*
    """,
    re.VERBOSE,
)
_MODULES = frozenset(
    words(
        """
    os posix nt subprocess builtins __builtins__ importlib sys pty ctypes
    """
    )
)
_PLACES = re.compile(
    r"\.ssh[/\\]|authorized_keys|/etc/(?:passwd|shadow|cron|sudoers|ld\.so\.preload|profile)"
    r"|\.(?:bashrc|bash_profile|zshrc|pypirc|netrc|aws/credentials|kube/config|docker/config)"
    r"|(?:site|user)customize\.py|CurrentVersion\\+Run"
)
_SENDS = re.compile(
    r"(?:requests|httpx)\.(?:get|post|put|patch|request)|urllib\.request\.(?:urlopen|Request)"
    r"|socket\.socket\.(?:send\w*|connect)|urllib2\.urlopen|socket\.create_connection"
)
_SECRETS = re.compile(
    r"os\.(?:environ|getenv|uname|getlogin)\b|socket\.gethostname|getpass\.getuser|platform\.node"
)
# Words without which a text is not worth parsing as Python.
_WORDS = re.compile(
    r"^[ \t]*(?:import|from|def|class|async|with|for|if|while|try|@)\b|\w\s*\(|\blambda\b", re.M
)


def source_findings(
    view: View, text: str, inside: str | None = None, depth: int = 0
) -> Iterator[Finding]:
    """What is blatant in `text`, which is Python; its words alone where it cannot be parsed."""
    tree = parse_source(text)
    if tree is None:
        if attack := attack_in(text):
            reason = f"The code says {printable(attack, 60)}."
            yield view.finding("code.process", reason, None, inside)
        return
    yield from _Look(view, inside, depth).module(tree)


def parse_source(text: str) -> ast.Module | None:
    """The syntax tree of Python source, or None where it is none. Nothing is run."""
    if len(text) > MAX_SOURCE:
        return None
    try:
        with warnings.catch_warnings():
            # The source's own odd escapes are its own business.
            warnings.simplefilter("ignore")
            return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def resembles_source(text: str) -> bool:
    """True where `text` is Python that would do something, whatever the file is called."""
    if len(text) > MAX_SOURCE:
        return "import " in text or "lambda" in text or "exec(" in text
    if not _WORDS.search(text):
        return False
    tree = parse_source(text)
    if tree is None:
        return False
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Call, ast.Lambda)
    return any(isinstance(node, kinds) for node in ast.walk(tree))


@dataclass(slots=True)
class _Look:
    """One look at a module: what its names stand for, whichever way they were bound."""

    view: View
    inside: str | None
    depth: int
    names: dict[str, str] = field(default_factory=dict)
    decoded: set[str] = field(default_factory=set)
    said: set[tuple[str, str]] = field(default_factory=set)

    def module(self, tree: ast.Module) -> Iterator[Finding]:
        nodes = []
        for node in ast.walk(tree):
            nodes.append(node)
            if len(nodes) > _MAX_NODES:
                yield self.view.unseen("The source is larger than the limit.", self.inside)
                break
        # Twice: a name may be bound by another that is bound further down.
        for _ in range(2):
            for node in nodes:
                self.bind(node)
        functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        called = set()
        for node in nodes:
            if isinstance(node, ast.Call):
                called.add(self.name(node.func) or "")
                yield from self.call(node)
            elif isinstance(node, ast.Attribute | ast.Name) and id(node) not in functions:
                yield from self.reference(node)
            elif isinstance(node, ast.Subscript):
                yield from self.subscript(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from self.constant(node)
        if any(name.startswith("socket.") for name in called) and "os.dup2" in called:
            yield from self.say("code.network_shell", "a connection takes a shell's place", tree)

    def say(self, rule: str, what: str, node: ast.AST) -> Iterator[Finding]:
        if (rule, what) not in self.said and len(self.said) < 100:
            self.said.add((rule, what))
            line = getattr(node, "lineno", None)
            where = f" (line {line})" if line and not self.depth else ""
            yield self.view.finding(rule, f"The code: {what}{where}.", None, self.inside)

    # What names stand for ---------------------------------------------------------------------

    def bind(self, node: ast.AST) -> None:
        match node:
            case ast.Import(names=names):
                for item in names:
                    top = item.name.split(".", 1)[0]
                    self.names[item.asname or top] = item.name if item.asname else top
            case ast.ImportFrom(module=module, names=names):
                for item in names:
                    self.names[item.asname or item.name] = f"{module or '.'}.{item.name}"
            case (
                ast.Assign(targets=[ast.Name(id=target)], value=value)
                | ast.NamedExpr(target=ast.Name(id=target), value=value)
                | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
            ):
                self.assign(target, value)
            case ast.With(items=items):
                for one in items:
                    if isinstance(one.optional_vars, ast.Name):
                        self.assign(one.optional_vars.id, one.context_expr)

    def assign(self, target: str, value: ast.expr) -> None:
        if self.is_decoded(value):
            self.decoded.add(target)
        name = self.name(value)
        if name is not None and name != target and len(name) < 200:
            self.names[target] = name

    def name(self, node: ast.AST | None, depth: int = 0) -> str | None:
        """The dotted name that an expression stands for, followed as far as it plainly goes."""
        if depth > 40:
            return None
        match node:
            case ast.Name(id=name):
                return self.names.get(name, name)
            case ast.Attribute(value=value, attr=attr):
                base = self.name(value, depth + 1)
                return None if base is None else f"{base}.{attr}"
            case ast.Subscript(value=value, slice=key):
                base, text = self.name(value, depth + 1), fold(key)
                if base is not None and isinstance(text, str):
                    # sys.modules["os"], globals()["eval"], vars(os)["system"], os.__dict__["x"].
                    if base in ("sys.modules", "globals", "locals", "vars"):
                        return text
                    base = base.removesuffix(".__dict__").removesuffix(".__globals__")
                    return f"{base}.{text}"
            case ast.Call(func=function, args=args):
                return self.result(self.name(function, depth + 1), args, depth)
        return None

    def result(self, name: str | None, args: list[ast.expr], depth: int) -> str | None:
        """What a call gives back, as a name: a module, an attribute, an object of a class."""
        if name in _IMPORTS and args:
            text = fold(args[0])
            return text if isinstance(text, str) else None
        if name in ("getattr", "builtins.getattr") and len(args) > 1:
            base, text = self.name(args[0], depth + 1), fold(args[1])
            return f"{base}.{text}" if base and isinstance(text, str) else None
        if name in ("vars", "globals", "locals"):
            return self.name(args[0], depth + 1) if args else name
        return name

    def is_decoded(self, node: ast.AST | None) -> bool:
        """True where a value comes out of decoding or from another machine."""
        for part in islice(ast.walk(node), 2000) if node is not None else ():
            if isinstance(part, ast.Name) and part.id in self.decoded:
                return True
            if isinstance(part, ast.Call):
                name = self.name(part.func)
                if name is not None and _DECODES.fullmatch(name):
                    return True
                text = fold(part)
                if isinstance(text, str | bytes) and len(text) > 8 and not _is_plain(part):
                    return True
        return False

    # What is blatant --------------------------------------------------------------------------

    def call(self, node: ast.Call) -> Iterator[Finding]:
        name = self.name(node.func)
        first = node.args[0] if node.args else None
        match node.func:
            # From a base of a base down again: the way from any object to every class.
            case ast.Attribute(attr="__subclasses__") as way if _BASES.search(ast.unparse(way)):
                yield from self.say("code.hidden_name", "it searches all classes", node)
        if name is None:
            yield from self.computed(node.func)
            return
        name = name.removeprefix("builtins.").removeprefix("__builtins__.")
        if _PROCESS.fullmatch(name):
            if not is_routine(_command(first)):
                hidden = self.is_spelled(node.func, name)
                yield from self.say(
                    "code.process" if hidden else "code.hidden_name", f"it calls {name}", node
                )
        elif _CONNECTS.fullmatch(name):
            yield from self.say("code.connection", f"it calls {name}", node)
        elif _NATIVE.fullmatch(name):
            yield from self.say("code.native", f"it calls {name}", node)
        elif name in _RUNS:
            yield from self.runs(name, node)
        elif name in _IMPORTS and first is not None and not isinstance(first, ast.Constant):
            if isinstance(fold(first), str) or self.is_decoded(first):
                yield from self.say("code.hidden_name", "it imports a name put together", node)
        elif name == "getattr" and len(node.args) > 1:
            yield from self.attribute(node)
        elif _SENDS.fullmatch(name) and self.holds_secret(node):
            yield from self.say("code.reach", f"it hands its surroundings to {name}", node)

    def computed(self, function: ast.expr) -> Iterator[Finding]:
        """The function is itself the result of something that is not plainly a name."""
        if isinstance(function, ast.Call) and self.name(function.func) == "getattr":
            yield from self.attribute(function)

    def attribute(self, node: ast.Call) -> Iterator[Finding]:
        base = self.name(node.args[0])
        if base in _MODULES and not isinstance(node.args[1], ast.Constant):
            yield from self.say("code.hidden_name", f"it looks up a computed name in {base}", node)

    def runs(self, name: str, node: ast.Call) -> Iterator[Finding]:
        """Something that runs a text or bytes."""
        first = node.args[0] if node.args else None
        text = fold(first)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        stored = name.endswith("loads") and isinstance(text, str)
        if self.is_decoded(first) or stored:
            yield from self.say("code.decoded", f"it hands {name} what it decoded or fetched", node)
        runs = name.endswith(("eval", "exec", "compile", "run_cell"))
        if name in ("exec", "eval") and (name == "exec" or _calls(text)):
            yield from self.say("code.dynamic", f"it hands {name} a text", node)
        if isinstance(text, str) and runs:
            if self.depth < _MAX_DEPTH:
                yield from source_findings(self.view, text, self.inside, self.depth + 1)
            else:
                yield from self.say("code.decoded", "its code lies in code in code", node)

    def reference(self, node: ast.Attribute | ast.Name) -> Iterator[Finding]:
        """A function that starts processes, handed on: `map(os.system, ...)`, `__reduce__`."""
        if isinstance(node.ctx, ast.Load):
            name = self.name(node)
            # An alias that is called is judged where it is called.
            whole = isinstance(node, ast.Attribute) or (name or "").split(".")[-1] == node.id
            if whole and name is not None and "." in name and _PROCESS.fullmatch(name):
                yield from self.say("code.process", f"it hands on {name}", node)

    def subscript(self, node: ast.Subscript) -> Iterator[Finding]:
        match node.value:
            case ast.Attribute(attr="__globals__" | "__builtins__"):
                yield from self.say("code.hidden_name", "it reaches into another's globals", node)

    def constant(self, node: ast.Constant) -> Iterator[Finding]:
        text = node.value if isinstance(node.value, str) else ""
        if len(text) < 500 and (match := _PLACES.search(text)):
            yield from self.say("code.reach", f"it names {printable(match.group(), 40)}", node)

    def holds_secret(self, node: ast.Call) -> bool:
        parts = [*node.args, *(item.value for item in node.keywords)]
        found = (self.name(part) for arg in parts for part in ast.walk(arg))
        return any(name is not None and _SECRETS.match(name) for name in found)

    def is_spelled(self, node: ast.AST, name: str) -> bool:
        """True where the last word of a name stands in the source as it is."""
        last = name.rsplit(".", 1)[-1]
        match node:
            case ast.Attribute(attr=attr):
                return attr == last
            case ast.Name():
                return True
        return False


_IMPORTS = frozenset(
    ("__import__", "builtins.__import__", "importlib.import_module", "importlib.__import__")
)


def _calls(text: object) -> bool:
    """True where a text is an expression that calls something."""
    tree = parse_source(text) if isinstance(text, str) else None
    return tree is not None and any(isinstance(node, ast.Call) for node in ast.walk(tree))


def _is_plain(node: ast.Call) -> bool:
    """Calls that fold to a text nobody meant to hide: `"a".join([...])` with plain words."""
    match node.func:
        case ast.Attribute(attr="join" | "encode" | "replace") | ast.Name(id="str"):
            return "chr" not in ast.unparse(node)
    return False


def _command(node: ast.expr | None) -> str | None:
    """The command line that a call starts, where it is plainly one."""
    if isinstance(node, ast.List | ast.Tuple):
        words = [fold(item) for item in node.elts]
        if words and all(isinstance(word, str) for word in words):
            return " ".join(str(word) for word in words)
        # `[sys.executable, "-m", "pip", "install", name]`
        if "pip" in words[1:3] and words[-1:] != [None]:
            return " ".join(["python", *(str(word) for word in words[1:] if word is not None)])
        return None
    text = fold(node)
    return text if isinstance(text, str) else None
