"""Configuration: what a value of JSON, YAML, TOML or INI makes its loader import or run.

Promise: every mapping of the value is looked at once. A key that some framework resolves to
code (`_target_`, `class_path`, `auto_map`...) has a finding unless the name it holds is a class
of a framework known to build a part of a model and nothing else. Values without such keys are
data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.templates import template_findings
from keepstone.scan.text.names import DOTTED, Standing, is_framework, standing
from keepstone.scan.text.parsed import MAX_NESTING
from keepstone.scan.text.payload import attack_in, template_reaches
from keepstone.scan.text.source import parse_source
from keepstone.scan.text.words import words
from keepstone.scan.view import View

# These are resolved and called or imported, whatever they hold: Hydra, Lightning, torchtune,
# MLflow, jsonpickle, logging's dictConfig, Ray Serve.
_STRONG = frozenset(
    words(
        """
    _target_ __target__ _component_ _fn_ _factory_ class_path loader_module object_path
    import_path py/object py/type py/function py/module py/class () python_class instance_class
    target_class
    """
    )
)
# Common words: here only what is plainly dangerous, or plainly an import, counts.
_WEAK = frozenset(
    words(
        """
    target type class cls class_name callable function func fn factory handler loader module
    import entry_point entrypoint impl implementation method hook callback constructor object
    name path preprocess postprocess transform collate_fn initializer custom_objects
    python_callable init_fn parser converter command cmd exec run script builder resolver plugin
    op operator backend
    """
    )
)
_WEAK_DANGER = frozenset(
    words(
        """
    os posix nt subprocess builtins __builtin__ pty runpy importlib ctypes sys socket shutil
    code pickle cPickle _pickle dill cloudpickle marshal commands jsonpickle
    """
    )
)
# Free text: what it quotes, nobody runs.
_PROSE = frozenset(
    words(
        """
    text content prompt completion instruction output input response description comment notes
    markdown readme summary title question answer messages body html source code license
    """
    )
)
# RFC 3986 schemes never name a file beside the model, and are data here.
_OUTSIDE = re.compile(r"(?:^|[\\/])\.\.(?:[\\/]|$)|^[\\/]|^[A-Za-z]:[\\/]|^~|^file:", re.IGNORECASE)
# A repeated group that itself repeats: exponential for a reader that backtracks.
_NESTED_REPEAT = re.compile(r"\((?:\?[:=!<][^()]*|[^()?][^()]*)[+*]\)(?:[+*]|\{\d+,\})")
# One character of a pattern: an escape, or a class. Bounded, as every search here must be.
_ATOM = re.compile(r"\\.|\[(?:\\.|[^\]\\]){0,300}\]")
_ALTERNATIVES = re.compile(r"\((\w)\|\1[\w?*+]*\)(?:[+*]|\{\d+,\})")
# No attack is spelled without one of these, and few words of a vocabulary have one.
_SIGNS = re.compile(r"[-(|/$<>{_.:]")
_RESOLVER = re.compile(r"\$\{\s*(?:eval|py|python|exec|shell|cmd)\s*:", re.IGNORECASE)


def config_findings(view: View, value: Any, inside: str | None = None) -> Iterator[Finding]:
    """What the loaders of `value`, the whole content of `view`, would import or run."""
    yield from _Look(view, inside).walk(value)


def loader_names(root: Any) -> Iterator[str]:
    """The names that a value makes its loaders import, as far as one key tells."""
    pending, seen = [root], set[int]()
    if isinstance(root, list) and all(_is_map(item) and "idx" in item for item in root):
        yield from (str(item.get("type")) for item in root)
    while pending:
        value = pending.pop()
        if not isinstance(value, Mapping | list) or id(value) in seen:
            continue
        seen.add(id(value))
        pending += value.values() if isinstance(value, Mapping) else value
        for key, item in value.items() if isinstance(value, Mapping) else ():
            if isinstance(item, str) and (key in _STRONG or key in ("target", "module")):
                yield item.replace(":", ".")


def leads_out(path: str) -> bool:
    """True where a file's name leads out of the folder that it is resolved in."""
    return _OUTSIDE.search(path) is not None


