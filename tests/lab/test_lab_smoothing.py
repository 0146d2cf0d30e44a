"""Randomised smoothing: no certificate reaches further than the truth."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import ABSTAINED
from keepstone.lab.defences.smoothing import Smoothing
from keepstone.lab.domain import Domain
from keepstone.lab.metrics.clopper_pearson import at_least
from keepstone.lab.metrics.wilson import share
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability
from tests.lab.fakes import Linear

WIDE = Domain.of((2,), -100.0, 100.0, "float64")


def halves(tilt: float = 0.0) -> Linear:
    return Linear(np.array([[-1.0, 1.0], [tilt, -tilt]]), np.zeros(2), domain=WIDE)


def cloud(count: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).uniform(-2, 2, (count, 2))


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_no_radius_is_longer_than_the_way_to_the_other_class(sigma: float) -> None:
    # Smoothing does not move a plane, so the exact distance is known.
    target, x = halves(0.5), cloud(150)
    y = target.predict(x).labels
    exact = np.abs(x @ np.array([1.0, -0.5])) / np.hypot(1.0, 0.5)
    found = Smoothing(sigma, draws=500).certify(target, x, y)
    told = found.labels != ABSTAINED
    assert (found.radii[told] <= exact[told]).all()
    assert (found.labels[told] == y[told]).all()
    assert (found.radii[~told] == 0).all()
    # Far from the plane the certificate is as long as so many draws can prove.
    longest = sigma * NormalDist().inv_cdf(at_least(500, 500, 0.001))
    assert 0.85 * longest < found.radii.max() <= longest


def test_it_abstains_where_no_class_is_certain() -> None:
    target = halves()
    found = Smoothing(0.5, draws=200).certify(target, np.zeros((120, 2)), np.zeros(120, int))
    assert (found.labels == ABSTAINED).mean() > 0.9
    assert found.accuracy_at(0.0).value < 0.1


@dataclass
class Silent:
    """Class 0, where it answers, which is as often as `told` says."""

    told: float
    domain: Domain = WIDE
    classes: int = 2
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        drawn = np.random.default_rng(len(rows)).random(len(rows))
        return Answers(np.where(drawn < self.told, 0, UNANSWERED))


def test_no_answer_is_no_vote() -> None:
    some = np.zeros((3, 2)), np.zeros(3, int)
    for told in (0.0, 0.4):
        assert (Smoothing(1.0).certify(Silent(told), *some).labels == ABSTAINED).all()
    assert (Smoothing(1.0).certify(Silent(0.9), *some).labels == 0).all()


def test_certificates_are_the_same_for_a_seed() -> None:
    x = cloud(40)
    y = halves().predict(x).labels
    first, again, other = (Smoothing(0.5).certify(halves(), x, y, seed) for seed in (1, 1, 2))
    assert (first.radii == again.radii).all()
    assert (first.radii != other.radii).any()


def test_what_is_certified_is_told_with_its_uncertainty() -> None:
    x = cloud(150)
    y = halves().predict(x).labels
    found = Smoothing(0.5, alpha=0.01).certify(halves(), x, y)
    told = found.to_dict([0.0, 0.5])
    at = told["certified_accuracy"][1]
    assert at["size"] == 0.5
    assert at["low"] < at["value"] < at["high"]
    assert found.verdict is Verdict.PASS
    # Some of the certificates may be wrong: the lower end makes room for them. Of 150 at .01, four
    # are with a chance of .065, and five with one of .018.
    held = int(found.holds(0.5).sum())
    assert found.accuracy_at(0.5).low == pytest.approx(share(held - 4, 150).low)


def test_few_samples_are_insufficient() -> None:
    x = cloud(99)
    found = Smoothing(0.5, draws=50).certify(halves(), x, halves().predict(x).labels)
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.code for one in found.problems] == ["defence.too_few"]


@pytest.mark.parametrize(
    "given",
    [{"sigma": 0.0}, {"sigma": np.inf}, {"sigma": 1.0, "alpha": 0.5}, {"sigma": 1, "draws": 0}],
)
def test_no_noise_no_certificate(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        Smoothing(**given)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((2, 3)), np.zeros(2, int)),
        (np.zeros((2, 2)), np.zeros(3, int)),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.full((2, 2), np.nan), np.zeros(2, int)),
        (np.zeros((2, 2)), np.zeros(2)),
    ],
)
def test_samples_that_do_not_fit_are_refused(x: Array, y: Array) -> None:
    with pytest.raises(InputError, match=r"defence\.bad_data"):
        Smoothing(1.0).certify(halves(), x, y)
