"""skops: scikit-learn models, built only from types that stand on a list of our own.

Promise: every node of the file names a kind and a type that `skops_types.txt` holds, before the
library sees the file; what it does not hold is refused. Trees must stay within themselves, for
scikit-learn follows their indices without looking.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from keepstone.contract.schema import ModelContract
from keepstone.contract.validate import NUMPY, Array
from keepstone.errors import InputError, VerificationError
from keepstone.vault.load.declared import declared_contract, require_contract
from keepstone.vault.load.prepared import (
    Prepared,
    checked_output,
    failed,
    missing_extra,
    no_architecture,
    only,
    refused,
)
from keepstone.vault.load.reader import ViewReader
from keepstone.vault.verified import Files

EXTRA = "skops"
_TYPES = Path(__file__).with_name("skops_types.txt")
SCHEMA = "schema.json"
_MAX_SCHEMA = 64 << 20
_MAX_UNPACKED = 8 << 30
# What a contract's output may be called: the method whose answer it is.
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


class EstimatorRuntime:
    """An `estimator`. `predict` may be called from several threads at once."""

    __slots__ = ("_contract", "_input", "estimator")

    def __init__(self, estimator: Any, contract: ModelContract) -> None:
        self.estimator = estimator
        self._contract = contract
        self._input = contract.inputs[0].name

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Raises OperationalError `runtime.failed`, `runtime.wrong_output`."""
        found: dict[str, Array] = {}
        try:
            for spec in self._contract.outputs:
                answer = np.asarray(getattr(self.estimator, spec.name)(inputs[self._input]))
                found[spec.name] = answer.astype(NUMPY[spec.datatype], casting="same_kind")
        # An estimator whose state lies raises whatever it stumbles over.
        except Exception as error:
            raise failed(error) from error
        return checked_output(self._contract, found)


def prepare_skops(files: Files, paths: tuple[str, ...], architecture: str | None) -> Prepared:
    """Hold one file's schema to the list of types, and read its contract.

    (1) Every node is of a kind and a type on the list. (2) The contract has one input, and its
    outputs are named after methods. Starting it: (3) skops builds it, trusting those types and
    no others; (4) the trees in it stay within themselves.

    Raises InputError `model.no_architecture`, `model.ambiguous`, `skops.malformed`,
    `contract.*`; VerificationError `model.untrusted_type`; starting it raises OperationalError
    `runtime.missing`, `runtime.refused`, VerificationError `model.broken_tree`.
    """
    no_architecture(architecture, "skops")
    path = only(paths)
    # (1)
    names = read_types(files.view(path))
    # (2)
    contract = require_contract(declared_contract(files))
    odd = [spec.name for spec in contract.outputs if spec.name not in METHODS]
    if len(contract.inputs) != 1 or odd:
        raise InputError(
            "contract.mismatch",
            "The declared contract does not fit the model: an estimator has one input, and its"
            f" outputs are among {', '.join(METHODS)}.",
            "Publish the model again with a contract that matches it.",
        )

    def start() -> EstimatorRuntime:
        skops = _skops()
        try:
            # (3)
            estimator = skops.load(ViewReader(files.view(path)), trusted=sorted(names))
        # The library raises whatever a malformed file makes it stumble over.
        except Exception as error:
            raise refused("skops") from error
        # (4)
        for tree in _trees(estimator):
            _require_bounded(tree)
        if any(not hasattr(estimator, spec.name) for spec in contract.outputs):
            raise refused("The estimator, which lacks a method that its contract names,")
        return EstimatorRuntime(estimator, contract)

    return Prepared(contract, start)


def read_types(data: memoryview) -> frozenset[str]:
    """Every type that the file in `data` builds, if all of them are on the list.

    Raises InputError `skops.malformed`, VerificationError `model.untrusted_type`.
    """
    try:
        with ZipFile(ViewReader(data)) as archive:
            entries = archive.infolist()
            if len({entry.filename.casefold() for entry in entries}) != len(entries):
                raise _bad("it names one member twice")
            if sum(entry.file_size for entry in entries) > _MAX_UNPACKED:
                raise _bad("it unpacks to more than 8 GiB")
            if archive.getinfo(SCHEMA).file_size > _MAX_SCHEMA:
                raise _bad("its schema is too long")
            schema = json.loads(archive.read(SCHEMA))
    except (BadZipFile, KeyError, ValueError, RecursionError, OSError, EOFError) as error:
        raise _bad("its schema cannot be read") from error
    types = set()
    for kind, name in nodes(schema):
        # It stands for a node that was met before, and names no type of its own.
        if kind != "CachedNode":
            if f"{kind} {name}" not in trusted_nodes():
                raise VerificationError(
                    "model.untrusted_type",
                    f"The model would build {name[:100]!r} ({kind[:40]}), which is not on the"
                    " list of trusted types.",
                    "Convert the model to ONNX, or leave that step out of it.",
                )
            types.add(name)
    return frozenset(types)


def nodes(schema: Any) -> Iterator[tuple[str, str]]:
    """Every node's kind and type; an object that names one of the two only is no node."""
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
            if "__loader__" in value:
                match value:
                    case {
                        "__loader__": str() as kind,
                        "__module__": str() as module,
                        "__class__": str() as name,
                    }:
                        yield kind, f"{module}.{name}"
                    case _:
                        raise _bad("a node names no type")


@cache
def trusted_nodes() -> frozenset[str]:
    """The list: a kind of node and an exact type, as `ObjectNode sklearn.svm._classes.SVC`."""
    lines = _TYPES.read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _trees(root: Any) -> Iterator[Any]:
    """Every tree of nodes that can be reached from an estimator."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, (list, tuple, set)):
            pending += value
        elif isinstance(value, np.ndarray):
            # Forests of boosting keep their trees in an array of objects.
            pending += value.ravel().tolist() if value.dtype == object else []
        elif type(value).__name__ == "Tree" and hasattr(value, "children_left"):
            yield value
        else:
            pending += list(getattr(value, "__dict__", {}).values())


def _require_bounded(tree: Any) -> None:
    """Raises VerificationError `model.broken_tree` where a node points outside of its tree.

    A child comes after its parent, as scikit-learn writes them: so no walk goes in circles.
    """
    left, right, count = tree.children_left, tree.children_right, tree.node_count
    inner = left != -1
    places = np.arange(count)
    sound = (
        count > 0
        and len(left) == len(right) == len(tree.feature) == count
        and bool(((left[inner] > places[inner]) & (left[inner] < count)).all())
        and bool(((right[inner] > places[inner]) & (right[inner] < count)).all())
        and bool(((tree.feature[inner] >= 0) & (tree.feature[inner] < tree.n_features)).all())
    )
    if not sound:
        raise VerificationError(
            "model.broken_tree",
            "A tree of the model has nodes that point outside of it.",
            "Get the model from where it was published again.",
        )


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise missing_extra("skops", EXTRA) from error
    return skops.io


def _bad(why: str) -> InputError:
    return InputError(
        "skops.malformed",
        f"The skops file cannot be loaded: {why}.",
        "Get the model from where it was published again.",
    )
