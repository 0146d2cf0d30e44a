"""LightGBM: its text models.

Promise: a model that breaks the library's parser breaks a child process first. The contract is
what the model says of itself: how many features, their names, and the shape of a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstone.contract.schema import DType, ModelContract
from keepstone.contract.validate import Array
from keepstone.vault.load.prepared import (
    Prepared,
    checked_output,
    failed,
    missing_extra,
    no_architecture,
    only,
    refused,
)
from keepstone.vault.load.rehearsal import rehearse, tree_contract
from keepstone.vault.verified import Files

EXTRA = "lightgbm"


class BoosterRuntime:
    """A `booster`. `predict` may be called from several threads at once."""

    __slots__ = ("_contract", "_failures", "_input", "_output", "booster")

    def __init__(self, booster: Any, contract: ModelContract) -> None:
        self.booster = booster
        self._contract = contract
        self._input, self._output = contract.inputs[0].name, contract.outputs[0].name
        self._failures = (_lightgbm().basic.LightGBMError, ValueError, TypeError)

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Raises OperationalError `runtime.failed`, `runtime.wrong_output`."""
        try:
            found = self.booster.predict(inputs[self._input], num_threads=1)
        except self._failures as error:
            raise failed(error) from error
        return checked_output(self._contract, {self._output: found})


def prepare_lightgbm(files: Files, paths: tuple[str, ...], architecture: str | None) -> Prepared:
    """Read one LightGBM model's contract in a child process; nothing of it is loaded here yet.

    Raises InputError `model.no_architecture`, `model.ambiguous`, `contract.*`; OperationalError
    `runtime.missing`, `runtime.refused`.
    """
    no_architecture(architecture, "lightgbm")
    path = only(paths)
    _lightgbm()
    contract = tree_contract(rehearse("lightgbm", files.view(path)), files, DType.FP64)

    def start() -> BoosterRuntime:
        library = _lightgbm()
        try:
            text = str(files.view(path), "utf-8")
            booster = library.Booster(model_str=text)
        except (library.basic.LightGBMError, ValueError, TypeError) as error:
            raise refused("lightgbm") from error
        return BoosterRuntime(booster, contract)

    return Prepared(contract, start)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        # OSError: the library's own OpenMP runtime is missing.
        raise missing_extra("LightGBM", EXTRA) from error
    return lightgbm
