"""Write the names that a Keras configuration may use, from the Keras that is installed.

`python -m tools.keras_names` imports every module of `keras.src` and writes
`src/keepstone/scan/keras/allowed.txt`: the classes that Keras itself can save, and the functions
that its layers, losses and metrics are made with. Names already in the file stay: older versions
of Keras wrote them. `--check` compares instead. Needs keras and one of its backends.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ALLOWED = Path(__file__).parent.parent / "src/keepstone/scan/keras/allowed.txt"
# These are code, read files, or wrap what is: the scanner has rules of its own for them.
LEFT_OUT = frozenset(
    {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "Function"}
)
PUBLIC = (
    *("initializers", "regularizers", "constraints", "dtype_policies", "quantizers", "random"),
    *("optimizers.schedules",),
)
WITH_FUNCTIONS = ("activations", "losses", "metrics", "ops")
NOT_FUNCTIONS = frozenset({"get", "serialize", "deserialize"})


def classes() -> Iterator[str]:
    """Every class that Keras saves by name, wherever it is defined."""
    import keras.src
    from keras.src.saving.keras_saveable import KerasSaveable

    for module in pkgutil.walk_packages(keras.src.__path__, "keras.src."):
        if not module.name.endswith("_test"):
            # Backends that are not installed.
            with suppress(Exception):
                importlib.import_module(module.name)
    pending: list[Any] = [KerasSaveable]
    while pending:
        for kind in pending.pop().__subclasses__():
            pending.append(kind)
            yield kind.__name__
    for name in PUBLIC:
        module_ = importlib.import_module(f"keras.{name}")
        yield from (kind.__name__ for kind in vars(module_).values() if inspect.isclass(kind))


def functions() -> Iterator[str]:
    for name in WITH_FUNCTIONS:
        module = importlib.import_module(f"keras.{name}")
        for found, value in vars(module).items():
            if inspect.isfunction(value) and found not in NOT_FUNCTIONS:
                yield found


def main(arguments: list[str]) -> int:
    kept = ALLOWED.read_text().split("\n") if ALLOWED.exists() else []
    lines = {line for line in kept if line and not line.startswith("#")}
    lines |= {f"class {name}" for name in classes() if not name.startswith("_")}
    lines |= {f"function {name}" for name in functions() if not name.startswith("_")}
    lines -= {f"class {name}" for name in LEFT_OUT}
    head = "# What a Keras configuration may name. Made by `python -m tools.keras_names`.\n"
    text = head + "\n".join(sorted(lines)) + "\n"
    if "--check" in arguments:
        return int(ALLOWED.read_text() != text)
    ALLOWED.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
