"""Ensembles: the vote is exact, so is its gradient, and what transfers is not what counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.evasion.square import Square
from keepstone.lab.attacks.evasion.white_box import WhiteBox
from keepstone.lab.defences import evaluate as judging
from keepstone.lab.defences.ensemble import Compared, Majority, SoftVote, against_best
from keepstone.lab.defences.evaluate import evaluate
from keepstone.lab.domain import Domain
from keepstone.lab.masking.port import Weight
from keepstone.lab.norms import LINF
from keepstone.lab.problem import Verdict
from keepstone.lab.suites import masking as suites_masking
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.targets.adaptive import Defended
from keepstone.lab.targets.port import (
    UNANSWERED,
    Answers,
    Capability,
    GradientTarget,
    Linearization,
)
from tests.lab.fakes import Linear

DOMAIN = Domain.of((8,), 0.0, 1.0, "float64")
WHITE = Suite("white", 200, lambda able: (Step(WhiteBox(sweep=5, near=()), 100, 100),))
OUTSIDE = Suite("outside", 200, lambda able: (Step(RandomSearch(), 60, 60),))
BOTH = Suite(
    "both",
    200,
    lambda able: (Step(WhiteBox(sweep=5, near=()), 100, 100), Step(Square(), 60, 60)),
)
NO_GRADIENT = frozenset({Capability.LABEL, Capability.SCORES})


def member(seed: int, **changed: Any) -> Linear:
    weights = np.random.default_rng(seed).normal(size=(8, 3)) * 3
    return Linear(weights, -weights.sum(axis=0) / 2, domain=DOMAIN, **changed)


def on(*features: int, middle: float = 0.5) -> Linear:
    """Class 1 where these features are above `middle`: all others are no matter to it."""
    weights = np.zeros((8, 2))
    weights[list(features), 1] = 20.0
    weights[list(features), 0] = -20.0
    return Linear(weights, -weights.sum(axis=0) * middle, domain=DOMAIN)


def sure(one: Linear, times: float, kind: type[Linear] = Linear) -> Linear:
    """The same with its scores `times` as far apart: its labels stay."""
    return kind(one.weights * times, one.bias * times, domain=DOMAIN)


class Rounds(Linear):
    """It sees fifths alone, and has no slope."""

    def predict(self, rows: Array) -> Answers:
        return super().predict(np.round(rows * 5) / 5)

    def linearize(self, rows: Array) -> Linearization:
        found = super().linearize(np.round(rows * 5) / 5)
        return Linearization(found.labels, found.scores, lambda given: np.zeros_like(rows))


class Misleads(Linear):
    """Its slope is that of a model that looks at other features."""

    def linearize(self, rows: Array) -> Linearization:
        found = super().linearize(rows)
        return Linearization(
            found.labels, found.scores, lambda given: np.roll(found.vjp(given), 4, axis=1)
        )


def samples(seed: int = 0, count: int = 120) -> tuple[Array, Array]:
    """Every feature tells the class, by 0.1 on either side of the middle."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    return 0.5 + np.where(y[:, None] == 1, 0.1, -0.1) + rng.normal(0, 0.005, (count, 8)), y


def compared(ensemble: SoftVote | Majority, eps: float, suite: Suite = WHITE) -> Compared:
    x, y = samples()
    return against_best(ensemble, x, y, suite, Question(LINF, (eps,), len(x)))


def test_the_vote_is_the_mean_of_the_probabilities() -> None:
    members = [member(seed) for seed in range(3)]
    rows = DOMAIN.draw(20)
    scores = [one.predict(rows).scores for one in members]
    chances = np.mean(
        [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in scores], axis=0
    )
    found = SoftVote(members).predict(rows)
    assert found.scores is not None
    assert np.exp(found.scores) == pytest.approx(chances)
    assert (found.labels == chances.argmax(axis=1)).all()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_its_gradient_is_that_of_finite_differences(scale: float) -> None:
    members = [member(seed) for seed in range(3)]
    for one in members:
        one.weights *= scale
        one.bias *= scale
    vote, rows = SoftVote(members), DOMAIN.draw(6)
    weights = np.random.default_rng(1).normal(size=(6, 3))
    slope = vote.linearize(rows).vjp(weights)
    step = 1e-6 / scale
    for at in range(8):
        moved = np.zeros(8)
        moved[at] = step
        ends = [vote.predict(rows + side * moved).scores for side in (1, -1)]
        wanted = ((ends[0] - ends[1]) * weights).sum(axis=1) / (2 * step)
        assert slope[:, at] == pytest.approx(wanted, rel=1e-3, abs=1e-3 * scale)