@dataclass(slots=True)
class _Look:
    """One walk over a value. Containers that are reached twice are looked at once."""

    view: View
    inside: str | None
    seen: set[int] = field(default_factory=set)

    def say(self, rule: str, message: str) -> Finding:
        return self.view.finding(rule, message, None, self.inside)

    def walk(self, root: Any) -> Iterator[Finding]:
        # A way to the value is a chain of keys, so that no long text is kept for each.
        pending: list[tuple[Any, str, int]] = [(root, "", 0)]
        if isinstance(root, Mapping):
            yield from self.document(root)
        elif isinstance(root, list):
            yield from self.module_list(root)
        while pending:
            value, key, depth = pending.pop()
            if isinstance(value, str):
                yield from self.text(key, value)
            elif isinstance(value, Mapping | list):
                if id(value) in self.seen:
                    continue
                self.seen.add(id(value))
                if depth > MAX_NESTING:
                    yield self.view.unseen("Values are nested deeper than the limit.", self.inside)
                    continue
                if isinstance(value, Mapping):
                    yield from self.mapping(value)
                    pending += [(item, str(name), depth + 1) for name, item in value.items()]
                else:
                    pending += [(item, key, depth + 1) for item in value if _can_hold(item)]

    def mapping(self, value: Mapping[str, Any]) -> Iterator[Finding]:
        """One mapping: the keys that name code, alone or together with others."""
        for key, item in value.items():
            name = str(key).strip()
            if name in _STRONG and isinstance(item, str):
                yield from self.named(name, item)
            elif name == "target" and isinstance(item, str) and _imports(item):
                # Latent diffusion's and NeMo's way to name a class.
                yield from self.named(name, item)
            elif name in _WEAK and isinstance(item, str):
                plain = item.strip()
                if DOTTED.match(plain) and re.split("[.:]", plain)[0] in _WEAK_DANGER:
                    yield from self.named(name, item)
            elif name in ("py/reduce", "py/repr", "py/newargsex", "py/initargs"):
                yield self.say("config.loader", f"The key {name} makes jsonpickle call something.")
            elif name in ("auto_map", "custom_pipelines") and item:
                yield from self.remote(name, item)
            elif name == "trust_remote_code" and (item is True or item == "true"):
                yield self.say(
                    "config.remote_code", "The configuration asks for trust_remote_code."
                )
            elif name == "weight_map" and isinstance(item, Mapping):
                yield from self.paths(name, item.values())
        yield from self.pairs(value)

    def pairs(self, value: Mapping[str, Any]) -> Iterator[Finding]:
        """Names in two halves: Keras, skops, LangChain."""
        for module, name in (
            ("module", "class_name"),
            ("__module__", "__class__"),
            ("__module__", "__qualname__"),
            ("_module_", "_class_"),
            ("module_name", "class_name"),
            ("module", "function"),
        ):
            match value.get(module), value.get(name):
                case str() as one, str() as two if two:
                    yield from self.named(f"{module} and {name}", f"{one}.{two}" if one else two)
        match value:
            # PEFT imports it by name, whoever's it is.
            case {"parent_library": str() as library} if not is_framework(library):
                yield from self.remote("parent_library", library)
        if value.get("class_name") in ("Lambda", "__lambda__"):
            yield self.say("config.lambda", "A Keras Lambda layer carries code.")
        if value.get("class_name") == "function" and isinstance(value.get("config"), str):
            yield from self.named("config", str(value["config"]))
        match value:
            case {"lc": _, "type": "constructor", "id": list() as parts}:
                yield from self.named("id", ".".join(str(part) for part in parts))
            case {"node": _, "__loader__": "FunctionNode" | "MethodNode" | "PartialNode"}:
                yield self.say("config.unknown_loader", "A skops node names a function.")

    def named(self, key: str, name: str) -> Iterator[Finding]:
        """A name that a loader imports."""
        shown = printable(name)
        if key == "loader_module" and is_framework(name):
            return
        found = standing(name)
        if found is Standing.DANGEROUS:
            yield self.say("config.loader", f"The key {key} makes its loader call {shown}.")
        elif found is Standing.UNKNOWN and not _is_interpolation(name):
            reason = f"The key {key} makes its loader import {shown}, which is not known."
            yield self.say("config.unknown_loader", reason)

    def remote(self, key: str, value: Any) -> Iterator[Finding]:
        names = value.values() if isinstance(value, Mapping) else [value]
        flat = [part for item in names for part in (item if isinstance(item, list) else [item])]
        shown = printable(", ".join(str(part) for part in flat if part), 120)
        yield self.say("config.remote_code", f"The key {key} names code to run: {shown}.")

    def paths(self, key: str, values: Any) -> Iterator[Finding]:
        out = {item for item in values if isinstance(item, str) and leads_out(item)}
        for item in sorted(out)[:10]:
            reason = f"The key {key} names a file outside of the folder: {printable(item)}."
            yield self.say("config.path", reason)

    def text(self, key: str, value: str) -> Iterator[Finding]:
        """One text among the values."""
        if len(value) < 6:
            return
        if key in ("Regex", "pattern", "regex") and is_slow_pattern(value):
            yield self.say("config.bomb", f"A pattern can take for ever: {printable(value, 60)}.")
        if "{{" in value or "{%" in value:
            yield from self.template(key.strip(), value)
        if "${" in value and _RESOLVER.search(value):
            yield self.say("config.attack", f"A value is evaluated: {printable(value, 60)}.")
        attack = attack_in(value) if _SIGNS.search(value) else None
        if attack is not None:
            quoted = key.strip().casefold() in _PROSE or not _stands_alone(value, attack)
            rule = "config.quoted_code" if quoted else "config.attack"
            yield self.say(
                rule, f"A value under {printable(key, 40)} says {printable(attack, 60)}."
            )

    def template(self, key: str, value: str) -> Iterator[Finding]:
        """Jinja: under a key that says so, or where its words leave no other reading."""
        if "template" in key or template_reaches(value):
            for problem in template_findings(value):
                yield self.say(problem.rule, problem.reason)

    # What a whole document is -----------------------------------------------------------------

    def document(self, root: Mapping[str, Any]) -> Iterator[Finding]:
        """Formats that are told by the keys of the root."""
        if "handlers" in root and "version" in root:
            yield from self.logging(root["handlers"])
        if isinstance(root.get("flavors"), Mapping):
            yield from self.mlflow(root["flavors"])
        if "_class_name" in root:
            yield from self.diffusers(root)

    def logging(self, handlers: Any) -> Iterator[Finding]:
        """`logging.config.dictConfig`: a handler is made of whatever class is named."""
        for handler in handlers.values() if isinstance(handlers, Mapping) else ():
            name = handler.get("class") if isinstance(handler, Mapping) else None
            if not isinstance(name, str) or name in _QUIET:
                continue
            if name.startswith("logging."):
                reason = f"A handler of its logging opens a file or a connection: {name[:60]}."
                yield self.say("config.loader", reason)
            else:
                yield from self.named("class", name)

    def mlflow(self, flavors: Mapping[str, Any]) -> Iterator[Finding]:
        for flavor in flavors.values():
            if not isinstance(flavor, Mapping):
                continue
            local = [flavor.get(key) for key in _MLFLOW_PATHS]
            artifacts = flavor.get("artifacts")
            if isinstance(artifacts, Mapping):
                local += [item.get("path") for item in artifacts.values() if _is_map(item)]
            env = flavor.get("env")
            local += list(env.values()) if isinstance(env, Mapping) else [env]
            yield from self.paths("of an MLflow flavor", local)
            if flavor.get("code") or flavor.get("model_code_path"):
                reason = "Loading the MLflow model runs code that lies in its folder."
                yield self.say("config.unknown_loader", reason)

    def diffusers(self, root: Mapping[str, Any]) -> Iterator[Finding]:
        for key, item in root.items():
            match item:
                case [str(), str()] if key == "_class_name":
                    yield from self.remote(key, item)
                case [str() as library, str() as name] if not is_framework(library):
                    reason = f"The part {printable(key)} is {printable(library)}.{printable(name)}."
                    # A library that is no framework is a module of the folder.
                    yield self.say("config.remote_code", f"{reason} Its code comes along.")
                case [str() as library, str() as name]:
                    yield from self.named(key, f"{library}.{name}")

    def module_list(self, root: list[Any]) -> Iterator[Finding]:
        """`modules.json` of sentence-transformers: each names a class and a folder."""
        wanted = {"idx", "path", "type"}
        if not root or not all(_is_map(item) and wanted <= set(item) for item in root):
            return
        for item in root:
            yield from self.named("type", str(item["type"]))
        yield from self.paths("path", [item["path"] for item in root])


