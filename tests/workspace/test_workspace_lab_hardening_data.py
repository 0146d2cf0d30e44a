"""Defences of training data from the caller's own function, and the files that come of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.defences import estimators
from keepstone.lab.defences.partition import Partition
from keepstone.lab.defences.trimmed import TrimmedLoss
from keepstone.lab.problem import Verdict
from keepstone.lab.samples import Samples
from keepstone.vault.load import prepare
from keepstone.vault.staging import stage
from keepstone.vault.verified import verify_files
from keepstone.workspace.lab import hardening_files
from keepstone.workspace.lab import training as training_of_a_caller
from keepstone.workspace.lab.attacking import Wanted
from keepstone.workspace.lab.hardening_data import Bar, Partitioned, partition, trim
from keepstone.workspace.lab.hardening_files import (
    contract_beside,
    require_new,
    write_kept,
    write_target,
    write_vote,
)
from keepstone.workspace.lab.training import Given, Training, open_training
from tests import trainers

pytestmark = pytest.mark.usefixtures("one_server")
DIGEST = Digest.of(b"")
NAMES = np.array(["ant", "bee", "cat"])


class Need(Protocol):
    def __call__(self, name: str) -> ModuleType: ...


def training(
    train: str, *, held_out: int = 150, names: Array | None = None, wanted: Wanted | None = None
) -> Training:
    (x, y), (rows, labels) = trainers.blobs(300, 0), trainers.blobs(held_out, 1)
    if names is not None:
        y, labels = names[y], names[labels]
    if train in ("module", "inner"):
        x, rows = x.astype(np.float32), rows.astype(np.float32)
    given = Samples(x, y, DIGEST), Samples(rows, labels, DIGEST)
    return open_training(Given(f"tests.trainers:{train}", *given, wanted or Wanted()), 0)


class Here:
    """Calls the function in this process, which is quick: what is written of a model says nothing
    of where it was trained."""

    def __init__(self, name: str, patience_s: float) -> None:
        package, _, attribute = name.partition(":")
        self._function = getattr(importlib.import_module(package), attribute)

    def __call__(self, x: Array, y: Array, seed: int) -> Any:
        return self._function(x, y, seed)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_of_a_caller, "Fresh", Here)


def divided(made: Training, bars: tuple[Bar, ...] = (), **given: Any) -> Partitioned:
    return partition(made, Partition(5), bars, attacked=4, **given)


def code(call: Callable[[], object]) -> str:
    with pytest.raises((InputError, OperationalError)) as caught:
        call()
    return caught.value.code


def opened(path: Path, rows: Array, folder: Path, architecture: str | None = None) -> Any:
    """What the vault's loader answers for the artifact that was written."""
    beside = contract_beside(path)
    contract = beside if beside.exists() else None
    staged = stage(path, folder / "opened", contract=contract)
    with verify_files(staged.path, staged.digest) as files:
        return staged.digest, prepare(files, architecture)[1].start().predict({"x": rows})


# Partitions


def test_what_is_certified_is_attacked_before_it_is_told() -> None:
    found = divided(training("means"))
    assert found.verdict is Verdict.PASS
    told = found.to_dict()
    assert told["schema"] == "keepstone.certificate/v1"
    assert [one["size"] for one in told["certified_accuracy"]] == [0, 1, 2]
    assert told["undefended"]["value"] > 0.9
    attacks = told["reattacked"]["attacks"]
    assert {one["way"] for one in attacks} == {"insertions", "label-flips"}
    assert {one["poisons"] for one in attacks} == {1, 2}
    assert all(one["broken"] == 0 < one["certified"] for one in attacks)
    assert told["reattacked"]["certificates"] == sum(one["certified"] for one in attacks)
    # One of all rows, one for each partition and to see that it repeats, and what was attacked.
    assert told["trainings"] == 1 + 5 + 1 + found.attack.trainings
    shorter = divided(training("means"), most=1).to_dict()
    assert [one["size"] for one in shorter["certified_accuracy"]] == [0, 1]


def test_less_than_is_enough_fails() -> None:
    assert divided(training("means"), (Bar(1, 0.5),)).verdict is Verdict.PASS
    found = divided(training("means"), (Bar(1, 0.5), Bar(3, 0.1)))
    assert found.verdict is Verdict.FAIL
    assert [one.code for one in found.certificates.problems] == ["defence.below"]
    for bad in ((-1, 0.5), (1, 0.0), (1, 1.5), (1, float("nan"))):
        assert code(lambda bad=bad: Bar(*bad)) == "defence.bad_size"  # type: ignore[misc]


def test_few_rows_are_insufficient_and_moods_invalid() -> None:
    assert divided(training("means", held_out=60)).verdict is Verdict.INSUFFICIENT
    found = divided(training("moody"))
    assert found.verdict is Verdict.INVALID
    assert "defence.not_deterministic" in [one.code for one in found.certificates.problems]


@pytest.mark.parametrize("train", ["drifting", "collecting", "setting", "the_same"])
def test_no_training_knows_of_another(train: str) -> None:
    """What it keeps in memory would void its certificates: it is not there the next time."""
    expected, found = divided(training("means")), divided(training(train))
    assert found.to_dict() == expected.to_dict()
    asked = training("means").tested[0]
    assert (found.aggregate.ballots(asked) == expected.aggregate.ballots(asked)).all()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("names", [None, NAMES, np.array([5, 6, 9])])
