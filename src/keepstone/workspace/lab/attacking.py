"""Open a model to attack it, and say under a signature what came of that.

No admission is given and none is needed, for it serves nobody. A file is staged and scanned: what
our scanner does not call clean is not loaded at all, and what it calls clean is opened by the
loaders of the vault, from the very bytes that were scanned.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.contract.schema import ModelContract
from keepstone.contract.validate import Array
from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.measured import Measured
from keepstone.evidence.robustness import Robustness, Within
from keepstone.evidence.statement import make_statement
from keepstone.identity.signing import Signatory
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.draws import draws
from keepstone.lab.metrics.wilson import Share
from keepstone.lab.samples import Samples, require_same_columns
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.targets.boosters import ServedPlaces
from keepstone.lab.targets.classes import Classes, require_count
from keepstone.lab.targets.estimator_twin import with_slope
from keepstone.lab.targets.forests import read_trees
from keepstone.lab.targets.objectives import Objective, no_classifier, objective_of
from keepstone.lab.targets.onnx_twin import no_gradient, with_twin
from keepstone.lab.targets.outputs import Tensors
from keepstone.lab.targets.port import Target
from keepstone.lab.targets.runtime import RuntimeTarget
from keepstone.lab.targets.torch import TorchTarget
from keepstone.lab.targets.trees import TreeTarget
from keepstone.scan.artifact import scan_staged
from keepstone.vault.load import Runtime, prepare
from keepstone.vault.load.identify import find_model, require_scanned
from keepstone.vault.load.skops import EstimatorRuntime
from keepstone.vault.load.torch import ModuleRuntime
from keepstone.vault.staging import stage
from keepstone.vault.verified import Files, verify_files
from keepstone.workspace.intake import name_of
from keepstone.workspace.suspect import format_of_clean

# What LightGBM, XGBoost and scikit-learn call columns that came without names.
_PLACE = re.compile(r"(Column_|f|x)?[0-9]+")
LIFETIME_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a model is to be read. `low` and `high` stand in for a range that is not declared;
    `classes` are the names of its classes in the order of its scores; `gradient` says whether the
    one that is in the file is wanted, which takes its time, and torch for an ONNX file; `contract`
    lies beside a model that has no room for its own, and becomes a part of the artifact, as
    `keepstone up` takes it."""

    architecture: str | None = None
    low: float | None = None
    high: float | None = None
    classes: tuple[str, ...] = ()
    constraints: Constraints | None = None
    gradient: bool = False
    contract: Path | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that can be attacked, what it is, what it calls its classes, and its contract.

    `served` is the target as whoever asks for answers sees it.
    """

    subject: Subject
    target: Target
    classes: Classes
    contract: ModelContract
    served: Target


@contextmanager
def open_model(
    path: Path, samples: Samples, wanted: Wanted, digest: Digest | None = None
) -> Iterator[Opened]:
    """(1) Stage a private copy. (2) Scan it: only clean goes on. (3) Load that copy.

    With `digest` the file has to be that very one. Raises InputError `attack.other_file`;
     DeniedError `target.flagged`; OperationalError `scan.not_evaluated`, `runtime.*`;
    InputError `target.*`, `attack.bad_domain`, `attack.other_inputs`, and as `stage` and the
    loaders raise.
    """
    with tempfile.TemporaryDirectory(prefix="keepstone-attack-") as folder:
        # (1)
        staged = stage(path, Path(folder) / "staging", contract=wanted.contract)
        if digest not in (None, staged.digest):
            raise InputError(
                "attack.other_file",
                f"{path} is {staged.digest} where a worker opened it, and not {digest}.",
                "Put the same files at the same paths on every machine.",
            )
        # (2)
        format = format_of_clean(staged, scan_staged(staged), path)
        _require_loader(format, path)
        # (3)
        with verify_files(staged.path, staged.digest) as files:
            found, prepared = prepare(files, wanted.architecture)
            require_scanned(format, found)
            runtime = prepared.start()
            target, classes = _target(runtime, prepared.contract, samples, wanted)
            served = target
            if wanted.gradient:
                target = _with_gradient(found, target, runtime, files, samples)
            subject = Subject(name_of(path), staged.digest)
            yield Opened(subject, target, classes, prepared.contract, served)


@contextmanager
def open_again(
    path: Path, samples: Samples, wanted: Wanted, classes: tuple[str, ...], digest: Digest
) -> Iterator[Target]:
    """The target as `open_model` gives it, for a worker in another process or machine.

    `samples` need not be all; `classes` are what the first one opened was told to have. Raises as
    `open_model`.
    """
    with open_model(path, samples, replace(wanted, classes=classes), digest) as opened:
        yield opened.target


def _require_loader(format: str, path: Path) -> None:
    """Raises OperationalError `runtime.missing` for exported programs, which are attacked none the
    less: as objects of the caller's."""
    if format == "pt2":
        raise OperationalError(
            "runtime.missing",
            f"{path} is an exported program (torch.export), and no such file is opened.",
            "Give its weights and their code (safetensors, --architecture), export it to ONNX, or"
            " load it yourself and attack it as a Python object: see docs/explain/attacking.md.",
        )


