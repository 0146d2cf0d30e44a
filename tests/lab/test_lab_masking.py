"""Signs of gradient masking: each on a model that shows it and on one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.losses import margin
from keepstone.lab.masking.examine import Examination, Verdict, cost_of, examine, verdict_of
from keepstone.lab.masking.listed import SIGNS
from keepstone.lab.masking.measures.descent import Descent, descend, within
from keepstone.lab.masking.measures.differences import Compared
from keepstone.lab.masking.measures.search import windows
from keepstone.lab.masking.measures.surrogate import Network
from keepstone.lab.masking.port import Check, Meters, NotEvaluated, Sign, Weight, exceeds
from keepstone.lab.masking.subject import Subject
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import L1, L2, LINF, Norm
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Linearization

WIDTH, CLASSES, COUNT = 12, 3, 60
DOMAIN = Domain.of((WIDTH,), 0.0, 1.0)
EPS = 0.15
WEIGHTS = np.random.default_rng(5).normal(size=(WIDTH, CLASSES))
WEIGHTS -= WEIGHTS.mean(axis=0)


@dataclass
class Fake:
    """A linear model, whose scores and gradients are `served` and `bent` before they go out.

    It counts how often each of the rows it was made for, or one near it, was asked.
    """

    served: Callable[[Array, Array], Array] = lambda scores, rows: scores
    bent: Callable[[Array, Array], Array] = lambda gradient, rows: gradient
    capabilities: frozenset[Capability] = frozenset(Capability)
    domain: Domain = DOMAIN
    classes: int = CLASSES
    asked: list[int] = field(default_factory=list)

    def scores(self, rows: Array) -> Array:
        self.asked.append(len(rows))
        return self.served(((rows - 0.5) @ (4 * WEIGHTS)).astype(np.float32), rows)

    def predict(self, rows: Array) -> Answers:
        scores = self.scores(rows)
        shown = scores if Capability.SCORES in self.capabilities else None
        return Answers(scores.argmax(axis=1), shown)


class Slope(Fake):
    def linearize(self, rows: Array) -> Linearization:
        scores = self.scores(rows)
        return Linearization(
            scores.argmax(axis=1),
            scores,
            lambda weights: self.bent((weights @ (4 * WEIGHTS).T).astype(rows.dtype), rows),
        )


X = np.random.default_rng(1).uniform(0.1, 0.9, (COUNT, WIDTH)).astype(np.float32)
Y = Slope().predict(X).labels


def looked(target: Any, **given: Any) -> Examination:
    return examine(target, X, Y, given.pop("norm", LINF), given.pop("eps", EPS), **given)


def sign(found: Examination, name: str) -> Sign:
    return next(one for one in found.signs if one.name == name)


def check(name: str) -> Check:
    return next(one for one in SIGNS if one.name == name)


# What each sign is about


def zero(gradient: Array, rows: Array) -> Array:
    return 0 * gradient


def turned(gradient: Array, rows: Array) -> Array:
    """That of other features."""
    return np.roll(gradient, 1, axis=1)


def uphill(gradient: Array, rows: Array) -> Array:
    return -gradient


def at_samples_only(gradient: Array, rows: Array) -> Array:
    """Right where an attack may start, and nothing once it moved."""
    here = (np.abs(rows[:, None] - X[None]).max(axis=2) < 1e-6).any(axis=1)
    return np.where(here[:, None], gradient, 0)


def nearby_only(gradient: Array, rows: Array) -> Array:
    near = np.abs(rows[:, None] - X[None]).max(axis=2).min(axis=1) < EPS * 1.2
    return np.where(near[:, None], gradient, 0)


def sharp(scores: Array, rows: Array) -> Array:
    return (scores * 1e4).astype(np.float32)


def drawn() -> Callable[[Array, Array], Array]:
    rng = np.random.default_rng(3)
    return lambda scores, rows: (scores + rng.normal(size=scores.shape)).astype(np.float32)


SHOWS: dict[str, Callable[[], Fake]] = {
    "vanishing_gradient": lambda: Slope(bent=zero),
    "saturated_softmax": lambda: Slope(served=sharp, bent=lambda g, rows: 1e4 * g),
    "finite_differences": lambda: Slope(bent=turned),
    "randomised": lambda: Slope(served=drawn()),
    "black_box": lambda: Slope(bent=turned),
    "transfer": lambda: Slope(bent=turned),
    "one_step_better": lambda: Slope(bent=at_samples_only),
    "noise_as_good": lambda: Slope(bent=turned),
    "unbounded_fails": lambda: Slope(bent=uphill),
    "no_growth": lambda: Slope(bent=nearby_only),
    "flat_along_gradient": lambda: Slope(bent=lambda g, rows: g - project(g)),
}


def project(gradient: Array) -> Array:
    """The part of a gradient that the scores depend on at all."""
    basis = np.linalg.qr(WEIGHTS)[0]
    signs = np.random.default_rng(0).normal(size=gradient.shape)
    return np.asarray(gradient - (signs - signs @ basis @ basis.T))


def test_every_sign_has_a_model_that_shows_it() -> None:
    assert set(SHOWS) == {one.name for one in SIGNS}
    assert len({one.name for one in SIGNS}) == len(SIGNS)
    for one in SIGNS:
        assert one.source
        assert type(one).__doc__


@pytest.mark.parametrize("name", SHOWS)
def test_a_sign_is_seen_where_it_is_and_nowhere_else(name: str) -> None:
    found = looked(SHOWS[name]())
    assert name in found.seen, sign(found, name)
    honest = looked(Slope())
    assert name not in honest.seen, sign(honest, name)
    assert sign(honest, name).seen is False
    assert honest.verdict is Verdict.HONEST


@pytest.mark.parametrize("name", SHOWS)
def test_a_sign_that_proves_is_enough_and_one_that_hints_is_not(name: str) -> None:
    alone = looked(SHOWS[name](), checks=[check(name)])
    assert alone.seen == (name,)
    proves = check(name).weight is Weight.PROVES
    assert alone.verdict is (Verdict.MASKED if proves else Verdict.NOT_EVALUATED)


def test_the_unmasked_zoo_of_linear_models_is_honest() -> None:
    for norm, eps in ((LINF, 0.05), (LINF, 0.3), (L2, 0.3), (L2, 1.0)):
        found = looked(Slope(), norm=norm, eps=eps)
        assert found.verdict is Verdict.HONEST, (norm, eps, found.seen)
        assert not found.seen


@pytest.mark.parametrize("norm", [LINF, L2])
def test_masking_is_found_in_either_norm(norm: Norm) -> None:
    for bent in (zero, turned, uphill):
        assert looked(Slope(bent=bent), norm=norm, eps=0.4).verdict is Verdict.MASKED


def test_two_features_are_enough_to_be_honest_or_masked() -> None:
    """There a random step often is the gradient's."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.05, 0.95, (COUNT, 2)).astype(np.float32)
    way = np.array([[1.0, -1.0], [0.7, -0.7]])

    @dataclass
    class Plane(Slope):
        domain: Domain = field(default_factory=lambda: Domain.of((2,), 0.0, 1.0))
        classes: int = 2

        def scores(self, rows: Array) -> Array:
            return np.asarray(self.served(((rows - 0.5) @ way).astype(np.float32), rows))

        def linearize(self, rows: Array) -> Linearization:
            scores = self.scores(rows)
            return Linearization(
                scores.argmax(axis=1),
                scores,
                lambda weights: self.bent((weights @ way.T).astype(rows.dtype), rows),
            )

    for norm in (LINF, L2):
        for eps in (0.02, 0.1):
            honest = examine(Plane(), x, Plane().predict(x).labels, norm, eps)
            assert honest.verdict is Verdict.HONEST, honest.seen
            masked = examine(Plane(bent=uphill), x, Plane().predict(x).labels, norm, eps)
            assert masked.verdict is Verdict.MASKED


