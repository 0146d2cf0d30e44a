"""Trimmed-loss training leaves out what fits worst, and is judged by who knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.trimmed import TrimmedLoss, drill
from keepstone.lab.domain import Domain
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import Answers, Capability
from tests.lab.fakes import train

WIDE = Domain.of((2,), -100.0, 100.0, "float64")


@dataclass
class Blobs:
    """Nearest means (`memory` False) or nearest rows, with scores."""

    x: Array
    y: Array
    memory: bool
    classes: int = 3
    domain: Domain = WIDE
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL, Capability.SCORES})

    def predict(self, rows: Array) -> Answers:
        far = ((rows[:, None] - self.x[None]) ** 2).sum(axis=2)
        if self.memory:
            per = [np.where(self.y == one, far, np.inf).min(axis=1) for one in range(3)]
        else:
            means = [self.x[self.y == one].mean(axis=0) for one in range(3)]
            per = [((rows - mean) ** 2).sum(axis=1) for mean in means]
        scores = -np.stack(per, axis=1)
        labels = scores.argmax(axis=1)
        return Answers(labels, 9 * np.eye(3)[labels] if self.memory else scores)


def memory(x: Array, y: Array, seed: int) -> Blobs:
    return Blobs(x, y, True)


def means(x: Array, y: Array, seed: int) -> Blobs:
    return Blobs(x, y, False)


def blobs(count: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return np.array([[0, 2], [2, -1], [-2, -1]])[y] + rng.normal(0, 0.5, (count, 2)), y


def test_what_fits_worst_is_left_out() -> None:
    x, y = blobs(300, 0)
    flipped = np.random.default_rng(1).permutation(300)[:30]
    bad = y.copy()
    bad[flipped] = (y[flipped] + 1) % 3
    caught = {}
    for train_one, folds in ((means, 1), (means, 5), (memory, 1), (memory, 5)):
        found = TrimmedLoss(0.1, folds=folds).fit(train_one, x, bad)
        assert found.kept.sum() == 270
        caught[train_one.__name__, folds] = (~found.kept[flipped]).mean()
    assert min(caught["means", 1], caught["means", 5]) > 0.8
    # One that knows its rows by heart thinks well of each of them.
    assert caught["memory", 1] < 0.2
    assert caught["memory", 5] > 0.5


def test_trimming_that_gains_against_who_knows_it_passes() -> None:
    found = drill(TrimmedLoss(0.25), memory, *blobs(300, 0), blobs(400, 1), 0.15)
    assert found.verdict is Verdict.PASS
    assert {one.poison for one in found.poisoned if one.adaptive} == {
        "likely-flips",
        "one-class-flips",
    }
    assert found.worst.defended.value == min(one.defended.value for one in found.poisoned)
    told = found.to_dict()
    assert told["poisoned_accuracy"]["value"] == pytest.approx(found.worst.defended.value, abs=1e-6)


@pytest.mark.parametrize("train_one", [means])
def test_trimming_that_does_nothing_is_no_gain(train_one: Any) -> None:
    # Means hardly move by so few flips.
    found = drill(TrimmedLoss(0.1), train_one, *blobs(300, 0), blobs(400, 1), 0.05)
    assert found.codes in (("defence.no_gain",), ("defence.masks",))
    assert found.verdict in (Verdict.FAIL, Verdict.INVALID)


@pytest.mark.slow
def test_trimming_that_only_random_flips_show_is_called_masking(
    need_module: Callable[[str], ModuleType],
) -> None:
    need_module("sklearn")
    from sklearn.datasets import load_digits

    from bench.defences import FLAT, linear

    data = load_digits()
    x = (data.data / 16).astype(np.float32)
    learnt, tested = (x[:900], data.target[:900]), (x[1100:], data.target[1100:])
    found = drill(TrimmedLoss(0.15, rounds=2, folds=2), linear, *learnt, tested, 0.15)
    assert FLAT.width == 64
    assert found.poisoned[0].gains
    assert found.codes == ("defence.masks",)


def test_drills_are_the_same_for_a_seed_and_few_samples_are_insufficient() -> None:
    told = [
        drill(TrimmedLoss(0.2, rounds=2), memory, *blobs(200, 0), blobs(90, 1), 0.1, seed).to_dict()
        for seed in (3, 3)
    ]
    assert told[0] == told[1]
    assert "defence.too_few" in [one["code"] for one in told[0]["problems"]]
    with pytest.raises(InputError, match=r"defence\.bad_data"):
        TrimmedLoss().fit(means, np.zeros((5, 2)), np.zeros(5, int))
    with pytest.raises(InputError, match=r"defence\.unfit"):
        TrimmedLoss().fit(train, *blobs(50, 0))
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        TrimmedLoss(0.0)
