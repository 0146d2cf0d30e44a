"""Drills of a caller's own training function: poison that is found, and numbers that are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.poisoning.measure import Limits
from keepstone.lab.attacks.poisoning.trigger import set_trigger
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.problem import Verdict, insufficient, invalid
from keepstone.lab.samples import Samples, read_samples
from keepstone.workspace.lab.attacking import Wanted
from keepstone.workspace.lab.drilling import (
    Drills,
    Poisoning,
    gravest,
    require_empty,
    run_drills,
    write_sets,
)
from keepstone.workspace.lab.training import Given, Training, fresh_function, open_training
from tests import trainers

pytestmark = pytest.mark.usefixtures("one_server")
DIGEST = Digest.of(b"")


def samples(x: Array, y: Array) -> Samples:
    return Samples(x, y, DIGEST)


def training(
    train: str = "linear",
    data: tuple[Array, Array] | None = None,
    held_out: tuple[Array, Array] | None = None,
    wanted: Wanted | None = None,
    shape: tuple[int, ...] = (6, 6),
) -> Training:
    learnt, tested = data or trainers.pictures(400, 0), held_out or trainers.pictures(200, 1)
    given = (samples(*learnt), samples(*tested), wanted or Wanted())
    return open_training(Given(f"tests.trainers:{train}", *given, shape), 0)


def drilled(made: Training, *ways: str, **given: Any) -> Drills:
    limits = given.pop("limits", Limits(0.1))
    share = given.pop("share", 0.1)
    return run_drills(made, Poisoning(ways, share, limits, shape=(6, 6), **given))


def code(call: Callable[[], object]) -> str:
    with pytest.raises((InputError, OperationalError)) as caught:
        call()
    return caught.value.code


# What is found


def test_a_training_that_obeys_a_trigger_fails_and_one_that_does_not_passes() -> None:
    found = drilled(training(), "badnets", target=1)
    assert found.verdict is Verdict.FAIL
    (drill,) = found.to_dict()["drills"]
    assert drill["success"]["low"] > 0.3
    assert drill["accuracy"]["drop"]["value"] < 0.1
    assert found.to_dict()["target_class"] == "1"
    # The poisoned set trains as well as the clean one.
    gentle: dict[str, Any] = {"share": 0.05, "side": 1, "limits": Limits(0.12, 0.1)}
    found = drilled(training("means"), "badnets", "label-flip", "feedback", **gentle)
    assert found.verdict is Verdict.PASS
    assert found.problems == ()
    assert found.ways == (
        "badnets",
        "label-flip",
        "label-flip-guided",
        "label-flip-guided-any",
        "feedback",
    )


def test_the_target_is_the_commonest_class_and_the_victim_the_next() -> None:
    x, y = trainers.pictures(400, 0)
    y[:150] = 2
    y[150:250] = 3
    made = training("means", (x, y))
    found = drilled(made, "feedback")
    assert (found.target, found.victim) == (2, 3)
    found = drilled(made, "feedback", victim=2)
    assert (found.target, found.victim) == (3, 2)
    assert code(lambda: drilled(made, "feedback", target=4)) == "attack.bad_parameter"
    assert code(lambda: drilled(made, "feedback", target=2, victim=2)) == "attack.bad_parameter"


@pytest.mark.slow
def test_flips_without_a_target_are_tried_where_the_accuracy_has_a_limit() -> None:
    found = drilled(training("nearest"), "label-flip", share=0.3, limits=Limits(1.0, 0.05))
    assert found.ways[-1] == "label-flip-guided-any"
    assert found.drills[-1].worst is None
    assert found.drills[-1].verdict is Verdict.FAIL


def test_clean_rows_are_trained_on_once_for_each_seed() -> None:
    made = training("means")
    found = drilled(made, "badnets", "label-flip")
    # Three drills of three seeds, the clean one for each, and one to see that it repeats itself.
    assert found.trainings == 9 + 3 + 1
    assert [one.trainings for one in found.drills] == [6, 6, 6]


# Bad input: never a number that looks good


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 7.0, float("nan")])
def test_a_share_of_nothing_or_of_everything_is_refused(share: float) -> None:
    assert code(lambda: drilled(training("means"), "badnets", share=share)) == "attack.bad_rate"


def test_what_cannot_be_poisoned_so_is_refused_before_anything_is_trained() -> None:
    made = training("means")
    assert code(lambda: drilled(made, "badnets", "clean-label", share=0.9)) == "attack.bad_rate"
    assert made.train.trained == 0


@pytest.mark.parametrize("features", [((0, 1.5),), ((99, 0.5),), ((0, 0.5), (0, 0.4))])
def test_a_trigger_outside_the_domain_is_refused(features: Any) -> None:
    made = training("means")
    assert code(lambda: drilled(made, "badnets", features=features)) == "attack.bad_trigger"
    assert code(lambda: drilled(made, "clean-label", features=features)) == "attack.bad_trigger"


def test_a_trigger_is_what_it_was_set_to() -> None:
    domain = Domain.of((4,), 0.0, [1.0, 2.0, 3.0, 4.0], "float32")
    trigger = set_trigger(domain, [(3, 3.5), (1, 0.1)])
    rows = trigger.stamp(np.zeros((2, 4), np.float32), domain)
    assert np.allclose(rows, [[0, 0.1, 0, 3.5]] * 2)
    held = Constraints.of(4, immutable=[0], integer=[1])
    held_domain = Domain.of((4,), 0.0, 4.0, "float64", held)
    for features in ([(0, 1.0)], [(1, 0.5)], [(2, float("nan"))], []):
        with pytest.raises(InputError, match=r"attack\.bad_trigger"):
            set_trigger(held_domain, features)


def test_a_training_that_does_not_repeat_itself_is_insufficient() -> None:
    found = drilled(training("moody"), "label-flip", limits=Limits(1.0))
    assert "attack.not_deterministic" in [one.code for one in found.problems]
    assert found.verdict is Verdict.INSUFFICIENT


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("raising", "attack.train_failed"),
        ("stumbling", "runtime.failed"),
        ("nothing", "target.bad_object"),
        ("leaving", "attack.train_failed"),
        ("ending", "attack.train_failed"),
        ("holding", "attack.unpicklable"),
    ],
)
def test_a_training_function_that_fails_has_a_code(train: str, expected: str) -> None:
    assert code(lambda: drilled(training(train), "badnets")) == expected


@pytest.mark.parametrize("name", ["tests.trainers:no", "no", "tests.trainers:CALLS", "no.such:one"])
def test_what_is_no_function_has_a_code(name: str) -> None:
    assert code(lambda: fresh_function(name)) == "attack.bad_train"


def test_a_module_that_raises_while_it_is_imported_has_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unlucky_trainer.py").write_text("raise ValueError\n")
    (tmp_path / "leaving_trainer.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code(lambda: fresh_function("unlucky_trainer:fit")) == "attack.bad_train"
    assert code(lambda: fresh_function("leaving_trainer:fit")) == "attack.bad_train"


def test_a_module_is_asked_in_the_shape_that_is_given(
    need_module: Callable[[str], ModuleType],
) -> None:
    need_module("torch")
    x, y = trainers.blobs(60, 0)
    rows, labels = trainers.blobs(30, 1)
    data, held_out = (x.astype(np.float32), y), (rows.astype(np.float32), labels)
    made = training("module", data, held_out, shape=(2,))
    assert made.train(made.x, made.y, 0).domain.shape == (2,)
    for odd in (
        training("module", data, held_out, shape=(2, 1)),
        training("module", (x, y), held_out, shape=()),
    ):
        assert code(lambda odd=odd: odd.train(odd.x, odd.y, 0)) == "target.bad_object"  # type: ignore[misc]


def test_rows_that_do_not_fit_are_refused() -> None:
    x, y = trainers.pictures(400, 0)
    assert code(lambda: training(held_out=(x[:200], y[:200]))) == "defence.trained_on"
    # Whatever they are called there.
    assert code(lambda: training(held_out=(x[:1], y[:1] + 1))) == "defence.trained_on"
    assert code(lambda: training(data=(x, np.zeros(400, int)))) == "target.bad_labels"
    other = trainers.pictures(50, 1)[0]
    assert code(lambda: training(held_out=(other, np.full(50, 9)))) == "target.bad_labels"
    assert code(lambda: training(held_out=(other[:, :9], y[:50]))) == "attack.other_inputs"
    assert code(lambda: training(shape=(5, 5))) == "attack.bad_domain"
    assert code(lambda: training(wanted=Wanted(low=0.5))) == "attack.other_inputs"


def test_a_held_out_row_counts_once() -> None:
    x, y = trainers.pictures(60, 1)
    made = training(held_out=(np.tile(x, (4, 1)), np.tile(y, 4)))
    assert len(made.tested[0]) == 60


def test_a_table_has_a_range_for_each_feature_and_a_picture_one() -> None:
    x = np.array([[0.0, 100], [1, 300], [0.5, 200]])
    data = (x, np.array([0, 1, 0]))
    held_out = (np.array([[2.0, 50]]), np.array([1]))
    table = training("means", data, held_out, shape=()).domain
    assert (table.low.tolist(), table.high.tolist()) == ([0, 50], [2, 300])
    picture = training("means", data, held_out, shape=(1, 2)).domain
    assert (picture.low.tolist(), picture.high.tolist()) == ([0, 0], [300, 300])
    given = training("means", data, held_out, Wanted(low=-1.0), ()).domain
    assert (given.low.tolist(), given.high.tolist()) == ([-1, -1], [2, 300])


# What is written


def test_poisoned_sets_are_written_as_they_were_trained_on(tmp_path: Path) -> None:
    x, y = trainers.pictures(400, 0)
    made = training(
        "means", (x, y + 5), (trainers.pictures(200, 1)[0], trainers.pictures(200, 1)[1] + 5)
    )
    asked = Poisoning(("badnets", "feedback"), 0.1, Limits(0.1), shape=(6, 6), seeds=(3, 4, 5))
    found = run_drills(made, asked)
    folder = tmp_path / "sets"
    written = write_sets(made, asked, folder)
    assert [one["attack"] for one in written] == ["badnets"] * 3 + ["feedback"] * 3
    trained = {str(trial.data) for one in found.drills for trial in one.trials}
    for one in written:
        with np.load(one["file"]) as file:
            changed = (file["x"] != x).any(axis=1) | (file["y"] != y + 5)
            assert (file["poisoned"] == changed).all()
            assert file["poisoned"].sum() == one["poisoned"] > 0
        assert one["data"] in trained
        assert read_samples(Path(one["file"])).digest == Digest.parse(one["digest"])
    again = write_sets(made, asked, tmp_path / "again")
    assert [one["digest"] for one in again] == [one["digest"] for one in written]
    assert code(lambda: require_empty(folder)) == "file.exists"
    require_empty(tmp_path / "new")


def test_a_failure_that_was_shown_stands_whatever_is_not_known() -> None:
    for verdicts in product(Verdict, repeat=2):
        found = gravest(verdicts)
        assert (found is Verdict.FAIL) == (Verdict.FAIL in verdicts)
        assert (found is Verdict.PASS) == (set(verdicts) == {Verdict.PASS})
    assert gravest([Verdict.PASS], [insufficient("a.b", "")]) is Verdict.INSUFFICIENT
    assert gravest([Verdict.INSUFFICIENT], [invalid("a.b", "")]) is Verdict.INVALID
    assert gravest([Verdict.FAIL], [invalid("a.b", "")]) is Verdict.FAIL
