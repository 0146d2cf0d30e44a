"""TorchScript: the code in an archive, held to operators that compute.

TorchScript is a language of its own: its code can call operators of torch, functions and classes
of the archive, and a handful of built-ins, nothing of Python. Some operators reach out of the
program (`aten::save`, `aten::from_file`); those of other libraries need code that is not here.
Promise: code is clean only where every operator it names is on the list in `operators.json`,
made by `python -m tools.operators` from torch's own schemas, less those that reach out.

Source: torch/docs/serialization.md, torch/csrc/jit/serialization/python_print.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from keepstone.core.finding import Finding
from keepstone.scan.pickle.stream import Look
from keepstone.scan.rules import printable
from keepstone.scan.view import View

_MAX_CODE = 16 << 20
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|#[^\n]*')
_TORCH = re.compile(r"(?<![\w.])torch\s*\.\s*([A-Za-z_][\w.]*)")
_OPS = re.compile(r"(?<![\w.])ops\s*\.\s*(\w+)\s*\.\s*(\w+)")
_CLASSES = re.compile(r"__torch__\s*\.\s*torch\s*\.\s*classes\s*\.\s*(\w+)\s*\.\s*(\w+)")
# What the language itself knows.
_BUILTIN_SPACES = ("aten", "prim", "prims", "quantized", "_quantized", "sparse")
_BUILTIN_CLASSES = ("quantized", "sparse", "xnnpack", "rnn")
# The one library that most exported detectors need; its operators on files are not among them.
_TORCHVISION = frozenset(
    f"torchvision::{name}"
    for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
)


@cache
def operators() -> frozenset[str]:
    """torch's own operators that only compute, as `space::name`."""
    text = resources.files("keepstone.scan.torch").joinpath("operators.json").read_text("utf-8")
    return frozenset(json.loads(text)["operators"]) | _TORCHVISION


@dataclass(slots=True)
class Script:
    """The code of one archive."""

    files: int = 0
    said: set[str] = field(default_factory=set)

    def names(self, module: str) -> bool:
        """True where a pickle of the archive names a class of the archive's own code."""
        return module == "__torch__" or module.startswith("__torch__.")

    def member(self, view: View, name: str) -> Iterator[Finding]:
        """Judge one file of code, or what goes with it."""
        if name.casefold().endswith(".debug_pkl"):
            yield from Look(view).findings()
            return
        if not name.casefold().endswith(".py"):
            reason = "The member lies among the code and is none."
            yield view.finding("torch.ambiguous", reason)
            return
        self.files += 1
        if len(view.data) > _MAX_CODE:
            yield view.unseen("The code is longer than the limit.")
            return
        try:
            text = str(view.data, "utf-8")
        except UnicodeDecodeError:
            yield view.finding("torch.malformed", "The code is no UTF-8 text.")
            return
        yield from self._code(view, text)

    def _code(self, view: View, text: str) -> Iterator[Finding]:
        plain = _STRING.sub('""', text)
        named = {f"aten::{name}" for name in _TORCH.findall(plain)}
        named |= {f"{space}::{name}" for space, name in _OPS.findall(plain)}
        for name in sorted(named - operators() - self.said):
            self.said.add(name)
            known = name.partition("::")[0] in _BUILTIN_SPACES
            rule = "torch.operator" if known else "torch.custom_operator"
            yield view.finding(rule, f"The code calls {printable(name)}.")
        for space, name in sorted(set(_CLASSES.findall(plain))):
            if space not in _BUILTIN_CLASSES:
                reason = f"The code needs the class {printable(f'{space}.{name}')}."
                yield view.finding("torch.custom_operator", reason)

    def ended(self, view: View) -> Iterator[Finding]:
        if not self.files:
            yield view.unseen("The archive is TorchScript without code.")
