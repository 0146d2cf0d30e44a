"""What a defence is worth: the number that is left after attacks by one who knows it.

Promise: a defended model is compared with the undefended one on the same samples. It is attacked
as it declares itself (`plain`), then through its gradient as one who knows the defence sees it
(`adaptive`: BPDA, EOT), and a sample stands only where it stands both times. What was found is
asked of the defended model itself once more. Of one that draws, the plain attack's finds count
where most of several answers are wrong, those of the adaptive one, which went by a mean, always:
where one cannot tell a find from luck, the defence bears it.
A defence whose gain over the undefended model the adaptive attack takes away only masks, and is
called so (`defence.masks`).

A gain that was only seen from outside is no pass: who has the model has more to attack it by. Nor
is one over a gradient that masks, be it the defence's own or that of a model beneath it.

Source: Athalye et al. 2018; Tramer et al. 2020, arXiv 2002.08347 (adaptive attacks). Cost: three
runs of the suite. Blind spots: these are the usual adaptive attacks; a defence that is unlike any
transform of inputs or outputs needs one that is made for it, which its `adaptive` view can give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import checked, told
from keepstone.lab.masking.port import Sign, Weight, exceeds
from keepstone.lab.meter import reach
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient, invalid, worst_of
from keepstone.lab.suites.masking import Masking, look_for_masking
from keepstone.lab.suites.plan import Suite
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets.adaptive import Defended, lent_by, majority
from keepstone.lab.targets.port import Target

SCHEMA = "keepstone.defence/v1"
# One-sided: so often a defence that does nothing is said to gain.
_CHANCE = 0.025
# How often one that draws is asked for what an attack found.
_REPEATS = 11
# So many samples of all may be broken by the plain attack alone.
_SPARE = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """Robust accuracies at `eps` on the same samples: of the undefended model, of the defended one
    by its plain attack alone, and by all attacks (`defended`: the one that counts).

    `gained` samples stand only with the defence, `lost` only without it; `undone` stood against
    the plain attack and fell to the adaptive one. `gains` says whether the defence gains by more
    than chance, and `seemed` whether the plain attack alone would show that.
    """

    eps: float
    undefended: Share
    plain: Share
    defended: Share
    gained: int
    lost: int
    undone: int
    gains: bool
    seemed: bool

    def to_dict(self, norm: str) -> dict[str, Any]:
        return {
            "norm": norm,
            "eps": self.eps,
            **told(self.defended),
            "undefended": told(self.undefended),
            "plain": told(self.plain),
            "gained": self.gained,
            "lost": self.lost,
            "undone": self.undone,
            "gains": self.gains,
            "seemed": self.seemed,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`clean` is the defended model's accuracy without an attack. `pass`: it gains; `fail`: it
    does not; `invalid`: it only masks; `insufficient`: these runs cannot tell.

    The outcomes are those of the three runs, each with its attacks and their costs.
    """

    defence: str
    question: Question
    verdict: Verdict
    problems: tuple[Problem, ...]
    clean: Share
    clean_undefended: Share
    robust: tuple[Compared, ...]
    undefended: SuiteResult
    plain: SuiteResult
    adaptive: SuiteResult

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(one.code for one in self.problems)

    def to_dict(self) -> dict[str, Any]:
        norm = self.question.norm.name
        runs = {"undefended": self.undefended, "plain": self.plain, "adaptive": self.adaptive}
        return {
            "schema": SCHEMA,
            "defence": self.defence,
            "verdict": self.verdict.value,
            "problems": [one.to_dict() for one in self.problems],
            "clean_accuracy": {**told(self.clean), "undefended": told(self.clean_undefended)},
            "robust_accuracy": [one.to_dict(norm) for one in self.robust],
            "masking": [one.to_dict() for one in _signs(self.plain, self.adaptive)],
            "attacks": {name: [one.to_dict() for one in run.attacks] for name, run in runs.items()},
            "not_evaluated": {name: list(run.not_evaluated) for name, run in runs.items()},
            "question": self.question.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class _Run:
    """One run as it stands: which samples the model serves rightly unattacked, which of them the
    view that was attacked does not, and how far the nearest change is that counts."""

    outcome: SuiteResult
    clean: Array
    odd: Array
    distance: Array

    def stands(self, eps: float) -> Array:
        # Odd ones were not attacked, so nobody knows.
        return np.asarray(self.clean & ~self.odd & (self.distance > reach(eps)))


def evaluate(
    defended: Target,
    x: Array,
    y: Array,
    suite: Suite,
    question: Question,
    *,
    name: str = "",
    undefended: Target | None = None,
    adaptive: Target | None = None,
    rivals: Sequence[SuiteResult] = (),
) -> Evaluation:
    """Attack both models on samples `x` (n, d) of classes `y` (n,), given by their places.

    `undefended` and `adaptive` are those that the defence names, unless others are given. A target
    that is not `Defended`, as one that was trained otherwise, is its own adaptive view, and takes
    an `undefended` to be compared with. `rivals` are runs of other models on these samples: at each
    epsilon the best of all counts as undefended. Deterministic by the question's seed. Raises
    InputError `defence.bad_data`, `defence.no_baseline`, and what the targets raise.
    """
    x, y = checked(x, y, defended.domain.width, defended.classes)
    around = defended if isinstance(defended, Defended) else None
    bare = undefended or (around and around.undefended)
    if bare is None:
        raise InputError(
            "defence.no_baseline",
            "There is no undefended model to compare the defended one with.",
            "Give the model that was trained without the defence.",
        )
    randomised = around is not None and around.randomised
    # (1) The draws begin anew, so that they are the same for a seed.
    shown = defended if around is None else around.begun(question.seed)
    without = _run(bare, bare, x, y, suite, question)
    plain = _run(shown, shown, x, y, suite, question, randomised=randomised, plain=True)
    # (2)
    seen = adaptive or (shown.adaptive() if isinstance(shown, Defended) else shown)
    known = plain
    if seen is not shown:
        known = _run(seen, shown, x, y, suite, question, randomised=randomised)
    # (3) Only the same samples can be compared.
    runs = (without, plain, known)
    bests = (without, *map(_again, rivals))
    paired = all(len(run.clean) == len(x) for run in (*runs, *bests))
    epsilons = question.epsilons if paired else ()
    robust = tuple(
        _compared(_standing(bests, eps), plain.stands(eps), known.stands(eps), eps, len(epsilons))
        for eps in epsilons
    )
    problems = _problems(runs, robust, randomised)
    return Evaluation(
        name or getattr(defended, "name", type(defended).__name__),
        question,
        worst_of(problems),
        problems,
        _share(plain.clean),
        _share(without.clean),
        robust,
        without.outcome,
        plain.outcome,
        known.outcome,
    )


def more(gained: int, lost: int, tests: int = 1) -> bool:
    """Whether so many changes for the better are more than chance (McNemar's test, exact), where
    one of so many `tests` is enough (Bonferroni).

    That is the chance of the samples: what another training would come to it does not say.
    """
    count = gained + lost
    tail = sum(comb(count, k) for k in range(gained, count + 1)) / 2**count
    return gained > lost and tail <= _CHANCE / tests


def _run(
    attacked: Target,
    served: Target,
    x: Array,
    y: Array,
    suite: Suite,
    question: Question,
    *,
    randomised: bool = False,
    plain: bool = False,
) -> _Run:
    """Attack one view of a model; what was found counts by what the model itself serves."""
    repeats = _REPEATS if randomised else 1
    if plain:
        outcome = run_suite(attacked, x, y, suite, question)
    else:
        outcome = run_suite(attacked, x, y, suite, question, masking=_look_beneath)
    worst = outcome.worst
    clean = _most(served, worst.x, repeats) == worst.y
    # Of a single draw that it is wrong says nothing.
    odd = clean & ~worst.clean & (not (plain and randomised))
    distance = worst.distance.copy()
    found = np.flatnonzero(np.isfinite(distance))
    if found.size and (plain or not randomised):
        labels = _most(served, worst.rows[found], repeats)
        distance[found[(labels == worst.y[found]) | (labels < 0)]] = np.inf
    return _Run(outcome, np.asarray(clean), np.asarray(odd), distance)


def _look_beneath(
    view: Target, x: Array, y: Array, standing: Array | None, question: Question
) -> Masking:
    """A stand-in for the gradient is none, and signs of masking would only say so. Whose gradient
    it is may mask all the same, and then an attack by it is none."""
    lent = lent_by(view)
    if lent is None:
        return Masking((), (), (), 0)
    # What an attack left of the defence says nothing of another model.
    return look_for_masking(lent, x, y, None, question)


def _most(target: Target, rows: Array, repeats: int) -> Array:
    asked = np.stack([target.predict(rows).labels for _ in range(repeats)])
    return asked[0] if repeats == 1 else majority(asked, target.classes)


def _again(outcome: SuiteResult) -> _Run:
    """A run that was made before: what it found was asked once more then."""
    worst = outcome.worst
    missed = (worst.label == worst.y) | (worst.label < 0)
    distance = np.where(missed, np.inf, worst.distance)
    return _Run(outcome, worst.clean, np.zeros(len(distance), bool), distance)


def _standing(runs: Sequence[_Run], eps: float) -> Array:
    """Which samples the best of these models serves rightly, the first of those that tie."""
    return max((run.stands(eps) for run in runs), key=lambda stands: int(stands.sum()))


def _compared(without: Array, plain: Array, known: Array, eps: float, tests: int) -> Compared:
    both = plain & known
    gained, lost = int((both & ~without).sum()), int((without & ~both).sum())
    return Compared(
        eps,
        _share(without),
        _share(plain),
        _share(both),
        gained,
        lost,
        int((plain & ~known).sum()),
        more(gained, lost, tests),
        more(int((plain & ~without).sum()), int((without & ~plain).sum()), tests),
    )


def _problems(
    runs: Sequence[_Run], robust: Sequence[Compared], randomised: bool
) -> tuple[Problem, ...]:
    without, plain, known = runs
    found = {one.code: one for one in (*without.outcome.problems, *known.outcome.problems)}
    if randomised:
        # That it changes its answers is what it is, and what it was asked repeatedly for.
        found.pop("attack.unstable", None)
    if not robust:
        return (
            *found.values(),
            insufficient(
                "defence.unpaired", "Some samples were not answered, so nothing is compared."
            ),
        )
    return (*found.values(), *_told(plain, known, robust, randomised))


def _told(plain: _Run, known: _Run, robust: Sequence[Compared], randomised: bool) -> list[Problem]:
    """What the comparison itself says."""
    count = len(known.clean)
    odd = int(known.odd.sum())
    # Near a boundary one that draws agrees with nobody; there the defence bears it.
    if not randomised and exceeds(odd, count, _SPARE):
        return [
            invalid(
                "defence.other_view",
                f"The adaptive view answers {odd} of {count} samples otherwise than the defended"
                " model: it is no view of it.",
            )
        ]
    last = robust[-1]
    # It gains at some epsilon, which more of them make likelier by chance alone, and harms at none:
    # of harm each one is asked by itself.
    gains = any(one.gains for one in robust) and not any(
        more(one.lost, one.gained) for one in robust
    )
    worst = min(robust, key=lambda one: one.gained - one.lost)
    alone = int((known.stands(last.eps) & ~plain.stands(last.eps)).sum())
    # One who goes by another gradient, in which no sign is seen, is not stopped by one that masks.
    open_to = known is not plain and _shows_none(known.outcome.masking)
    signs = [] if open_to else _proofs(plain.outcome.masking, randomised)
    # Those of a model beneath are not the defence's doing, and may be why it stands.
    anywhere = _proofs(_signs(plain.outcome, known.outcome), randomised)
    # What the plain attack would have had us believe.
    seemed = [one for one in robust if one.seemed and one.undone and not one.gains]
    if not gains and (signs or seemed):
        return [invalid("defence.masks", _masks(seemed, signs))]
    if not gains:
        return [
            Problem(
                "defence.no_gain",
                Verdict.FAIL,
                f"At eps {worst.eps:g} the robust accuracy is {worst.defended.value:.3f} with the"
                f" defence and {worst.undefended.value:.3f} without it.",
            )
        ]
    found: list[Problem] = []
    if not any(one.strong for one in known.outcome.attacks):
        found.append(
            insufficient(
                "defence.from_outside",
                "The defence gains against attacks from outside alone: nothing here gave them the"
                " gradient or the trees that one has who has the model.",
            )
        )
    if anywhere:
        found.append(
            insufficient(
                "defence.masks_partly",
                f"The defence gains, but its gradients are masked ({', '.join(anywhere)}): the"
                " adaptive attack may have been too weak.",
            )
        )
    if exceeds(alone, count, _SPARE):
        found.append(
            insufficient(
                "defence.weak_adaptive",
                f"{alone} of {count} samples fell to the plain attack and not to the adaptive"
                " one, which is to be the stronger.",
            )
        )
    return found


def _signs(plain: SuiteResult, known: SuiteResult) -> tuple[Sign, ...]:
    return plain.masking if known is plain else plain.masking + known.masking


def _proofs(signs: Sequence[Sign], randomised: bool) -> list[str]:
    # EOT answers that the answers change.
    return [
        sign.name
        for sign in signs
        if sign.seen
        and sign.weight is Weight.PROVES
        and not (randomised and sign.name == "randomised")
    ]


def _shows_none(signs: Sequence[Sign]) -> bool:
    """Whether all that would prove masking were looked for, and none is there."""
    proofs = [sign for sign in signs if sign.weight is Weight.PROVES]
    return bool(proofs) and all(sign.seen is False for sign in proofs)


def _masks(seemed: Sequence[Compared], signs: Sequence[str]) -> str:
    why = []
    if seemed:
        worst = max(seemed, key=lambda one: one.plain.value - one.defended.value)
        why.append(
            f"at eps {worst.eps:g} the plain attack leaves {worst.plain.value:.3f}, one who knows"
            f" the defence {worst.defended.value:.3f}, and without it it is"
            f" {worst.undefended.value:.3f}"
        )
    if signs:
        why.append(f"signs of masking were seen: {', '.join(signs)}")
    return f"The defence masks, and does no more: {'; '.join(why)}."


def _share(stands: Array) -> Share:
    return share(int(stands.sum()), len(stands))
