"""List torch's own operators for the scanner: those that compute, read off the installed torch.

    python -m tools.operators

Left out are those that reach out of a program (`_REACHING`): they open files, or talk to other
processes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "src" / "keepstone" / "scan" / "torch" / "operators.json"
_SPACES = (
    *("aten", "prim", "prims", "quantized", "_quantized", "sparse", "mkldnn", "onednn"),
    *("mkldnn_prepacked", "quantization"),
)
_REACHING = re.compile(r"aten::(save|from_file|load)\Z|.*rpc|.*rref|prim::(PythonOp|CallFunction)")
# What TorchScript's own printer writes for parts of the language.
_LANGUAGE = ("aten::device", "aten::Size", "aten::Tensor", "aten::jit", "aten::Generator")


def main() -> int:
    import torch

    found = {schema.name for schema in torch._C._jit_get_all_schemas()}
    kept = {name for name in found if name.partition("::")[0] in _SPACES}
    kept |= set(_LANGUAGE)
    names = sorted(name for name in kept if not _REACHING.match(name))
    document = {"torch": torch.__version__.partition("+")[0], "operators": names}
    PAGE.write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