def test_samples_that_nothing_can_turn_are_no_failure_of_an_attack() -> None:
    """Of class 2 are those above the middle of a feature that stays as it is."""

    def held(scores: Array, rows: Array) -> Array:
        above = (rows[:, :1] > 0.5) & (np.arange(CLASSES) == 2)
        return np.asarray(scores * (rows[:, :1] <= 0.5) + 9 * above, np.float32)

    domain = Domain.of((WIDTH,), 0.0, 1.0, constraints=Constraints.of(WIDTH, immutable=[0]))
    target = Slope(served=held, domain=domain)
    found = examine(target, X, target.predict(X).labels, LINF, EPS)
    unbounded = sign(found, "unbounded_fails")
    assert unbounded.seen is False
    assert f"of {(X[:, 0] <= 0.5).sum()} " in unbounded.message


@pytest.mark.parametrize("norm", [LINF, L2])
def test_features_at_the_ends_of_their_ranges_do_not_weaken_the_attack(norm: Norm) -> None:
    """Were they followed out of the range, a search without gradients would do better."""
    ends = X.copy()
    ends[:, : WIDTH // 2] = np.rint(ends[:, : WIDTH // 2])
    target = Slope()
    for eps in (0.1, 0.2, 0.3):
        found = examine(target, ends, target.predict(ends).labels, norm, eps)
        assert found.verdict is Verdict.HONEST, (eps, found.seen)


def test_a_class_between_two_others_is_attacked_towards_both() -> None:
    """The class that is next by its score lies further than the other."""

    @dataclass
    class Line(Slope):
        domain: Domain = field(default_factory=lambda: Domain.of((1,), 0.0, 1.0))

        def parts(self, rows: Array) -> tuple[Array, Array]:
            self.asked.append(len(rows))
            at = rows[:, 0]
            # To the left slowly and never quite, to the right steeply from further below.
            left = np.where(at < 0.5, -0.05 - 0.01 * (at - 0.4), -0.051 + 0 * at)
            right = 10 * (at - 0.45)
            slopes = np.stack([np.where(at < 0.5, -0.01, 0.0), 0 * at, 10 + 0 * at], axis=1)
            return np.stack([left, 0 * at, right], axis=1).astype(np.float32), slopes

        def predict(self, rows: Array) -> Answers:
            scores, _ = self.parts(rows)
            return Answers(scores.argmax(axis=1), scores)

        def linearize(self, rows: Array) -> Linearization:
            scores, slopes = self.parts(rows)
            return Linearization(
                scores.argmax(axis=1),
                scores,
                lambda weights: (weights * slopes).sum(axis=1)[:, None].astype(rows.dtype),
            )

    x = np.linspace(0.425, 0.43, 20, dtype=np.float32)[:, None]
    labels = np.ones(20, int)
    goal = Goal(LINF, 0.05, 15)
    for wanted, all_of_them in ((None, False), (0 * labels, False), (2 * labels, True)):
        meter = Meter(Line(), x, labels, goal)
        descend(meter, np.random.default_rng(0), margin, 15, wanted)
        assert meter.broken.all() == all_of_them, wanted
    # Which come next is told by the scores at the samples.
    taken = Descent().goals_of(Subject(Line(), x, labels, LINF, 0.05))
    assert [set(one.tolist()) for one in taken] == [{0}, {2}]


def test_a_gradient_keeps_to_what_can_follow_it() -> None:
    frozen = Constraints.of(4, immutable=[3])
    for dtype, end in (("float32", 1.0), ("uint8", 9.0)):
        domain = Domain.of((4,), 0.0, end, dtype, frozen)
        rows = np.array([[0, end, 0, 0], [end, 0, end, 0]], domain.work_dtype)
        gradient = np.array([[-1.0, 1, 1, 1], [-1, 1, 1, 1]])
        assert within(domain, rows, rows, gradient).tolist() == [[0, 0, 1, 0], [-1, 1, 0, 0]]


def test_samples_of_one_class_do_not_tell_whether_another_can_be_reached() -> None:
    labels = np.where(Y == 0, 0, (Y + 1) % CLASSES)
    assert (Y == 0).sum() >= 10
    found = examine(Slope(), X, labels, LINF, EPS)
    assert "one class" in sign(found, "unbounded_fails").message
    assert found.verdict is Verdict.NOT_EVALUATED


def test_answers_that_are_missing_are_no_second_label() -> None:
    class Silent(Slope):
        def predict(self, rows: Array) -> Answers:
            return Answers(np.where(rows[:, 0] < 0.5, UNANSWERED, 0))

    found = examine(Silent(), X, np.zeros(COUNT, int), LINF, EPS)
    assert found.verdict is Verdict.NOT_EVALUATED
    assert "the same label" in found.signs[0].message


# Odd outputs, and what a target does not give


def test_what_cannot_be_told_is_not_evaluated_by_name_and_never_honest() -> None:
    label_only = Fake(capabilities=frozenset({Capability.LABEL}))
    scored = Fake(capabilities=frozenset({Capability.LABEL, Capability.SCORES}))
    for target, needs in ((label_only, 9), (scored, 9)):
        found = looked(target)
        assert found.verdict is Verdict.NOT_EVALUATED
        missing = [one for one in found.signs if one.seen is None]
        assert len(missing) >= needs
        for one in missing:
            assert one.message.startswith("the target gives no ")
            assert one.value is None
        assert sign(found, "randomised").seen is False


def test_randomness_is_seen_without_scores() -> None:
    target = Fake(served=drawn(), capabilities=frozenset({Capability.LABEL}))
    assert looked(target).verdict is Verdict.MASKED


def test_constant_answers_say_nothing() -> None:
    flat = Slope(served=lambda scores, rows: np.zeros_like(scores))
    found = examine(flat, X, np.zeros(COUNT, int), LINF, EPS)
    assert found.verdict is Verdict.NOT_EVALUATED
    assert {one.message for one in found.signs} == {"the target gives every sample the same label"}


def test_scores_that_are_no_numbers_are_masked_or_not_evaluated() -> None:
    none = Slope(served=lambda scores, rows: np.full_like(scores, np.nan))
    found = examine(none, X, np.zeros(COUNT, int), LINF, EPS)
    assert found.verdict is Verdict.NOT_EVALUATED
    assert found.signs[0].message == "no sample has finite scores"

    def holes(scores: Array, rows: Array) -> Array:
        return np.where((rows[:, :1] < 0.3) & (np.arange(CLASSES) == 1), np.nan, scores)

    some = Slope(served=holes)
    found = examine(some, X, some.predict(X).labels, LINF, EPS)
    assert found.verdict is Verdict.MASKED
    assert sign(found, "vanishing_gradient").seen


def test_a_gradient_that_is_no_number_is_masked() -> None:
    found = looked(Slope(bent=lambda g, rows: np.full_like(g, np.inf)))
    assert found.verdict is Verdict.MASKED
    assert sign(found, "vanishing_gradient").value == 1.0


def test_too_few_samples_are_not_evaluated() -> None:
    found = examine(Slope(), X[:8], Y[:8], LINF, EPS)
    assert found.verdict is Verdict.NOT_EVALUATED
    assert "8 samples" in found.signs[0].message
    wrong = examine(Slope(), X, (Y + 1) % CLASSES, LINF, EPS)
    assert wrong.verdict is Verdict.NOT_EVALUATED


def test_a_norm_that_nothing_searches_is_said() -> None:
    found = looked(Slope(), norm=L1)
    assert found.verdict is Verdict.NOT_EVALUATED
    assert "l1" in found.signs[0].message


def test_samples_that_do_not_fit_are_refused() -> None:
    for x, y, eps in ((X, Y[:-1], EPS), (X[:, :-1], Y, EPS), (X[:0], Y[:0], EPS), (X, Y, 0.0)):
        with pytest.raises(InputError) as caught:
            examine(Slope(), x, y, LINF, eps)
        assert caught.value.code == "masking.bad_samples"
    with pytest.raises(InputError) as caught:
        looked(Slope(), eps=float("nan"))
    assert caught.value.code == "attack.bad_eps"
    with pytest.raises(InputError):
        looked(Slope(), standing=np.ones(3, bool))


def test_constraints_that_forbid_another_class_leave_the_unbounded_attack_out() -> None:
    frozen = Constraints.of(WIDTH, immutable=range(WIDTH))
    target = Slope(domain=Domain.of((WIDTH,), 0.0, 1.0, constraints=frozen))
    found = looked(target)
    assert sign(found, "unbounded_fails").seen is None
    assert found.verdict is not Verdict.HONEST
    some = Constraints.of(WIDTH, immutable=(0, 1))
    target = Slope(domain=Domain.of((WIDTH,), 0.0, 1.0, constraints=some))
    assert looked(target).verdict is Verdict.HONEST


# What an outer suite hands in


def test_an_attack_from_outside_decides_what_stands() -> None:
    everything = looked(Slope(), standing=np.ones(COUNT, bool))
    assert {"black_box", "transfer"} <= set(everything.seen)
    assert everything.verdict is Verdict.MASKED
    nothing = looked(Slope(bent=turned), standing=np.zeros(COUNT, bool))
    assert not {"black_box", "transfer", "one_step_better"} & set(nothing.seen)


def test_what_stands_is_told_of_the_samples_that_were_given() -> None:
    """The wrong ones among them are left out, and the others stay in their places."""
    labels = Y.copy()
    labels[::2] = (labels[::2] + 1) % CLASSES
    standing = np.zeros(COUNT, bool)
    standing[1::2] = True
    subject = Subject(Slope(), X, labels, LINF, EPS, standing=standing)
    assert len(subject.x) == COUNT // 2
    assert subject.handed is not None
    assert subject.handed.all()


# Cost and determinism


def test_no_more_is_asked_than_is_stated() -> None:
    for bent in (zero, turned, lambda g, rows: g):
        target = Slope(bent=bent)
        found = looked(target)
        assert found.queries <= found.cost == cost_of(SIGNS)
        assert sum(target.asked) <= found.cost * COUNT
    # What is hard to break is asked to the end, or nearly.
    assert looked(Slope(bent=zero), eps=0.01).queries > 0.9 * cost_of(SIGNS)


@pytest.mark.parametrize("name", SHOWS)
def test_each_sign_states_all_that_it_asks(name: str) -> None:
    for target in (Slope(bent=zero), Slope()):
        found = looked(target, checks=[check(name)])
        assert sign(found, name).seen is not None
        assert found.queries <= found.cost
        assert sum(target.asked) <= found.cost * COUNT


def test_a_measure_that_asks_more_than_it_states_is_stopped() -> None:
    @dataclass(frozen=True)
    class Greedy:
        name: ClassVar[str] = "greedy"
        needs: ClassVar[Capability] = Capability.LABEL
        cost: int = 3

        def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> None:
            meters(EPS, 2)
            meters(EPS, 2)

    subject = Subject(Slope(), X, Y, LINF, EPS)
    with pytest.raises(NotEvaluated, match="states"):
        subject.of(Greedy())
    assert subject.queries == 1


def test_the_same_seed_finds_the_same_and_no_sign_depends_on_another() -> None:
    target = Slope(bent=turned)
    found = looked(target, seed=4)
    assert looked(target, seed=4) == found
    assert looked(target, seed=5) != found
    for one in SIGNS:
        assert looked(target, seed=4, checks=[one]).signs == (sign(found, one.name),)


def test_scores_and_gradients_are_random_where_no_label_is() -> None:
    rng = np.random.default_rng(0)

    def trembling(scores: Array, rows: Array) -> Array:
        return (scores * (1 + 0.01 * rng.normal(size=scores.shape))).astype(np.float32)

    def shaken(gradient: Array, rows: Array) -> Array:
        return (gradient * (1 + 0.01 * rng.normal(size=gradient.shape))).astype(np.float32)

    clear = np.sort(Slope().scores(X), axis=1)
    far = clear[:, -1] - clear[:, -2] > 1
    for target in (Slope(served=trembling), Slope(bent=shaken)):
        found = examine(target, X[far], Y[far], LINF, EPS, checks=[check("randomised")])
        assert found.verdict is Verdict.MASKED
        assert found.signs[0].message.startswith("0 of")
        assert found.signs[0].message.endswith("EOT")


def test_rounding_apart_nothing_is_randomised() -> None:
    """Sums in another order differ in their last digits."""
    rng = np.random.default_rng(0)

    def rounded(scores: Array, rows: Array) -> Array:
        return (scores * (1 + 1e-6 * rng.normal(size=scores.shape))).astype(np.float32)

    assert looked(Slope(served=rounded)).verdict is Verdict.HONEST


# The verdict and the pieces


def signed(seen: bool | None, weight: Weight) -> Sign:
    return Sign("one", seen, 0.0, 0.1, "", weight)


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.sampled_from(Weight))))
def test_only_proof_is_masked_and_only_all_of_it_is_honest(
    given: list[tuple[bool | None, Weight]],
) -> None:
    found = verdict_of([signed(*one) for one in given])
    proofs = [seen for seen, weight in given if weight is Weight.PROVES]
    assert (found is Verdict.MASKED) == (True in proofs)
    assert (found is Verdict.HONEST) == (bool(proofs) and all(one is False for one in proofs))


