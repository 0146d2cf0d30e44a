"""TorchServe archives (`.mar`) and their folders: the handler is code that will run.

The archive is put on the path as it is, so that each of its modules can replace another.
Source: pytorch/serve, model-archiver/README.md and ts/model_loader.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from posixpath import dirname
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import Look
from keepstone.scan.folders.python import shadowing
from keepstone.scan.rules import printable
from keepstone.scan.text.config import leads_out
from keepstone.scan.text.words import words

_BUILT_IN = frozenset(
    words(
        """
    image_classifier image_segmenter object_detector text_classifier base_handler vision_handler
    text_handler micro_batching
    """
    )
)
_NAMED = words(
    """
    handler modelFile serializedFile requirementsFile configFile sourceVocab
    """
)


def scan_torchserve(look: Look) -> Iterator[Finding]:
    """Judge every archive with a TorchServe manifest."""
    for path in look.called("MANIFEST.json"):
        if dirname(path).rsplit("/", 1)[-1] == "MAR-INF":
            yield from _manifest(look, path)


def _manifest(look: Look, path: str) -> Iterator[Finding]:
    root = dirname(dirname(path)) or "."
    value = look.json(path)
    model = value.get("model") if isinstance(value, Mapping) else None
    if not isinstance(model, Mapping):
        yield look.say("folder.missing", "The manifest names no model.", path)
        return
    yield from shadowing(look, root)
    for key in _NAMED:
        name = model.get(key)
        if not isinstance(name, str) or not name:
            continue
        shown = printable(name, 60)
        if leads_out(name):
            reason = f"The manifest's {key} lies outside of the archive: {shown}."
            yield look.say("config.path", reason, path)
        elif key == "handler":
            yield from _handler(look, path, root, name)
        elif key == "modelFile" and _at(root, name) in look.known:
            reason = f"The model's file {shown} is code of the archive."
            yield look.say("folder.code", reason, _at(root, name))
        elif not look.has(_at(root, name)):
            reason = f"The manifest's {key} is not in the archive: {shown}."
            yield look.say("folder.missing", reason, path)


def _handler(look: Look, path: str, root: str, name: Any) -> Iterator[Finding]:
    # `module:function`, `module.py`, or the name of a handler that TorchServe brings.
    module = name.split(":", 1)[0]
    file = module if module.endswith(".py") else f"{module}.py"
    if _at(root, file) in look.known:
        reason = f"The handler {printable(name, 60)} is code of the archive."
        yield look.say("folder.code", reason, _at(root, file))
    elif module not in _BUILT_IN:
        reason = f"The handler {printable(name, 60)} is not in the archive."
        yield look.say("folder.missing", reason, path)


def _at(root: str, name: str) -> str:
    return name if root in ("", ".") else f"{root}/{name}"
