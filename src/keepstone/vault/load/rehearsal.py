"""Trying a model of trees in a process of its own, before this one loads it.

Their parsers are C++ that ends the process for some broken models. The child opens the model,
predicts for one row of zeros and says what it saw; whatever becomes of it, this process lives.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec
from keepstone.contract.settle import settle
from keepstone.core.canonical import parse_json
from keepstone.errors import InputError, OperationalError
from keepstone.vault.load.declared import declared_contract
from keepstone.vault.load.prepared import refused
from keepstone.vault.verified import Files

_CHILD = Path(__file__).with_name("rehearsal_child.py")
TIMEOUT_S = 120.0
_ANSWER = 8 << 20
INPUT, OUTPUT = "input", "prediction"


def rehearse(library: str, model: memoryview) -> dict[str, Any]:
    """What the child saw: `features`, `names` (may be empty), `shape` of one row's prediction,
    and the `contract` inside the model, or None.

    Raises OperationalError `runtime.refused`.
    """
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and file
            [sys.executable, "-I", str(_CHILD), library],
            input=model,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            env={},
        )
        if done.returncode or len(done.stdout) > _ANSWER:
            raise refused(library)
        answer = parse_json(done.stdout, limit=_ANSWER)
    except (subprocess.TimeoutExpired, OSError, InputError) as error:
        raise refused(library) from error
    if not isinstance(answer, dict):
        raise refused(library)
    return answer


def tree_contract(seen: dict[str, Any], files: Files, datatype: DType) -> ModelContract:
    """One matrix of features in, one prediction a row out; a declared contract may say more.

    Raises InputError `contract.*`, OperationalError `runtime.refused`.
    """
    match seen:
        case {"features": int() as width, "names": list() as names, "shape": [1, *rest]}:
            drawn = ModelContract(
                inputs=(TensorSpec(INPUT, datatype, (ANY, width), features=tuple(names)),),
                outputs=(TensorSpec(OUTPUT, datatype, (ANY, *rest)),),
                source="derived",
            )
        case _:
            raise OperationalError(
                "runtime.refused",
                "The model does not say how many features it takes.",
                "Train and save it with a current version of its library.",
            )
    declared = declared_contract(files, seen.get("contract"))
    return drawn if declared is None else settle(drawn, declared)