def _target(
    runtime: Runtime, contract: ModelContract, samples: Samples, wanted: Wanted
) -> tuple[Target, Classes]:
    tensors = Tensors.of(contract)
    domain = Domain.of_spec(tensors.input, wanted.low, wanted.high, wanted.constraints)
    require_fit(samples, domain)
    model = getattr(runtime, "estimator", getattr(runtime, "booster", None))
    _require_columns(samples, tensors, model)
    target: Target
    if isinstance(runtime, ModuleRuntime) and tensors.label is None and len(contract.outputs) == 1:
        target = TorchTarget(runtime.module, domain)
        classes = Classes.of(samples.y, target.classes, wanted.classes)
        require_count(classes, target.classes)
        return target, classes
    objective = _objective(model)
    if objective is not None and objective.labels:
        classes = Classes.of(samples.y, objective.classes, wanted.classes)
        target = ServedPlaces(runtime, tensors, domain, classes, objective.classes)
    else:
        classes = Classes.of(samples.y, tensors.score_count, wanted.classes)
        target = RuntimeTarget(runtime, tensors, domain, classes)
    return _with_trees(model, target), classes


def _require_columns(samples: Samples, tensors: Tensors, model: Any) -> None:
    """Refuse columns in another order than the model's, or of other names, where both have names:
    in its contract, or in the file itself. Raises InputError `data.other_columns`."""
    for names in (tensors.input.features, getattr(model, "feature_names_in_", ())):
        called = [str(name) for name in names]
        # Trained on bare numbers, it calls its columns by their places.
        places = all(_PLACE.fullmatch(name) for name in called)
        if not places or sorted(called) == sorted(samples.features):
            require_same_columns(samples.features, called, "the model")


def _with_gradient(
    format: str, target: Target, runtime: Runtime, files: Files, samples: Samples
) -> Target:
    """The target with the gradient that is in the file, or with why it has none.

    One that has its gradient or its trees stays as it is.
    """
    if not isinstance(target, RuntimeTarget | ServedPlaces):
        return target
    try:
        if format == "onnx" and isinstance(target, RuntimeTarget):
            _, (path, *_) = find_model(files)
            return with_twin(target, files.view(path), samples.x)
        if isinstance(runtime, EstimatorRuntime) and isinstance(target, RuntimeTarget):
            return with_slope(target, runtime.estimator, samples.x)
        raise no_gradient("neither a gradient nor trees are read off such a model here")
    except KeepstoneError as error:
        if error.code not in ("target.no_gradient", "runtime.missing"):
            raise
        target.without_gradient = error.cause
        # Without torch it is our lack and not the file's.
        target.hides_gradient = error.code == "target.no_gradient"
        return target


def _objective(model: Any) -> Objective | None:
    """What a booster was trained for. Raises InputError `target.no_classifier`: of an estimator
    too, whose one number is no score of a class."""
    found = objective_of(model)
    if hasattr(model, "get_params") and not hasattr(model, "classes_"):
        raise no_classifier("The estimator has no classes.")
    return found


def _with_trees(model: Any, target: Target) -> Target:
    """The target, its decision trees laid open if it has some: who has the file has them too."""
    if model is None:
        return target
    try:
        return TreeTarget(target, read_trees(model))
    except InputError as error:
        if error.code not in ("target.no_trees", "target.bad_trees"):
            raise
        return target


