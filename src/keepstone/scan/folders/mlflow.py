"""MLflow model folders: what `MLmodel` names is there, and its code replaces nothing.

MLflow checks no artifact; it puts the folder's `code` first on the path and imports whatever
`loader_module` says. The MLmodel file itself, the pickles and the requirements are judged as
files. Source: MLflow's model format, mlflow/pyfunc/__init__.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import Look
from keepstone.scan.folders.python import shadowing
from keepstone.scan.rules import printable
from keepstone.scan.text.config import leads_out
from keepstone.scan.text.words import words

_NAMED = words(
    """
    data python_model pickled_model model_data model_code_path model_binary model_path xgb_model
    """
)

# Files that name a module for the flavour to import, with what honest ones say.
_MODULE_FILES = {
    "pickle_module_info.txt": ("mlflow.pytorch.pickle_module", "pickle", "torch"),
    "keras_module.txt": ("keras", "tensorflow.keras", "tf_keras", "tensorflow.python.keras"),
}


def scan_mlflow(look: Look) -> Iterator[Finding]:
    """Judge every folder with an MLmodel file."""
    for path in look.called("MLmodel"):
        value = look.yaml(path)
        flavors = value.get("flavors") if isinstance(value, Mapping) else None
        for flavor in flavors.values() if isinstance(flavors, Mapping) else ():
            if isinstance(flavor, Mapping):
                yield from _flavor(look, path, flavor)


def _flavor(look: Look, path: str, flavor: Mapping[str, Any]) -> Iterator[Finding]:
    named = [flavor.get(key) for key in _NAMED]
    code = flavor.get("code")
    env = flavor.get("env")
    named += list(env.values()) if isinstance(env, Mapping) else [env]
    for name in sorted({item for item in named if isinstance(item, str) and item}):
        if not leads_out(name) and not look.has(look.beside(path, name)):
            reason = f"MLmodel names {printable(name, 60)}, which is not in the folder."
            yield look.say("folder.missing", reason, path)
    program = flavor.get("model_code_path")
    if isinstance(program, str) and look.beside(path, program) in look.known:
        reason = f"The model is the program {printable(program, 60)}."
        yield look.say("folder.code", reason, look.beside(path, program))
    for name, honest in _MODULE_FILES.items():
        yield from _module_file(look, look.beside(path, f"data/{name}"), honest)
    module = flavor.get("loader_module")
    if isinstance(code, str) and not leads_out(code):
        folder = look.beside(path, code)
        yield from shadowing(look, folder)
        if isinstance(module, str):
            own = f"{folder}/{module.split('.', 1)[0]}"
            if look.has(own) or look.has(f"{own}.py"):
                reason = f"Its loader {printable(module, 60)} is code of the folder."
                yield look.say("folder.code", reason, path)


def _module_file(look: Look, path: str, honest: tuple[str, ...]) -> Iterator[Finding]:
    text = look.text(path)
    if text is not None and text.strip() not in honest:
        reason = f"It makes MLflow import {printable(text.strip(), 60)}."
        yield look.say("config.remote_code", reason, path)
