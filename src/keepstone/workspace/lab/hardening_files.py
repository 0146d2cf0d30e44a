"""Write what a training function of the caller's made, as the vault opens it.

Promise: what is written was opened by the vault's own loader, from its bytes, and answered the
held-out rows as what was measured. Nothing is written over.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec, check_architecture
from keepstone.contract.validate import NUMPY, Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.files import exists, require_place, write_place
from keepstone.lab.defences.estimators import dump, estimator_of, vote
from keepstone.lab.defences.partition import Aggregate
from keepstone.lab.defences.weights import weights_of
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Target, as_scores, best_class
from keepstone.lab.targets.torch import TorchTarget
from keepstone.scan.artifact import scan_staged
from keepstone.vault.load import prepare
from keepstone.vault.load.identify import require_scanned
from keepstone.vault.staging import stage
from keepstone.vault.verified import verify_files
from keepstone.workspace.lab.training import Training
from keepstone.workspace.suspect import format_of_clean

INPUT = "x"


@dataclass(frozen=True, slots=True)
class Written:
    """The file, the digest of the artifact that it is; and the contract that belongs beside it,
    where the format has no room for one."""

    path: Path
    digest: Digest
    contract: Path | None = None
    architecture: str | None = None

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"file": str(self.path), "digest": str(self.digest)}
        if self.contract is not None:
            found["contract"] = str(self.contract)
        if self.architecture is not None:
            found["architecture"] = self.architecture
        return found


def contract_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.contract.json")


def require_new(*paths: Path) -> None:
    """Before anything is trained. Raises as `require_place` does; `file.exists` also for one path
    that is named twice."""
    if len({path.absolute() for path in paths}) < len(paths):
        raise exists(paths[-1])
    for path in paths:
        require_place(path)


def write_vote(path: Path, aggregate: Aggregate, training: Training) -> Written:
    """Write the vote as one estimator. Raises InputError `defence.unwritable`, and as
    `write_target` does."""
    labels = aggregate.predict(training.tested[0]).labels
    return _write_estimator(path, vote(aggregate.models, training.labels), training, labels)


def write_target(path: Path, target: Target, training: Training) -> Written:
    """Write what was trained: a module's weights, or an estimator and its contract beside it.

    The vault's own loader has opened them before anything is written, and they answered the
    held-out rows as the target does. Raises InputError `defence.unwritable`, `file.exists`;
    OperationalError `defence.other_answers`, `disk.full`, `file.unwritable`, and what the scanner
    and the loader raise.
    """
    labels = target.predict(training.tested[0]).labels
    if isinstance(target, TorchTarget):
        return _write_module(path, target, training, labels)
    places = np.arange(len(training.labels))
    # An estimator that was trained on places serves those: a vote of one serves the labels.
    same = training.labels.dtype.kind in "iu" and np.array_equal(training.labels, places)
    made = estimator_of(target) if same else vote([target], training.labels)
    return _write_estimator(path, made, training, labels)


def require_format(target: Target | Aggregate, training: Training) -> None:
    """Refuse what no file could hold, before anything is spent on it.

    Raises InputError `defence.unwritable`; OperationalError `runtime.missing`.
    """
    if isinstance(target, Aggregate):
        dump(vote(target.models, training.labels))
        return
    if isinstance(target, TorchTarget):
        weights_of(target.module, _module_contract(target, training))
    else:
        dump(estimator_of(target))


def _write_estimator(path: Path, estimator: Any, training: Training, labels: Array) -> Written:
    beside = contract_beside(path)
    require_new(path, beside)
    data, contract = dump(estimator), _contract(training, estimator).to_json()
    with tempfile.TemporaryDirectory(prefix="keepstone-harden-") as folder:
        tried = Path(folder) / "model", Path(folder) / "contract.json"
        for place, content in zip(tried, (data, contract), strict=True):
            place.write_bytes(content)
        rows = training.domain.as_inputs(training.tested[0])
        digest, answers = _answers(*tried, None, rows)
    _require_same(answers["predict"], training.labels[labels])
    write_place(path, data)
    write_place(beside, contract)
    return Written(path, digest, contract=beside)


def _write_module(path: Path, target: TorchTarget, training: Training, labels: Array) -> Written:
    contract = _module_contract(target, training)
    architecture = contract.architecture
    data = weights_of(target.module, contract)
    with tempfile.TemporaryDirectory(prefix="keepstone-harden-") as folder:
        tried = Path(folder) / "model"
        tried.write_bytes(data)
        rows = target.domain.as_inputs(training.tested[0])
        digest, answers = _answers(tried, None, architecture, rows)
    _require_same(best_class(as_scores(answers["scores"], probable=False)), labels)
    write_place(path, data)
    return Written(path, digest, architecture=architecture)


def _answers(
    path: Path, contract: Path | None, architecture: str | None, rows: Array
) -> tuple[Digest, Mapping[str, Array]]:
    """(1) Stage and scan it. (2) Load it as the vault does. (3) Ask it for `rows`."""
    with tempfile.TemporaryDirectory(prefix="keepstone-harden-") as folder:
        # (1)
        staged = stage(path, Path(folder) / "staging", contract=contract)
        format = format_of_clean(staged, scan_staged(staged), path)
        with verify_files(staged.path, staged.digest) as files:
            # (2)
            found, prepared = prepare(files, architecture)
            require_scanned(format, found)
            # (3)
            return staged.digest, prepared.start().predict({INPUT: rows})


def _require_same(answers: Array, expected: Array) -> None:
    # Text comes back as objects.
    if not (np.asarray(answers).astype(str) == expected.astype(str)).all():
        raise OperationalError(
            "defence.other_answers",
            "What would be written answers otherwise than what was measured: nothing was written.",
            "Train a model whose answers hang on its rows alone.",
        )


def _contract(training: Training, estimator: Any) -> ModelContract:
    """Flat rows of the data's own type in; the file's labels out, and probabilities if any."""
    whole = training.labels.dtype.kind in "iu"
    outputs = [TensorSpec("predict", DType.INT64 if whole else DType.BYTES, (ANY,))]
    count = len(training.labels)
    if hasattr(estimator, "predict_proba") and len(estimator.classes_) == count:
        outputs.append(TensorSpec("predict_proba", DType.FP64, (ANY, count)))
    return ModelContract((_input(training.domain, training),), tuple(outputs))


def _module_contract(target: TorchTarget, training: Training) -> ModelContract:
    """Raises InputError `defence.unwritable` for a class that nobody could import."""
    code = type(target.module)
    architecture = f"{code.__module__}:{code.__qualname__}"
    found = target.predict(target.domain.draw(1)).scores
    assert found is not None
    try:
        return ModelContract(
            (_input(target.domain, training),),
            (TensorSpec("scores", _kind(found.dtype), (ANY, target.classes)),),
            architecture=check_architecture(architecture),
        )
    except InputError as error:
        raise InputError(
            "defence.unwritable",
            f"Weights are opened by their code, and {architecture[:100]} cannot be imported.",
            "Define the module's class at the top of a package, made without arguments.",
        ) from error


def _input(domain: Domain, training: Training) -> TensorSpec:
    """A range that was given is declared; one that was only seen says nothing of what may come."""
    low, high = training.bounds
    return TensorSpec(INPUT, _kind(domain.dtype), (ANY, *domain.shape), low, high)


def _kind(dtype: np.dtype[np.generic]) -> DType:
    return next(kind for kind in DType if kind.is_float and NUMPY[kind] == dtype)


def write_kept(path: Path, kept: Array) -> None:
    """Which rows of the data were kept (n,), in its order: `kept` of an .npz.

    Raises InputError `file.exists`; OperationalError `disk.full`, `file.unwritable`.
    """
    file = io.BytesIO()
    np.savez_compressed(file, kept=kept)
    write_place(path, file.getvalue())