def test_a_finding_is_plain_data() -> None:
    found = looked(Slope(), checks=[check("black_box")]).to_dict()
    assert found["verdict"] == "honest"
    assert set(found) == {"verdict", "signs", "queries", "cost"}
    assert set(found["signs"][0]) == {"name", "seen", "value", "limit", "message", "weight"}


def test_one_of_a_few_is_chance() -> None:
    assert not exceeds(1, 10, 0.02)
    assert not exceeds(3, 100, 0.02)
    assert exceeds(8, 100, 0.02)


def test_windows_are_squares_over_all_channels() -> None:
    rng = np.random.default_rng(0)
    found = windows(Domain.of((2, 6, 6), 0.0, 1.0), rng, 50, 0.25).reshape(50, 2, 6, 6)
    assert (found.sum(axis=(2, 3)) == 9).all()
    assert (found[:, 0] == found[:, 1]).all()
    assert (found.any(axis=(1, 3)).sum(axis=1) == 3).all()
    single = windows(DOMAIN, rng, 50, 0.01)
    assert single.any(axis=1).all()
    assert single.mean() < 0.2


@given(st.integers(1, 400), st.floats(0, 0.5))
def test_a_share_exceeds_only_beyond_chance(n: int, limit: float) -> None:
    flags = [exceeds(hits, n, limit) for hits in range(n + 1)]
    assert flags == sorted(flags)
    assert not any(flags[hits] for hits in range(n + 1) if hits / n <= limit)