def require_fit(samples: Samples, domain: Domain) -> None:
    """Refuse samples that are no inputs of the model. Raises InputError `attack.other_inputs`."""
    if samples.x.shape[1] != domain.width:
        raise InputError(
            "attack.other_inputs",
            f"A sample has {samples.x.shape[1]} numbers, and the model takes {domain.width}.",
            "Give the samples as the model takes them.",
        )
    # A sample may be rounded to the model's type, and not moved further.
    coarse = 1e-3 if domain.dtype.itemsize == 2 else 1e-6
    slack = coarse * np.maximum(1.0, np.maximum(np.abs(domain.low), np.abs(domain.high)))
    moved = np.abs(domain.fit(samples.x, samples.x) - samples.x) > slack
    outside = float(moved.any(axis=1).mean())
    if outside:
        raise InputError(
            "attack.other_inputs",
            f"{outside:.1%} of the samples are no inputs of the model: out of its range, no whole"
            " numbers, or against the constraints.",
            "Scale them as the model was trained, or mend --low and --high.",
        )


def chosen(samples: Samples, count: int, seed: int) -> Samples:
    """At most `count` of the samples, drawn by `seed`; one that is there twice counts once.

    Raises InputError `data.contradictory`.
    """
    _, first, same = np.unique(samples.x, axis=0, return_index=True, return_inverse=True)
    require_agreement(samples, first[same.ravel()])
    samples = samples.take(np.sort(first))
    if len(samples) <= count:
        return samples
    drawn = np.random.default_rng(seed).permutation(len(samples))[:count]
    return samples.take(np.sort(drawn))


def require_agreement(samples: Samples, first: Array) -> None:
    """Refuse rows that are there with two labels; `first` (n,) is where each is there first.

    No model is right of both, and which counts the order of the file would decide. Raises
    InputError `data.contradictory`.
    """
    other = samples.y != samples.y[first]
    if other.any():
        raise InputError(
            "data.contradictory",
            f"{int(other.sum())} of {len(samples)} rows are there before with another label.",
            "Keep the right one of each, or drop all.",
        )


def halved(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Two halves, drawn by `seed`: what a copy is measured by, and what a thief has."""
    order = draws(seed, 0).permutation(len(samples))
    half = len(samples) // 2
    return samples.take(order[:half]), samples.take(order[half:])


def report_digest(report: dict[str, Any]) -> Digest:
    """Of the JSON that is told, members sorted and without space; less its own statement."""
    told = {name: value for name, value in report.items() if name != "statement"}
    return Digest.of(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def run_digest(about: dict[str, Any]) -> Digest:
    """What tells one run from every other, so that only its own work is taken up again."""
    return Digest.of(canonical(about))


def served_digest(target: Target, samples: Samples) -> Digest:
    """Of the labels and scores that a target serves for these samples."""
    found = target.predict(target.domain.fit(samples.x, samples.x))
    scores = b"" if found.scores is None else found.scores.tobytes()
    return Digest.of(found.labels.tobytes() + scores)


def state(
    subject: Subject,
    outcome: SuiteResult,
    samples: Samples,
    key: Signatory,
    *,
    report: dict[str, Any],
    now: int,
    lifetime_ms: int = LIFETIME_MS,
) -> Envelope:
    """Sign, with `key`, what the attacks left of the model's accuracy; valid for `lifetime_ms`.

    `report` is the JSON that is told of it. Raises InputError `attack.nothing_measured`.
    """
    held = outcome.domain.constraints
    if not outcome.clean.n:
        raise InputError(
            "attack.nothing_measured", "No sample was answered, so there is nothing to state."
        )
    said = Robustness(
        made=Made(TOOL, now, now + lifetime_ms),
        verdict=outcome.verdict.value,
        suite=outcome.suite,
        norm=outcome.question.norm.name,
        within=tuple(Within(one.eps, measured(one.robust)) for one in outcome.robust),
        at_least=outcome.question.at_least,
        clean=measured(outcome.clean),
        attacks=tuple(dict.fromkeys(one.name for one in outcome.attacks)),
        queries=outcome.queries,
        seed=outcome.question.seed,
        not_evaluated=len(outcome.not_evaluated),
        sufficient=outcome.sufficient,
        domain=outcome.domain.digest,
        constraints=None if held is None else held.digest,
        data=samples.digest,
        report=report_digest(report),
    )
    return make_statement(subject, said, key)


def measured(share: Share) -> Measured:
    return Measured(share.value, min(share.low, share.value), max(share.high, share.value), share.n)
