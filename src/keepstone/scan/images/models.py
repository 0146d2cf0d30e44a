"""Which files of an image are models, and the scanner's verdict on them.

A system's own files are no models: its programs, scripts and texts are not judged as if a loader of
models read them. Judged is what has the format of a model, or the name of one; and an archive or a
compressed file for what models in it do.
"""

from __future__ import annotations

from keepstone.core.finding import Finding, Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive.compressed import KINDS, first_of
from keepstone.scan.formats import identify
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.pickle.opcodes import Cause, is_importing_pickle, look_as_pickle
from keepstone.scan.rules import RULES
from keepstone.scan.scanner import judge
from keepstone.scan.tensorflow.saved_model import TENSORFLOW
from keepstone.scan.view import View

MODELS = frozenset(
    {
        *("catboost", "gguf", "hdf5", "keras", "lightgbm", "npz", "numpy", "onnx", "ort"),
        *("pickle", "pt2", "safetensors", "skops", "tflite", "torch", "xgboost"),
        *("xgboost-binary", "zfile", *TENSORFLOW),
    }
)
_ARCHIVES = frozenset({"zip", "tar", "7z"})
# Endings that nothing but a model has. Others (`.pt`, `.bin`, `.pth`) are told by their content.
_NAMES = (
    *(".ckpt", ".dill", ".gguf", ".joblib", ".keras", ".onnx", ".pickle", ".pkl"),
    *(".safetensors", ".skops", ".tflite"),
)
# What the rules say of models; not what they say of texts, code and archives around them.
_FAMILIES = frozenset(
    {
        *("gguf", "hdf5", "keras", "numpy", "onnx", "pickle", "pmml", "safetensors", "skops"),
        *("tf", "tflite", "torch", "trees"),
    }
)
# The rules of pickles that import something.
_IMPORTS = frozenset(
    f"pickle.{one}"
    for one in ("call", "computed_import", "dangerous_import", "extension", "import")
)
# What is looked at to tell what a file is.
_PEEK, _OPCODES = 1 << 20, 100_000
# Pickles of the protocols 2 to 5 begin so; older ones as many a text does.
_MARKED = 0x80


def may_be_model(name: str, data: memoryview) -> bool:
    """True where a file, of which `data` is the beginning or all, is to be judged."""
    return name.casefold().endswith(_NAMES) or _role(data) != ""


def is_archive(data: memoryview) -> bool:
    """True where a file holds others, packed or not."""
    return _role(data) == "archive"


def judge_model(
    path: str, name: str, data: memoryview, allowed: tuple[Added, ...] = ()
) -> list[Finding]:
    """The scanner's findings on a file called `name`, reported under `path`. Never raises."""
    found = list(judge(View(path, data, Allowance(), judge, allowed=allowed)))
    if name.casefold().endswith(_NAMES) or _role(data) == "model":
        return found
    imports = any(item.rule in _IMPORTS for item in found)
    return [item for item in found if _is_of_model(item.rule, imports)]


def _is_of_model(rule: str, imports: bool) -> bool:
    """Whether a finding in an archive is about a model in it. Texts, by chance, begin like pickles;
    one that imports nothing does nothing."""
    family = rule.partition(".")[0]
    if RULES[rule].outcome is not Outcome.FLAGGED or family not in _FAMILIES:
        return False
    return imports or family != "pickle"


def _does_nothing(data: memoryview) -> bool:
    """True where a loader of pickles would come to an end of `data` without an import."""
    found = look_as_pickle(data, Allowance(opcodes=_OPCODES))
    return found.cause is not Cause.LIMIT and not is_importing_pickle(data, found)


def _role(data: memoryview, depth: int = 0) -> str:
    """`model`, `archive` for what may hold one, or nothing."""
    kind = identify(data, Allowance(opcodes=_OPCODES))
    if kind == "pickle" and data[0] != _MARKED and _does_nothing(data):
        return ""
    if kind in MODELS:
        return "model"
    if kind in _ARCHIVES:
        return "archive"
    if kind in KINDS and depth < 3:
        # Most compressed files of a system are manuals: the beginning tells.
        first = first_of(data, kind, _PEEK)
        return "archive" if first and _role(memoryview(first), depth + 1) else ""
    return ""
