"""ART's attacks on our targets, and ART's classifiers as our targets.

Source: Nicolae et al. 2018, Adversarial Robustness Toolbox, https://arxiv.org/abs/1807.01069.
Tried with 1.20.1. Its own classifiers of torch modules fail HopSkipJump and Boundary on NumPy 2;
here they run on every target, since the classifier that they get is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.adapters.metered import WORK, Metered, not_installed, run_outside
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Meter
from keepstone.lab.norms import NORMS
from keepstone.lab.targets.port import (
    Answers,
    Capability,
    Linearization,
    are_probabilities,
    as_scores,
)

_PINS = "adversarial-robustness-toolbox==1.20.1"
_PROBES = 16
# A gradient that is off by more from what the scores do is no gradient of theirs.
_OFF = 0.1
# Reads `y` as the label to reach, and says so nowhere: with the right labels it changes nothing.
_READS_TARGETS = ("DecisionTreeAttack",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtAttack:
    """`make` takes a classifier and gives an attack of `art.attacks.evasion`.

    The classifier serves what the attack `needs`, and tells what is sought as `classifier.goal`:

        ArtAttack(
            name="art-square",
            needs=Capability.SCORES,
            make=lambda asked: SquareAttack(asked, norm=np.inf, eps=asked.goal.eps, max_iter=900),
        )

    `name` is what reports, and a run that is resumed, tell the attack by: name its parameters
    too where they change. `together` runs all samples in one batch: for attacks that ask one row
    for each, in order, whose own `batch_size` is not below the samples. `probabilities` serves
    those in place of scores, which SimBA insists on; where a model is sure they tell less. An
    attack that is set to `targeted` is given the next class as its target.

    Cost: that of the library, up to the budget; one query is kept for what it gives back. The
    gradient of every class costs a query for each class.

    Raises OperationalError `runtime.missing`, `attack.outside_failed`; InputError
    `attack.unmapped`, `attack.unable`.
    """

    source: ClassVar[Source] = Source("https://arxiv.org/abs/1807.01069", "AML.T0043")

    name: str
    make: Callable[[Any], Any] = field(repr=False)
    needs: Capability
    norms: frozenset[str] = frozenset(NORMS)
    minimizes: bool = False
    together: bool = False
    probabilities: bool = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        run_outside(self._attack, "ART", meter, rng, self.needs, together=self.together)

    def _attack(self, asked: Metered) -> object:
        attack = self._made(asked)
        if "verbose" in attack.attack_params:
            attack.set_params(verbose=False)
        with _seeded_states():
            return attack.generate(asked.inputs, _labels(attack, asked))

    def _made(self, asked: Metered) -> Any:
        _library()
        from art.exceptions import EstimatorError

        classifier = art_classifier(
            asked,
            gradient=self.needs is Capability.GRADIENT,
            probabilities=self.probabilities and self.needs is Capability.SCORES,
        )
        try:
            return self.make(classifier)
        except EstimatorError as error:
            raise InputError(
                "attack.unable",
                f"ART's attack cannot use a classifier that serves the {self.needs.value}.",
                "Declare what it needs, or give it a classifier of ART's own.",
            ) from error


def art_classifier(asked: Metered, *, gradient: bool, probabilities: bool = False) -> Any:
    """One of ART's classifiers that asks a meter; with `gradient` for its white-box attacks."""
    _library()
    from art.estimators import LossGradientsMixin
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork
    from art.estimators.classification.classifier import ClassGradientsMixin

    class Served(BlackBoxClassifierNeuralNetwork):  # type: ignore[misc]
        goal = asked.goal

        def predict(self, x: Any, batch_size: int = 128, **_: Any) -> Array:
            # Never cut to the batch's size: which row is whose would be lost.
            found = asked.outputs(x)
            return _softmax(found) if probabilities else found

        def compute_loss(self, x: Any, y: Any, **_: Any) -> Array:
            likely = (_softmax(asked.outputs(x)) * _wanted(y, asked.classes)).sum(axis=1)
            return np.asarray(-np.log(np.maximum(likely, np.finfo(WORK).tiny)))

    class Differentiable(Served, LossGradientsMixin, ClassGradientsMixin):  # type: ignore[misc]
        def loss_gradient(self, x: Any, y: Any, **_: Any) -> Array:
            """Of the cross-entropy."""
            scores, pull = asked.linearize(x)
            return pull(_softmax(scores) - _wanted(y, asked.classes))

        def class_gradient(self, x: Any, label: Any = None, **_: Any) -> Array:
            one = np.eye(asked.classes, dtype=WORK)
            labels = range(asked.classes) if label is None else [label]
            # A linearization gives one gradient; each class is asked anew, and counted.
            found = [
                asked.linearize(x)[1](np.broadcast_to(one[each], (len(x), asked.classes)))
                for each in labels
            ]
            return np.stack(found, axis=1)

    low, high = asked.ends
    return (Differentiable if gradient else Served)(
        asked.outputs,
        input_shape=asked.shape,
        nb_classes=asked.classes,
        clip_values=(low, high),
        channels_first=True,
    )