# Handlers that write to where the program writes anyway.
_QUIET = ("logging.StreamHandler", "logging.NullHandler", "rich.logging.RichHandler")
_MLFLOW_PATHS = words(
    """
    data pickled_model python_model model_data model_path model_code_path model code
    model_binary python_env conda config saved_model_dir checkpoint_path xgb_model lgb_model
    """
)


def _stands_alone(value: str, attack: str) -> bool:
    """True where a text is code as a whole, not a sentence that quotes some."""
    start = " ".join(value[:200].split())
    return start.startswith(attack[:20]) or parse_source(value) is not None


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _can_hold(item: Any) -> bool:
    """False for the numbers and short words that fill long lists."""
    return isinstance(item, Mapping | list) or (isinstance(item, str) and len(item) > 5)


def _imports(value: str) -> bool:
    plain = value.strip()
    if not DOTTED.match(plain):
        return False
    parts = re.split("[.:]", plain)
    return len(parts) > 2 or parts[-1][:1].isupper() or standing(plain) is Standing.DANGEROUS


def _is_interpolation(name: str) -> bool:
    """`${model.class}` takes another value of the same file, which is judged where it stands."""
    return re.fullmatch(r"\$\{[\w.]+\}", name.strip()) is not None


def is_slow_pattern(pattern: str) -> bool:
    """True where a regular expression repeats what itself repeats."""
    plain = _ATOM.sub("x", pattern[:10_000])
    return bool(_NESTED_REPEAT.search(plain) or _ALTERNATIVES.search(plain))
