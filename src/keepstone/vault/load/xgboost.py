"""XGBoost: its JSON and UBJSON models, never the old binary format and never a pickle.

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

EXTRA = "xgboost"


class BoosterRuntime:
    """A `booster`. `predict` may be called from several threads at once (`inplace_predict`)."""

    __slots__ = ("_contract", "_failures", "_input", "_output", "booster")

    def __init__(self, booster: Any, contract: ModelContract) -> None:
        self.booster = booster
        self._contract = contract
        self._input, self._output = contract.inputs[0].name, contract.outputs[0].name
        self._failures = (_xgboost().core.XGBoostError, ValueError, TypeError)

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Raises OperationalError `runtime.failed`, `runtime.wrong_output`."""
        try:
            found = self.booster.inplace_predict(inputs[self._input], validate_features=False)
        except self._failures as error:
            raise failed(error) from error
        return checked_output(self._contract, {self._output: found})


def prepare_xgboost(files: Files, paths: tuple[str, ...], architecture: str | None) -> Prepared:
    """Read one XGBoost model's contract in a child process; nothing of it is loaded here yet.

    Raises InputError `model.no_architecture`, `model.ambiguous`, `contract.*`; OperationalError
    `runtime.missing`, `runtime.refused`.
    """
    no_architecture(architecture, "xgboost")
    path = only(paths)
    _xgboost()
    contract = tree_contract(rehearse("xgboost", files.view(path)), files, DType.FP32)

    def start() -> BoosterRuntime:
        library = _xgboost()
        booster = library.Booster({"nthread": 1})
        try:
            booster.load_model(bytearray(files.view(path)))
        except (library.core.XGBoostError, ValueError, TypeError) as error:
            raise refused("xgboost") from error
        return BoosterRuntime(booster, contract)

    return Prepared(contract, start)


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise missing_extra("XGBoost", EXTRA) from error
    return xgboost