def test_agreement_is_a_cosine_and_silence_is_none() -> None:
    grew = np.array([[1.0, -2.0], [1.0, -2.0], [0.0, 0.0], [1.0, 1.0]])
    said = np.array([[2.0, -4.0], [-1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    found = Compared(grew, said, np.full((4, 1), 1e-3)).agreement()
    assert found[:2] == pytest.approx([1.0, -1.0])
    assert np.isnan(found[2])
    assert found[3] == 0.0


def test_a_surrogate_learns_and_its_gradient_is_its_own() -> None:
    rng = np.random.default_rng(2)
    rows = X.astype(np.float64)
    model = Network.fit(rows, Y, CLASSES, DOMAIN, rng)
    assert (model.scores(rows).argmax(axis=1) == Y).mean() > 0.9
    exact = replace(
        model,
        first=model.first.astype(np.float64),
        second=model.second.astype(np.float64),
    )
    way = 1e-6 * rng.normal(size=rows.shape)
    grew = margin(exact.scores(rows + way), Y)[0] - margin(exact.scores(rows - way), Y)[0]
    said = 2 * (exact.climb(rows, Y, margin) * way).sum(axis=1)
    assert grew == pytest.approx(said, rel=1e-3, abs=1e-9)


def test_pictures_are_searched_by_windows_and_whole_numbers_by_whole_steps() -> None:
    picture = Domain.of((3, 2, 2), 0.0, 1.0)
    assert looked(Slope(bent=turned, domain=picture)).verdict is Verdict.MASKED
    assert looked(Slope(domain=picture)).verdict is Verdict.HONEST

    @dataclass
    class Bytes(Slope):
        domain: Domain = field(default_factory=lambda: Domain.of((WIDTH,), 0, 255, "uint8"))

        def scores(self, rows: Array) -> Array:
            return super().scores(rows / 255)

    whole = np.rint(X * 255)
    target = Bytes(bent=lambda g, rows: g / 255)
    labels = target.predict(whole).labels
    assert examine(target, whole, labels, LINF, 30.0).verdict is Verdict.HONEST
    # A step of 3 % of one unit is rounded up to one.
    assert examine(target, whole, labels, LINF, 3.0).verdict is Verdict.HONEST
    masked = replace(target, bent=turned)
    assert examine(masked, whole, labels, LINF, 30.0).verdict is Verdict.MASKED


# Real models: the whole zoo is slow


FEW = ("logistic regression", "tanh MLP", "sign activations", "one-hot", "detached")


def test_a_few_of_the_zoo_are_called_what_they_are(
    need_module: Callable[[str], ModuleType],
) -> None:
    need_module("torch").set_num_threads(1)
    need_module("sklearn")
    from bench import zoo as animals

    zoo = animals.Zoo(0)
    # The masks are what is looked at: a net that is trained in no time wears them as well.
    zoo.robust = zoo.trained(animals.perceptron(), rounds=10)
    for name in FEW:
        found = examine(zoo.target(name), zoo.x[:40], zoo.y[:40], LINF, animals.EPS)
        wanted = Verdict.MASKED if name in animals.MASKED else Verdict.HONEST
        assert found.verdict is wanted, (name, found.seen)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_all_that_mask_are_masked_and_no_honest_model_is(
    seed: int, need_module: Callable[[str], ModuleType]
) -> None:
    need_module("torch").set_num_threads(1)
    need_module("sklearn")
    from bench import masking as bench
    from bench import zoo as animals

    assert len(animals.MASKED) >= 6
    assert len(animals.HONEST) >= 6
    zoo = animals.Zoo(seed)
    rows = [bench.one(zoo, name, truth=False) for name in (*animals.HONEST, *animals.MASKED)]
    assert [(row.name, row.found.seen) for row in rows if not row.right] == []
    assert all(row.found.queries <= row.found.cost for row in rows)