def test_a_vote_without_gradients_or_scores_declares_none() -> None:
    mixed = SoftVote([member(0), member(1, capabilities=NO_GRADIENT)])
    assert mixed.capabilities == NO_GRADIENT
    with pytest.raises(InputError, match=r"attack\.unable"):
        mixed.linearize(DOMAIN.draw(2))
    alone = member(1, capabilities=frozenset({Capability.LABEL}))
    with pytest.raises(InputError, match=r"defence\.unfit"):
        SoftVote([member(0), alone])
    assert Majority([member(0), alone]).capabilities == {Capability.LABEL}
    # Trees of several forests are not searched together.
    assert Capability.TREES not in SoftVote([member(0), member(1)]).capabilities


@pytest.mark.parametrize("kind", [SoftVote, Majority])
def test_members_of_other_questions_are_refused(kind: Any) -> None:
    wide = Linear(np.zeros((9, 3)), np.zeros(3), domain=Domain.of((9,), 0.0, 1.0, "float64"))
    far = Linear(np.zeros((8, 3)), np.zeros(3), domain=Domain.of((8,), 0.0, 2.0, "float64"))
    two = Linear(np.zeros((8, 2)), np.zeros(2), domain=DOMAIN)
    for members in ([member(0)], [member(0), wide], [member(0), far], [member(0), two]):
        with pytest.raises(InputError, match=r"defence\.other_members"):
            kind(members)


@dataclass
class Says:
    """The same label for every row."""

    label: int
    classes: int = 3
    domain: Domain = DOMAIN
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        return Answers(np.full(len(rows), self.label))


@pytest.mark.parametrize(
    ("labels", "wanted"), [((2, 2, 1), 2), ((2, 1), 1), ((1, 1, UNANSWERED), UNANSWERED)]
)
def test_most_labels_win_and_silence_is_no_vote(labels: tuple[int, ...], wanted: int) -> None:
    rows = DOMAIN.draw(3)
    assert (Majority([Says(one) for one in labels]).predict(rows).labels == wanted).all()


def test_a_row_that_a_member_does_not_answer_is_not_answered() -> None:
    class Mute(Linear):
        def predict(self, rows: Array) -> Answers:
            found = super().predict(rows)
            assert found.scores is not None
            return Answers(found.labels, np.full_like(found.scores, np.nan))

    mute = Mute(np.zeros((8, 3)), np.zeros(3), domain=DOMAIN)
    assert (SoftVote([member(0), mute]).predict(DOMAIN.draw(4)).labels == UNANSWERED).all()


def test_a_class_that_no_member_ever_serves_leaves_the_others_answered() -> None:
    class Blind(Linear):
        def predict(self, rows: Array) -> Answers:
            found = super().predict(rows)
            assert found.scores is not None
            found.scores[:, 2] = -np.inf
            return Answers(found.scores.argmax(axis=1), found.scores)

    members = [Blind(member(seed).weights, np.zeros(3), domain=DOMAIN) for seed in (0, 1)]
    labels = SoftVote(members).predict(DOMAIN.draw(50)).labels
    assert set(labels.tolist()) <= {0, 1}


def test_what_is_too_unlikely_for_a_number_keeps_its_slope() -> None:
    sure = [Linear(one.weights * 1e4, one.bias * 1e4, domain=DOMAIN) for one in map(member, (0, 1))]
    vote, rows = SoftVote(sure), DOMAIN.draw(20)
    found = vote.linearize(rows)
    assert found.scores.min() < -1e4
    assert np.isfinite(found.scores).all()
    assert (np.abs(found.vjp(np.eye(3)[found.scores.argmin(axis=1)])).max(axis=1) > 1e3).all()


# What it is worth


def test_the_best_member_is_the_one_that_stands() -> None:
    # Its plane lies off the middle: one of its classes is near to it.
    found = compared(SoftVote([on(0, middle=0.57), on(1)]), 0.05)
    assert found.members[0].robust[0].robust.value < 0.7
    assert found.best == 1
    assert found.evaluation.robust[0].undefended == found.members[1].robust[0].robust