class ArtTarget:
    """A classifier of ART's as a target; class `i` is the i-th of its outputs.

    It has a gradient where its `class_gradient` agrees with finite differences of what it
    predicts: that of some is of the logarithm of their outputs, that of others is neither. With
    preprocessing or defences of its own the target is the whole of it.

    `domain` stands in for clip values that it does not have. Raises InputError
    `target.bad_object`, `attack.bad_domain`; OperationalError `runtime.missing`.
    """

    def __init__(self, classifier: Any, domain: Domain | None = None) -> None:
        _library()
        from art.estimators.classification.classifier import ClassifierMixin

        if not isinstance(classifier, ClassifierMixin):
            raise InputError("target.bad_object", "The object is no classifier of ART.")
        self.classifier = classifier
        self.domain = _domain_of(classifier) if domain is None else domain
        rows = self.domain.draw(_PROBES)
        outputs = self._outputs(rows)
        self._probable = are_probabilities(outputs)
        self.classes = max(2, outputs.shape[1])
        self._of_logarithm: bool | None = None
        if hasattr(classifier, "class_gradient") and outputs.shape[1] > 1:
            self._of_logarithm = self._told_kind(rows)

    @property
    def capabilities(self) -> frozenset[Capability]:
        gradient = set() if self._of_logarithm is None else {Capability.GRADIENT}
        return frozenset({Capability.LABEL, Capability.SCORES} | gradient)

    def predict(self, rows: Array) -> Answers:
        scores = self._scores(rows)
        return Answers(scores.argmax(axis=1), scores)

    def linearize(self, rows: Array) -> Linearization:
        scores = self._scores(rows)

        def vjp(weights: Array) -> Array:
            gradients = self._gradients(rows, scores, bool(self._of_logarithm))
            found = np.einsum("nk,nkd->nd", weights, gradients)
            return np.asarray(found, rows.dtype)

        return Linearization(scores.argmax(axis=1), scores, vjp)

    def _outputs(self, rows: Array) -> Array:
        return np.asarray(self.classifier.predict(self.domain.as_inputs(rows)))

    def _scores(self, rows: Array) -> Array:
        return as_scores(self._outputs(rows), probable=self._probable)

    def _gradients(self, rows: Array, scores: Array, of_logarithm: bool) -> Array:
        """Of each score, `(n, k, d)`."""
        given = self.classifier.class_gradient(self.domain.as_inputs(rows))
        found = np.asarray(given, np.float64).reshape(len(rows), self.classes, -1)
        if self._probable and not of_logarithm:
            found = found / np.exp(scores.astype(np.float64))[:, :, None]
        return found

    def _told_kind(self, rows: Array) -> bool | None:
        """Whether `class_gradient` is of the logarithm of probabilities; None: of nothing."""
        span = self.domain.high - self.domain.low
        step = np.random.default_rng(0).standard_normal(rows.shape) * span * 1e-3
        step = step.astype(rows.dtype)
        scores = self._scores(rows)
        change = (self._scores(rows + step) - self._scores(rows - step)).astype(np.float64) / 2
        off = {}
        for of_logarithm in (False, True) if self._probable else (False,):
            told = np.einsum("nkd,nd->nk", self._gradients(rows, scores, of_logarithm), step)
            size = np.abs(change) + np.abs(told)
            apart = np.abs(told - change)
            # Where outputs saturate there is nothing to compare.
            known = size > 1e-6
            off[of_logarithm] = float(np.median(apart[known] / size[known])) if known.any() else 1
        best = min(off, key=lambda kind: off[kind])
        return best if off[best] <= _OFF else None


def _labels(attack: Any, asked: Metered) -> Array | None:
    """What the attack takes for `y`: the right labels, or those to reach."""
    if type(attack).__name__ in _READS_TARGETS:
        return None
    targeted = getattr(attack, "targeted", False)
    labels = (asked.labels + 1) % asked.classes if targeted else asked.labels
    return np.asarray(np.eye(asked.classes, dtype=WORK)[labels])


@contextmanager
def _seeded_states() -> Iterator[None]:
    """Seed the generators that ART makes without a seed: HopSkipJump and Boundary start from one.

    Like the seeds of the whole process, it is no place for two threads.
    """
    given = np.random.RandomState

    class OfItsKind(type):
        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, given)

    class Seeded(np.random.RandomState, metaclass=OfItsKind):
        def __init__(self, seed: Any = None) -> None:
            super().__init__(np.random.randint(2**31) if seed is None else seed)

    np.random.RandomState = Seeded  # type: ignore[misc]
    try:
        yield
    finally:
        np.random.RandomState = given  # type: ignore[misc]


def _domain_of(classifier: Any) -> Domain:
    shape = tuple(classifier.input_shape)
    if classifier.clip_values is None or not all(isinstance(one, int) for one in shape):
        raise InputError(
            "attack.bad_domain",
            "The classifier does not say the shape and the range of its inputs.",
            "Make it with clip_values, or give a domain.",
        )
    return Domain.of(shape, *classifier.clip_values)


def _wanted(y: Any, classes: int) -> Array:
    """Labels as one row of weights each, however ART has them."""
    found = np.asarray(y)
    return found if found.ndim == 2 else np.eye(classes, dtype=WORK)[found.astype(int)]


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _library() -> None:
    try:
        import art  # noqa: F401
    except ImportError as error:
        raise not_installed("The Adversarial Robustness Toolbox", _PINS) from error
