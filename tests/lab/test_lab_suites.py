"""Suites: what is worst over attacks, what does not count, and the verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import told as defences_told
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.masking.listed import SIGNS
from keepstone.lab.masking.port import Sign, Weight
from keepstone.lab.metrics.wilson import share
from keepstone.lab.norms import L0, L1, LINF
from keepstone.lab.problem import Verdict, insufficient, invalid
from keepstone.lab.suites.catalogue import suite_called
from keepstone.lab.suites.clean import look_at_clean
from keepstone.lab.suites.masking import Masking
from keepstone.lab.suites.memory import Memory
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.question import Question, asked
from keepstone.lab.suites.result import AtEps, Ran, SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.suites.verdict import decide
from keepstone.lab.targets.port import Answers, Capability
from tests.lab.fakes import UNIT, Linear, Towards, halves

rng = np.random.default_rng(3)
X = rng.uniform(0, 1, (200, 2))
Y = (X[:, 0] > X[:, 1]).astype(int)
# Half the difference of the two numbers: what a change of both can overcome.
GAP = np.abs(X[:, 0] - X[:, 1]) / 2
NO_TREES = frozenset(Capability) - {Capability.TREES}


def question(*epsilons: float, **changed: object) -> Question:
    plain: dict[str, object] = {"norm": LINF, "epsilons": epsilons or (0.1,), "samples": 200}
    return Question(**(plain | changed))  # type: ignore[arg-type]


class Back(Towards):
    name = "back"


def both(*attacks: object) -> Suite:
    chosen = attacks or (Towards((0.0, 1.0)), Back((1.0, 0.0)))
    return Suite("both", 200, lambda able: tuple(Step(one, 50, 10) for one in chosen))  # type: ignore[arg-type]


def run(target: Linear | None = None, y: np.ndarray = Y, **given: object) -> SuiteResult:
    suite = given.pop("suite", both())
    asking = given.pop("question", question())
    return run_suite(target or halves(), X, y, suite, asking, **given)  # type: ignore[arg-type]


def test_the_worst_case_is_taken_sample_by_sample() -> None:
    found = run(question=question(0.05, 0.1, at_least=0.3))
    assert found.clean.value == 1
    for one in found.robust:
        assert one.robust.hits == (one.eps < GAP).sum()
    alone = [run(suite=both(one)) for one in (Towards((0.0, 1.0)), Towards((1.0, 0.0)))]
    assert all(one.robust[0].robust.hits > found.robust[1].robust.hits for one in alone)
    assert found.verdict is Verdict.PASS


def test_an_attack_goes_only_for_what_still_stands() -> None:
    found = run(question=question(0.05, 0.1))
    attacked = [one.attacked for one in found.attacks]
    # The second attack begins where the first left off, a larger epsilon where a smaller did.
    assert attacked[0] == attacked[1] == 200 - 0 or attacked[0] == 200
    assert attacked[2] == 200 - found.attacks[0].broken
    assert all(one.queries_max <= one.budget for one in found.attacks)


def test_what_is_served_wrongly_is_not_robust() -> None:
    y = Y.copy()
    y[:40] = 1 - y[:40]
    found = run(y=y)
    assert found.clean.hits == 160
    assert found.robust[0].robust.hits == (GAP[40:] > 0.1).sum()
    assert found.robust[0].robust.n == 200


def test_what_was_found_is_told_as_it_was_served() -> None:
    found = run()
    broken = found.worst.attack >= 0
    assert broken.any()
    assert (found.worst.label[broken] != Y[broken]).all()
    assert found.worst.distance[broken] == pytest.approx(
        np.abs(found.worst.rows - X)[broken].max(axis=1)
    )


def test_everything_that_was_asked_is_counted() -> None:
    target = halves()
    found = run(target)
    assert found.queries == target.rows_asked


def test_labels_of_another_model_are_invalid() -> None:
    found = run(y=1 - Y)
    assert found.verdict is Verdict.INVALID
    assert [one.code for one in found.problems] == ["attack.labels_mismatch"]


@pytest.mark.parametrize("seed", range(5))
def test_labels_that_were_shuffled_are_invalid(seed: int) -> None:
    """By chance they are right for half: more than the commonest class may be, and no knowledge."""
    found = run(y=np.random.default_rng(seed).permutation(Y), question=question(0.01))
    assert found.verdict is Verdict.INVALID
    assert [one.code for one in found.problems] == ["attack.labels_mismatch"]


class Says:
    """A target that says these labels of rows of one number, and no scores."""

    capabilities = frozenset({Capability.LABEL})
    domain = Domain.of((1,), 0.0, 1e6, "float64")

    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.classes = labels, int(labels.max()) + 1

    def predict(self, rows: np.ndarray) -> Answers:
        return Answers(self.labels[rows[:, 0].astype(int)])


def mismatched(labels: np.ndarray, y: np.ndarray) -> bool:
    found = look_at_clean(Says(labels), np.arange(len(y), dtype=float)[:, None], y)
    return "attack.labels_mismatch" in {one.code for one in found.problems}


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_model_of_rare_classes_is_told_from_wrong_labels(seed: int) -> None:
    """One in fifty is of the rare class; of these the model finds a third, and says it of as many
    others: it is right for no more than who always says the commonest class."""
    draw = np.random.default_rng(seed)
    y = (np.arange(2000) % 50 == 0).astype(np.int64)
    labels = np.where(draw.random(2000) < np.where(y == 1, 0.33, 0.015), 1, 0)
    assert (labels == y).mean() < 0.98
    assert not mismatched(labels, y)
    # One of forty shuffles looks like knowledge.
    assert sum(mismatched(draw.permutation(labels), y) for _ in range(10)) >= 8
    # Of ten classes a fifth is little, and twice what chance gives.
    y = draw.integers(0, 10, 300)
    labels = np.where(draw.random(300) < 0.12, y, draw.integers(0, 10, 300))
    assert not mismatched(labels, y)
    assert sum(mismatched(draw.permutation(labels), y) for _ in range(10)) >= 8
    # Of few samples that it is right by more than chance has still to be seen.
    assert not mismatched(y[:12], y[:12])
    assert mismatched((y[:12] + 1) % 10, y[:12])


def test_a_target_that_always_says_the_same() -> None:
    constant = Linear(np.zeros((2, 2)), np.array([0.0, 1.0]))
    found = run(constant)
    assert found.verdict is Verdict.INVALID
    assert "attack.constant" in {one.code for one in found.problems}


def test_scores_that_are_no_numbers() -> None:
    found = run(Linear(np.array([[np.nan, 1.0], [1.0, -1.0]]), np.zeros(2)))
    assert found.verdict is Verdict.INVALID
    assert "attack.not_finite" in {one.code for one in found.problems}


def test_a_target_that_changes_its_answers() -> None:
    class Fickle(Linear):
        def predict(self, rows: np.ndarray) -> object:
            found = super().predict(rows)
            if len(self.asked) % 2:
                return found
            return type(found)(1 - found.labels, found.scores)

    found = run(Fickle(halves().weights, np.zeros(2)))
    assert found.verdict is Verdict.INVALID
    assert "attack.unstable" in {one.code for one in found.problems}


def test_a_target_that_lies_about_its_scores() -> None:
    class Liar(Linear):
        def predict(self, rows: np.ndarray) -> object:
            found = super().predict(rows)
            return type(found)(found.labels, -found.scores)

    found = run(Liar(halves().weights, np.zeros(2)))
    assert [one.code for one in found.problems] == ["attack.lying_scores"]
    assert found.verdict is Verdict.INVALID


@pytest.mark.parametrize("answered", [0, 300, 500])
def test_a_target_that_stops_answering_is_insufficient(answered: int) -> None:
    found = run(halves(silent_from=answered), question=question(0.05))
    assert found.verdict is Verdict.INSUFFICIENT
    assert "attack.unanswered" in {one.code for one in found.problems}


def test_samples_of_one_class_are_insufficient() -> None:
    one = Linear(np.zeros((2, 2)), np.array([1.0, 0.0]))
    found = run(one, np.zeros(200, int), question=question(0.5))
    assert found.verdict is not Verdict.PASS
    assert "attack.one_class" in {one.code for one in found.problems}
    assert not found.sufficient


def test_a_row_that_is_there_twice_is_one_sample() -> None:
    suite = both()
    found = run_suite(halves(), X[:2].repeat(100, axis=0), Y[:2].repeat(100), suite, question(0.01))
    assert "attack.too_few" in {one.code for one in found.problems}


def test_an_attack_that_gets_no_answer_left_nothing_standing() -> None:
    """However many answers the attacks before it got."""
    first = run(question=question(0.05), suite=both(Towards((0.0, 1.0))))
    quiet = 2 * len(X) + first.attacks[0].queries
    found = run(halves(silent_from=quiet), question=question(0.05))
    assert found.verdict is Verdict.INSUFFICIENT
    (problem,) = [one for one in found.problems if one.code == "attack.unanswered"]
    assert "of back were not" in problem.message


def test_one_weak_attack_alone_passes_nothing() -> None:
    found = run(question=question(0.01), suite=both(Towards((0.0, 1.0))))
    assert "attack.too_few_attacks" in {one.code for one in found.problems}
    assert found.verdict is Verdict.INSUFFICIENT


def test_what_the_norm_leaves_out_is_told() -> None:
    found = run(question=question(0.01, norm=L1), suite=both(OnlyLinf(), Towards()))
    assert "only-linf: it knows nothing of the norm l1" in found.not_evaluated


class OnlyLinf(Towards):
    name = "only-linf"
    norms = frozenset({"linf"})


def test_too_few_samples_are_insufficient() -> None:
    suite, asking = both(), question(0.01)
    found = run_suite(halves(), X[:50], Y[:50], suite, asking)
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.code for one in found.problems] == ["attack.too_few"]


def test_no_attack_is_no_pass() -> None:
    found = run(halves(capabilities=frozenset({Capability.LABEL})), suite=both(NeedsGradient()))
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.code for one in found.problems] == ["attack.none_ran"]
    assert found.not_evaluated[0] == (
        "needs-gradient: it needs the target's gradient, which it does not declare"
    )


class NeedsGradient(Towards):
    name = "needs-gradient"
    needs = Capability.GRADIENT


def sign(seen: bool | None, weight: Weight, name: str = "flat") -> Sign:
    return Sign(name, seen, 1.0, 0.5, "why", weight)


def test_a_budget_that_breaks_nothing_passes_nothing() -> None:
    assert run(question=question(0.01, budget=10)).verdict is Verdict.PASS
    found = run(question=question(0.01, budget=9))
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.code for one in found.problems] == ["attack.weak"]
    # What is broken is broken, for however little.
    assert run(question=question(0.5, budget=9)).verdict is Verdict.FAIL


def test_a_sign_that_proves_masking_makes_a_pass_invalid() -> None:
    def masked(*_: object) -> Masking:
        return Masking((sign(True, Weight.PROVES),), (), (), 0)

    def hinted(*_: object) -> Masking:
        return Masking((sign(True, Weight.HINTS), sign(None, Weight.HINTS)), (), ("rest",), 7)

    assert run(question=question(0.01), masking=masked).verdict is Verdict.INVALID
    found = run(question=question(0.01), masking=hinted)
    assert found.verdict is Verdict.PASS
    assert found.not_evaluated == ("rest",)


def test_the_gradients_of_an_honest_target_are_examined() -> None:
    found = run(question=question(0.01))
    assert found.verdict is Verdict.PASS
    assert len(found.masking) == len(SIGNS)
    assert not [one for one in found.masking if one.seen]


def test_without_gradients_there_is_nothing_to_mask_and_that_is_told() -> None:
    able = frozenset({Capability.LABEL, Capability.SCORES})
    found = run(halves(capabilities=able), question=question(0.01))
    assert found.verdict is Verdict.PASS
    assert found.masking == ()
    assert [one for one in found.not_evaluated if "no gradient" in one]


@pytest.mark.parametrize("budget", [1, 2, 5, 20])
def test_what_too_small_a_budget_left_proves_nothing_of_an_honest_target(budget: int) -> None:
    """Any search breaks what one question left: the signs go by an attack of their own."""
    small = question(0.2, at_least=0.01, budget=budget)
    found = run(halves(capabilities=NO_TREES), suite=suite_called("quick"), question=small)
    assert found.verdict is Verdict.INSUFFICIENT
    assert {one.code for one in found.problems} == {"attack.weak"}
    assert len(found.masking) == len(SIGNS)
    assert not [one.name for one in found.masking if one.seen and one.weight is Weight.PROVES]


def test_what_masks_is_found_out_however_small_the_budget() -> None:
    class Stepped(Linear):
        def linearize(self, rows: np.ndarray) -> object:
            found = super().linearize(rows)
            return type(found)(found.labels, found.scores, lambda given: np.zeros_like(rows))

    target = Stepped(halves().weights, np.zeros(2), capabilities=NO_TREES)
    small = question(0.2, at_least=0.01, budget=1)
    assert run(target, suite=suite_called("quick"), question=small).verdict is Verdict.INVALID


def test_gradients_that_vanish_make_it_invalid() -> None:
    class Stepped(Linear):
        def linearize(self, rows: np.ndarray) -> object:
            found = super().linearize(rows)
            return type(found)(found.labels, found.scores, lambda given: np.zeros_like(rows))

    found = run(Stepped(halves().weights, np.zeros(2)), question=question(0.01))
    assert found.verdict is Verdict.INVALID


def test_the_json_is_what_is_promised() -> None:
    found = run(question=question(0.05, 0.1)).to_dict()
    assert found["schema"] == "keepstone.attack/v1"
    assert {"verdict", "clean_accuracy", "robust_accuracy", "attacks", "masking"} < found.keys()
    assert found["robust_accuracy"][0].keys() == {"norm", "eps", "value", "low", "high", "n"}
    assert {*("name", "success_rate", "queries_mean", "queries_max", "budget", "cpu_s")} <= found[
        "attacks"
    ][0].keys()
    curve = found["attacks"][0]["curve"]
    assert curve[-1][1] == pytest.approx(found["attacks"][0]["success_rate"], abs=1e-6)
    assert [at for at, _ in found["distortion"]] == sorted(at for at, _ in found["distortion"])


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    first, second = run().to_dict(), run().to_dict()
    for found in (first, second):
        for one in found["attacks"]:
            one["cpu_s"] = 0
    assert first == second


# Going on after a cut


class Counted(Towards):
    runs: list[str] = []  # noqa: RUF012  # of the class, to be counted from outside

    def run(self, meter: object, rng: object) -> None:
        self.runs.append("ran")
        super().run(meter, rng)  # type: ignore[arg-type]


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    Counted.runs.clear()
    suite = both(Counted((0.0, 1.0)), Counted((1.0, 0.0)))
    memory = Memory(tmp_path / "run", Digest.of(b"this"))
    first = run(suite=suite, memory=memory)
    assert len(Counted.runs) == 2
    kept = sorted((tmp_path / "run").glob("*.npz"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    second = run(suite=suite, memory=Memory(tmp_path / "run", Digest.of(b"this")))
    assert len(Counted.runs) == 3
    assert second.robust == first.robust
    assert second.worst.rows.tolist() == first.worst.rows.tolist()


def test_what_was_done_for_other_samples_or_another_domain_is_not_taken(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "run", Digest.of(b"this"))
    first = run(memory=memory)
    held = Constraints.of(2, immutable=[0, 1])
    still = halves(domain=Domain.of((2,), 0.0, 1.0, "float64", held))
    assert run(still, memory=memory).robust[0].robust.hits == 200
    flipped = Y.copy()
    flipped[:20] = 1 - flipped[:20]
    assert run(y=flipped, memory=memory).robust == run(y=flipped).robust
    assert run(memory=memory).robust == first.robust


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    Memory(tmp_path, Digest.of(b"this"))
    with pytest.raises(InputError) as caught:
        Memory(tmp_path, Digest.of(b"that"))
    assert caught.value.code == "attack.other_run"


# The verdict


@given(st.integers(0, 300), st.floats(0.01, 1.0))
def test_a_pass_is_by_the_lower_end_and_a_failure_by_either(hits: int, limit: float) -> None:
    found = share(hits, 300)
    verdict, reasons = decide([AtEps(0.1, found)], limit, [], [])
    assert verdict is (Verdict.PASS if found.low >= limit else Verdict.FAIL)
    assert reasons
    few, _ = decide([AtEps(0.1, found)], limit, [insufficient("x", "few")], [])
    assert few is (Verdict.FAIL if found.high < limit else Verdict.INSUFFICIENT)
    wrong, _ = decide([AtEps(0.1, found)], limit, [invalid("x", "wrong")], [])
    assert wrong is Verdict.INVALID


def test_every_epsilon_has_to_be_enough() -> None:
    rows = [AtEps(0.1, share(290, 300)), AtEps(0.2, share(140, 300))]
    assert decide(rows[:1], 0.5, [], [])[0] is Verdict.PASS
    assert decide(rows, 0.5, [], [])[0] is Verdict.FAIL
    assert decide([], 0.5, [], [])[0] is Verdict.INSUFFICIENT


# What is asked


def test_an_epsilon_needs_a_norm() -> None:
    with pytest.raises(InputError) as caught:
        asked(None, (0.1,), UNIT)
    assert caught.value.code == "attack.no_norm"
    with pytest.raises(InputError) as caught:
        asked("l2", (), UNIT)
    assert caught.value.code == "attack.no_eps"
    uneven = Domain.of((2,), 0.0, np.array([1.0, 9.0]))
    with pytest.raises(InputError) as caught:
        asked(None, (), uneven)
    assert caught.value.code == "attack.no_eps"
    assert asked(None, (), Domain.of((2,), 0.0, 16.0)) == (LINF, (1.6,))
    assert asked("linf", (0.3, 0.1, 0.3), UNIT) == (LINF, (0.1, 0.3))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"epsilons": ()}, "attack.bad_eps"),
        ({"epsilons": (0.0,)}, "attack.bad_eps"),
        ({"epsilons": (float("nan"),)}, "attack.bad_eps"),
        ({"epsilons": (0.2, 0.1)}, "attack.bad_eps"),
        ({"epsilons": (1e300,)}, "attack.bad_eps"),
        ({"epsilons": (0.5,), "norm": L0}, "attack.bad_eps"),
        ({"seed": -1}, "attack.bad_seed"),
        ({"at_least": 0.0}, "attack.bad_limit"),
        ({"at_least": 1.1}, "attack.bad_limit"),
        ({"samples": 0}, "attack.bad_samples"),
        ({"budget": 0}, "attack.bad_budget"),
    ],
)
def test_questions_that_cannot_be(changed: dict[str, object], code: str) -> None:
    with pytest.raises(InputError) as caught:
        question(**changed)
    assert caught.value.code == code


def test_a_curve_tells_when_samples_fell() -> None:
    ran = Ran("a", "a()", "none", "", 0.1, False, 10, 4, 20, 9, 0, 0, 10, 0.1, (1, 1, 3, 9))
    assert ran.curve() == [[1, 0.1], [1, 0.2], [3, 0.3], [9, 0.4]]


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (0, 10), (13, 13), (1, 3), (30, 30)])
def test_a_share_lies_within_its_interval_and_is_told_whole(hits: int, count: int) -> None:
    found = share(hits, count)
    assert 0 <= found.low <= found.value <= found.high <= 1
    told = AtEps(0.1, found).to_dict("linf")
    assert (told["value"], told["low"], told["high"]) == (hits / count, found.low, found.high)
    assert defences_told(found)["value"] == hits / count


def test_wilson() -> None:
    assert (share(0, 0).low, share(0, 0).high) == (0, 1)
    found = share(50, 100)
    assert (round(found.low, 4), round(found.high, 4)) == (0.4038, 0.5962)
    with pytest.raises(InputError):
        share(3, 2)
