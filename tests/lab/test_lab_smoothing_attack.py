"""Certificates are attacked within their radius: true ones hold, and those of a liar do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import ABSTAINED, Certificates
from keepstone.lab.defences.smoothing import Smoothing
from keepstone.lab.defences.smoothing_attack import Adversary, SmoothAttack, reattack
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.metrics.wilson import share
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import Answers, Capability, Linearization
from tests.lab.fakes import Linear

WIDE = Domain.of((2,), -100.0, 100.0, "float64")
SLOPE = np.array([1.0, -0.5])
SMOOTHING = Smoothing(0.5, draws=500)
LABELS = frozenset({Capability.LABEL})
EVERYTHING = frozenset(Capability)


def plane(able: frozenset[Capability] = EVERYTHING, domain: Domain = WIDE) -> Linear:
    weights = np.stack([-SLOPE, SLOPE], axis=1)
    return Linear(weights, np.zeros(2), domain=domain, capabilities=able)


def cloud(count: int = 150) -> Array:
    return np.random.default_rng(3).uniform(-2, 2, (count, 2))


def exact(x: Array) -> Array:
    """How far the other class is: smoothing does not move a plane."""
    return np.asarray(np.abs(x @ SLOPE) / np.linalg.norm(SLOPE))


def certified(target: Linear, x: Array) -> tuple[Certificates, Array]:
    y = target.predict(x).labels
    return SMOOTHING.certify(target, x, y), y


@pytest.mark.parametrize("able", [EVERYTHING, LABELS], ids=["gradients", "labels"])
def test_certificates_hold_and_the_attack_leaves_just_the_truth(
    able: frozenset[Capability],
) -> None:
    target, x = plane(able), cloud()
    found = reattack(SMOOTHING, target, x, certified(target, x)[0], (0.25, 0.5, 1.0))
    assert (found.verdict, found.problems, found.broken) == (Verdict.PASS, (), 0)
    assert found.attacked > 120
    for size, left in zip(found.sizes, found.left, strict=True):
        truth = (exact(x) > size).mean()
        # Not above it by more than draws are uncertain near the plane, and never below what is
        # certified.
        assert left.value <= truth + 0.04
        assert left.hits >= found.certificates.accuracy_at(size).hits


@pytest.mark.parametrize("able", [EVERYTHING, LABELS], ids=["gradients", "labels"])
def test_radii_that_are_too_long_are_found_out(able: frozenset[Capability]) -> None:
    target, x = plane(able), cloud()
    honest, _ = certified(target, x)
    radii = np.where(honest.labels == ABSTAINED, 0.0, 1.15 * exact(x))
    found = reattack(SMOOTHING, target, x, replace(honest, radii=radii), (0.5,))
    assert found.broken > found.attacked / 4
    assert [one.code for one in found.problems] == ["defence.certificate_broken"]
    assert found.verdict is Verdict.INVALID
    told = found.to_dict()
    assert told["schema"] == "keepstone.certificate/v1"
    assert (told["verdict"], told["reattacked"]["broken"]) == ("invalid", found.broken)


class Weary(Linear):
    """Another function once it was asked so often."""

    def predict(self, rows: Array) -> Answers:
        tired = self.rows_asked > 150 * 550
        found = super().predict(rows)
        return Answers(1 - found.labels, found.scores) if tired else found


def test_a_target_that_becomes_another_is_not_what_was_certified() -> None:
    x = cloud()
    weary = Weary(plane().weights, np.zeros(2), domain=WIDE, capabilities=LABELS)
    honest, _ = certified(weary, x)
    assert honest.verdict is Verdict.PASS
    found = reattack(SMOOTHING, weary, x, honest, (0.0,))
    assert found.verdict is Verdict.INVALID


def test_a_few_that_fall_by_chance_break_nothing() -> None:
    target, x = plane(), cloud()
    honest, _ = certified(target, x)
    radii = honest.radii.copy()
    radii[np.argmax(radii)] = 1.5 * exact(x).max()
    found = reattack(SMOOTHING, target, x, replace(honest, radii=radii), (0.0,))
    assert found.broken == 1
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize("able", [EVERYTHING, LABELS], ids=["gradients", "labels"])
def test_what_is_found_lies_in_the_domain_and_within_the_radius(
    able: frozenset[Capability],
) -> None:
    whole = Constraints.of(2, integer=[0])
    for held in (None, whole):
        domain = Domain.of((2,), -2.0, 2.0, "float32", held)
        target = plane(able, domain)
        x = domain.fit(cloud(40), cloud(40)).astype(np.float64)
        radii = np.random.default_rng(0).uniform(0, 1, 40)
        attack = SmoothAttack(steps=5, told=16)
        adversary = Adversary(attack, SMOOTHING, target, np.random.default_rng(1))
        rows = adversary.seek(x, target.predict(x).labels, radii)
        assert domain.holds(rows).all()
        assert (np.linalg.norm(rows - x, axis=1) <= radii).all()
        if held is not None:
            assert (rows[:, 0] == np.rint(rows[:, 0])).all()


def test_a_surer_model_is_still_climbed() -> None:
    # Its probabilities are 1 to the last digit; their slope is not told by them.
    target, x = plane(), cloud(60)
    target.weights *= 1e4
    y = target.predict(x).labels
    radii = 2 * exact(x)
    adversary = Adversary(SmoothAttack(), SMOOTHING, target, np.random.default_rng(0))
    rows = adversary.seek(x, y, radii)
    assert (target.predict(rows).labels != y).mean() > 0.95


def test_attacks_are_the_same_for_a_seed_and_sizes_are_checked() -> None:
    target, x = plane(), cloud(120)
    honest, _ = certified(target, x)
    first, again = (reattack(SMOOTHING, target, x, honest, (0.5, 0.25, 0.5)) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert first.sizes == (0.25, 0.5)
    with pytest.raises(InputError, match=r"defence\.bad_size"):
        reattack(SMOOTHING, target, x, honest, (-1.0,))
    with pytest.raises(InputError, match=r"defence\.bad_parameters"):
        SmoothAttack(steps=0)


class Flat(Linear):
    """Its gradient is declared, and zero, as that of a model that rounds what it is given."""

    def linearize(self, rows: Array) -> Linearization:
        return replace(super().linearize(rows), vjp=np.zeros_like)


def flat() -> Flat:
    return Flat(plane().weights, np.zeros(2), domain=WIDE)


def test_where_the_gradient_is_zero_labels_lead_the_way() -> None:
    target, x = flat(), cloud()
    honest, _ = certified(target, x)
    radii = np.where(honest.labels == ABSTAINED, 0.0, 1.15 * exact(x))
    found = reattack(SMOOTHING, target, x, replace(honest, radii=radii), (0.0,))
    assert found.broken > found.attacked / 4
    assert [one.code for one in found.problems] == ["defence.certificate_broken"]


def test_a_gradient_that_is_zero_and_labels_that_turn_nothing_are_no_attack() -> None:
    target, x = flat(), cloud()
    honest, _ = certified(target, x)
    found = reattack(SMOOTHING, target, x, honest, (0.0,))
    assert [one.code for one in found.problems] == ["defence.not_attacked"]
    assert found.verdict is Verdict.INSUFFICIENT
    # Labels that turn some have shown what they can do; where there is a gradient none have to.
    assert reattack(SMOOTHING, target, x, honest, (0.5,)).verdict is Verdict.PASS
    assert reattack(SMOOTHING, plane(), x, honest, (0.0,)).verdict is Verdict.PASS


def test_where_nothing_is_certified_nothing_is_left_out() -> None:
    target, x = flat(), cloud()
    honest, _ = certified(target, x)
    none = replace(honest, labels=np.full(150, ABSTAINED), radii=np.zeros(150))
    assert reattack(SMOOTHING, target, x, none, (0.0,)).problems == ()


def test_one_wrong_certificate_is_in_the_lower_end() -> None:
    # Of 150 at .001, none is wrong with a chance of .86 only; one or none with one of .99.
    made = certified(plane(), cloud())[0]
    every = replace(made, labels=made.y, radii=np.ones(150))
    for failure, wrong in ((0.0, 0), (0.001, 1), (0.01, 4)):
        assert replace(every, failure=failure).accuracy_at(0.5).low == share(150 - wrong, 150).low
    none = replace(every, labels=np.full(150, ABSTAINED), failure=0.01)
    assert none.accuracy_at(0.5).low == 0.0