def test_a_vote_is_one_file_that_the_vault_opens(
    need_module: Need, tmp_path: Path, names: Array | None
) -> None:
    need_module("skops")
    made = training("tree", names=names)
    found = divided(made, written=True)
    path = tmp_path / "vote.skops"
    written = write_vote(path, found.aggregate, made)
    digest, answers = opened(path, made.tested[0], tmp_path)
    assert digest == written.digest
    expected = made.labels[found.aggregate.predict(made.tested[0]).labels]
    assert answers["predict"].tolist() == expected.tolist()
    # Nothing is written over.
    assert code(lambda: write_vote(path, found.aggregate, made)) == "file.exists"
    path.unlink()
    assert code(lambda: write_vote(path, found.aggregate, made)) == "file.exists"
    assert not path.exists()


@pytest.mark.usefixtures("here")
def test_a_vote_that_answers_otherwise_is_not_written(
    need_module: Need, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_module("skops")
    made = training("tree")
    found = divided(made)
    monkeypatch.setattr(
        hardening_files, "vote", lambda models, labels: estimators.vote([0], labels)
    )
    path = tmp_path / "vote.skops"
    assert code(lambda: write_vote(path, found.aggregate, made)) == "defence.other_answers"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("train", ["means", "indexed", "inner"])
def test_what_cannot_be_one_file_is_refused_before_it_is_attacked(
    need_module: Need, train: str
) -> None:
    need_module("torch")
    need_module("skops")
    made = training(train)
    assert code(lambda: divided(made, written=True)) == "defence.unwritable"
    assert made.train.trained == 1 + 5 + 1
    made = training(train)
    refused = lambda: trim(made, TrimmedLoss(), 0.1, 0, written=True)  # noqa: E731
    assert code(refused) == "defence.unwritable"
    assert made.train.trained == 1


# Trimmed loss


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_trimming_that_gains_is_written_with_what_it_kept(
    need_module: Need, tmp_path: Path
) -> None:
    need_module("skops")
    made = training("nearest")
    found = trim(made, TrimmedLoss(0.25), 0.15, 0)
    assert found.verdict is Verdict.PASS
    told = found.to_dict()
    assert (told["kept"], told["left_out"]) == (225, 75)
    assert told["poisoned_accuracy"]["value"] == min(one["value"] for one in told["poisons"])
    path = tmp_path / "trimmed.skops"
    written = write_target(path, found.trimmed.target, made)
    digest, answers = opened(path, made.tested[0], tmp_path)
    assert digest == written.digest
    labels = found.trimmed.target.predict(made.tested[0]).labels
    assert (answers["predict"] == labels).all()
    assert answers["predict_proba"].shape == (150, 3)
    write_kept(tmp_path / "kept.npz", found.trimmed.kept)
    with np.load(tmp_path / "kept.npz") as file:
        assert (file["kept"] == found.trimmed.kept).all()
        assert file["kept"].shape == (300,)
    assert code(lambda: write_kept(tmp_path / "kept.npz", found.trimmed.kept)) == "file.exists"


@pytest.mark.usefixtures("here")
def test_an_estimator_serves_the_labels_of_the_file(need_module: Need, tmp_path: Path) -> None:
    need_module("skops")
    made = training("tree", names=NAMES)
    target = made.train(made.x, made.y, 0)
    write_target(tmp_path / "tree.skops", target, made)
    _, answers = opened(tmp_path / "tree.skops", made.tested[0], tmp_path)
    expected = made.labels[target.predict(made.tested[0]).labels]
    assert answers["predict"].tolist() == expected.tolist()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("train", ["tree", "module"])
def test_a_range_that_was_given_is_declared(need_module: Need, tmp_path: Path, train: str) -> None:
    need_module("torch")
    need_module("skops")
    for number, wanted in enumerate((Wanted(), Wanted(low=-9.0, high=9.0))):
        made = training(train, wanted=wanted)
        path = tmp_path / f"{number}"
        written = write_target(path, made.train(made.x, made.y, 0), made)
        staged = stage(path, tmp_path / "opened", contract=written.contract)
        with verify_files(staged.path, staged.digest) as files:
            (spec,) = prepare(files, written.architecture)[1].contract.inputs
        assert (spec.low, spec.high) == (wanted.low, wanted.high)


@pytest.mark.usefixtures("here")
def test_a_module_is_written_as_weights_that_its_code_opens(
    need_module: Need, tmp_path: Path
) -> None:
    need_module("torch")
    made = training("module")
    target = made.train(made.x, made.y, 0)
    written = write_target(tmp_path / "net.safetensors", target, made)
    assert written.architecture == "tests.vault.architectures:Layer"
    assert written.contract is None
    rows = made.tested[0].astype(np.float32)
    digest, answers = opened(
        tmp_path / "net.safetensors", rows, tmp_path, "tests.vault.architectures:Layer"
    )
    assert digest == written.digest
    assert (answers["scores"].argmax(axis=1) == target.predict(made.tested[0]).labels).all()


@pytest.mark.usefixtures("here")
def test_a_module_that_nobody_can_import_is_refused(need_module: Need, tmp_path: Path) -> None:
    need_module("torch")
    made = training("inner")
    target = made.train(made.x, made.y, 0)
    path = tmp_path / "net.safetensors"
    assert code(lambda: write_target(path, target, made)) == "defence.unwritable"
    assert not path.exists()


def test_trimming_a_training_that_does_not_repeat_itself_is_invalid() -> None:
    found = trim(training("moody"), TrimmedLoss(0.1, rounds=1, folds=1), 0.1, 0)
    assert found.verdict is Verdict.INVALID
    assert found.to_dict()["problems"][0]["code"] == "defence.not_deterministic"
    assert found.to_dict()["verdict"] == "invalid"


def test_new_files_are_asked_for_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    assert code(lambda: require_new(tmp_path / "new", tmp_path / "there")) == "file.exists"
    assert code(lambda: require_new(tmp_path / "no" / "new")) == "file.missing"
    require_new(tmp_path / "new")