def test_at_each_epsilon_the_vote_is_compared_with_the_member_that_is_best_there() -> None:
    x, y = samples(count=200)
    # One looks at a feature that tells little of most samples and much of the others.
    by = np.repeat([0.2, 0.045, 0.01], [60, 60, 80])
    x[:, 1] = 0.5 + np.where(y == 1, by, -by)
    far = on(1)
    near, far = on(0), Linear(far.weights * 3, far.bias * 3, domain=DOMAIN)
    found = against_best(SoftVote([near, far]), x, y, WHITE, Question(LINF, (0.05, 0.15), 200))
    assert found.best == 1
    at, last = found.evaluation.robust
    # The vote keeps more than the one that is best in the end, and less than the other.
    assert found.members[1].robust[0].robust.value < at.defended.value - 0.2
    assert at.undefended == found.members[0].robust[0].robust
    assert at.defended.value < at.undefended.value - 0.2
    assert last.undefended == found.members[1].robust[1].robust
    assert found.evaluation.codes == ("defence.no_gain",)


def test_what_breaks_every_member_alike_breaks_the_vote_when_it_is_replayed() -> None:
    found = compared(SoftVote([on(0), on(0)]), 0.2)
    assert found.replayed[0].value < 0.05


def test_a_vote_that_gains_over_its_best_member_passes() -> None:
    # Each is near to one of the classes, the mean to neither.
    found = compared(SoftVote([on(0, middle=0.57), on(0, middle=0.43)]), 0.05)
    assert not found.evaluation.problems, found.evaluation.problems
    assert found.evaluation.verdict is Verdict.PASS
    (at,) = found.evaluation.robust
    assert at.undefended.value < 0.7
    assert at.defended.value > 0.9


def test_what_does_not_transfer_falls_to_one_who_attacks_the_vote() -> None:
    # Members that look at other features each: what breaks one leaves the others as they were.
    ensemble = SoftVote([on(at) for at in range(3)])
    found = compared(ensemble, 0.2)
    assert found.replayed[0].value > 0.9
    (at,) = found.evaluation.robust
    assert at.undefended.value < 0.05
    assert at.defended.value < 0.05
    assert found.evaluation.verdict is Verdict.FAIL
    assert found.evaluation.codes == ("defence.no_gain",)
    told = found.to_dict()
    assert told["schema"] == "keepstone.defence/v1"
    assert told["replayed"][0]["value"] > 0.9 > told["robust_accuracy"][0]["value"]
    assert len(told["members"]) == 3


def test_a_majority_is_attacked_by_the_gradient_of_the_mean() -> None:
    ensemble = Majority([on(at) for at in range(3)])
    assert isinstance(ensemble, Defended)
    found = compared(ensemble, 0.2)
    (at,) = found.evaluation.robust
    # Labels alone give a white-box attack nothing to climb; one who knows the members has it all.
    assert at.plain.value > 0.9
    assert at.defended.value < 0.05
    assert found.evaluation.codes == ("defence.masks",)
    assert found.evaluation.verdict is Verdict.INVALID


def test_an_attack_on_a_majority_goes_on_until_the_majority_changes() -> None:
    # One that is sure outweighs two that are not, and does not outvote them.
    rows = np.full((4, 8), 0.6)
    against = sure(on(0), -1)
    ensemble = Majority([against, *(sure(on(at), 0.1) for at in (0, 1))])
    assert (SoftVote(ensemble.members).predict(rows).labels == 0).all()
    view = ensemble.adaptive()
    assert isinstance(view, GradientTarget)
    assert (view.linearize(rows).labels == ensemble.predict(rows).labels).all()
    assert (view.predict(rows).labels == 1).all()


def test_a_majority_of_members_that_mask_is_searched_by_the_mean_of_their_scores() -> None:
    class Masks(Linear):
        def linearize(self, rows: Array) -> Linearization:
            found = super().linearize(rows)
            return Linearization(found.labels, found.scores, lambda given: np.zeros_like(rows))

    members = [Masks(on(0).weights, on(0).bias, domain=DOMAIN) for _ in range(3)]
    found = compared(Majority(members), 0.2, BOTH)
    (at,) = found.evaluation.robust
    assert at.plain.value > 0.9
    assert at.defended.value < 0.1
    assert found.evaluation.codes == ("defence.masks",)


def test_members_without_gradients_are_attacked_from_outside() -> None:
    members = [on(at) for at in range(3)]
    for one in members:
        one.capabilities = frozenset({Capability.LABEL})
    ensemble = Majority(members)
    assert ensemble.adaptive() is ensemble
    found = compared(ensemble, 0.3, OUTSIDE)
    assert found.evaluation.robust[0].defended.value < 0.9


@pytest.mark.parametrize("times", [1e3, 1e5])
def test_members_that_are_too_sure_do_not_make_an_honest_vote_invalid(times: float) -> None:
    vote = SoftVote([sure(on(at), times) for at in range(3)])
    found = compared(vote, 0.2, BOTH).evaluation
    assert found.codes == ("defence.no_gain",)
    assert found.verdict is Verdict.FAIL
    assert found.robust[0].defended.value < 0.05
    # Two votes to one have no slope, and one who knows the members has.
    assert any(one.seen for one in found.plain.masking if one.weight is Weight.PROVES)
    proofs = [one for one in found.adaptive.masking if one.weight is Weight.PROVES]
    assert proofs
    assert not any(one.seen or one.seen is None for one in proofs)


@pytest.mark.parametrize("times", [1.0, 1e3])
@pytest.mark.parametrize("kind", [Rounds, Misleads])
def test_a_vote_of_members_that_mask_is_invalid_however_sure_they_are(
    kind: type[Linear], times: float
) -> None:
    vote = SoftVote([sure(on(0), times, kind) for _ in range(3)])
    found = compared(vote, 0.05).evaluation
    assert found.codes == ("defence.masks",)
    assert found.verdict is Verdict.INVALID


def test_one_that_masks_among_the_others_is_not_overlooked() -> None:
    # It outvotes the others, which have a slope that leads elsewhere.
    weak = [sure(on(at), 1e-2) for at in (1, 2)]
    found = compared(SoftVote([*weak, sure(on(0), 1e5, Rounds)]), 0.2).evaluation
    assert found.robust[0].defended.value > 0.9
    assert found.codes == ("defence.masks",)


def test_a_view_that_could_not_be_examined_excuses_nothing(monkeypatch: Any) -> None:
    look = suites_masking.look_for_masking

    def blind(target: Any, *given: Any) -> suites_masking.Masking:
        found = look(target, *given)
        signs = tuple(replace(one, seen=None) for one in found.signs)
        return replace(found, signs=signs)

    monkeypatch.setattr(judging, "look_for_masking", blind)
    found = compared(SoftVote([sure(on(at), 1e5) for at in range(3)]), 0.2, BOTH).evaluation
    assert found.codes == ("defence.masks",)


def test_a_vote_of_those_that_have_a_slope_is_its_own_adaptive_view() -> None:
    plain = SoftVote([on(at) for at in range(3)])
    assert plain.adaptive() is plain
    none = SoftVote([sure(on(0), 1e5), sure(on(1), 1e5)])
    assert none.adaptive() is not none
    for one in none.members:
        assert isinstance(one, Linear)
        one.capabilities = NO_GRADIENT
    assert none.adaptive() is none
    tempered = SoftVote([on(0), sure(on(1), 1e3)]).tempered()
    assert tempered.temperatures[0] == 1
    assert tempered.temperatures[1] > 100
    # One that never serves a class, or answers nothing, says nothing of how sure it is.
    for told in (-np.inf, np.nan):
        odd = on(1)
        odd.bias = np.array([0.0, told])
        assert SoftVote([on(0), odd]).tempered().temperatures == (1, 1)


def test_a_tempered_votes_gradient_is_that_of_finite_differences() -> None:
    members = [sure(member(seed), 1e4) for seed in range(3)]
    vote, rows = SoftVote(members).tempered(), DOMAIN.draw(6)
    weights = np.random.default_rng(1).normal(size=(6, 3))
    slope = vote.linearize(rows).vjp(weights)
    for at in range(8):
        moved = np.zeros(8)
        moved[at] = 1e-6
        ends = [vote.predict(rows + side * moved).scores for side in (1, -1)]
        wanted = ((ends[0] - ends[1]) * weights).sum(axis=1) / 2e-6
        assert slope[:, at] == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_a_vote_is_its_own_adaptive_view() -> None:
    x, y = samples()
    vote = SoftVote([on(0), on(1)])
    found = evaluate(vote, x, y, WHITE, Question(LINF, (0.2,), len(x)), undefended=vote.members[0])
    assert found.adaptive is found.plain
    assert found.robust[0].undone == 0
