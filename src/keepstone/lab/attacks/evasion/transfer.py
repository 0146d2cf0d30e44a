"""Transfer: attack a model of one's own, and ask the target about what was found.

Promise: whatever the surrogate says counts for nothing: each candidate is judged by the target's
served label. Finds what a target hides that gives no useful gradients or scores: a model that
resembles it has them. Where it beats the attacks with gradients, those were masked.

How: the surrogate is one that the caller has (`surrogate`, a target with gradients on the same
domain), or a small network of one hidden layer, trained here on the samples and on what the target
says around them (Jacobian augmentation, Papernot et al. 2017), for which some of the budget is
spent. Momentum iterative steps on it give the candidates, one a query, each further along.

Cost: `probes` queries of each sample for training, and `steps` for candidates. Blind spots: targets
that resemble no surrogate; ones that answer far from the data at random.

Source: Papernot et al. 2017; Dong et al. 2018 (momentum).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.attacks.evasion.bounds import costs, into, lengths, radius
from keepstone.lab.attacks.evasion.network import Network
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import cross_entropy
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, GradientTarget

# Of the scores and labels of rows, the gradient by the rows of the loss that is to grow.
Gradient = Callable[[Array, Array], Array]


@dataclass(frozen=True, slots=True)
class Transfer:
    """`surrogate` None trains one. Raises InputError `attack.no_eps`, `attack.bad_surrogate`."""

    surrogate: GradientTarget | None = None
    probes: int = 4
    steps: int = 10
    restarts: int = 3
    momentum: float = 0.9

    name: ClassVar[str] = "transfer"
    source: ClassVar[Source] = Source("Papernot et al. 2017, arXiv:1602.02697", "AML.T0043.002")
    needs: ClassVar[Capability] = Capability.LABEL
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        radius(meter)
        if self.surrogate is None:
            gradient = self._trained(meter, rng)
        else:
            gradient = _given(meter, self.surrogate)
        for turn in range(self.restarts):
            self._steps(meter, rng, gradient, turn)

    def _steps(self, meter: Meter, rng: np.random.Generator, gradient: Gradient, turn: int) -> None:
        """One climb of the surrogate's loss; the target is asked about each place on it."""
        norm, cost, eps = meter.goal.norm, costs(meter), radius(meter)
        rows, pull = meter.x.copy(), np.zeros_like(meter.x)
        if turn:
            drawn = norm.noise(rng, len(rows), rows.shape[1]) * eps / cost
            rows = into(meter, np.arange(len(rows)), (rows + drawn).astype(rows.dtype))
        # Half the steps reach the edge of epsilon, the others walk along it.
        length = 2 * eps / self.steps
        for _ in range(self.steps):
            at = meter.standing()
            if not at.size:
                return
            slope = gradient(rows[at], meter.y[at]) / cost
            slope /= np.maximum(np.abs(slope).sum(axis=1, keepdims=True), 1e-30)
            pull[at] = self.momentum * pull[at] + slope
            moved = rows[at] + length * norm.steepest(pull[at]) / cost
            rows[at] = into(meter, at, moved.astype(rows.dtype))
            meter.ask(at, rows[at])

    def _trained(self, meter: Meter, rng: np.random.Generator) -> Gradient:
        """A network that says what the target said, at the samples and around them."""
        scale, low = lengths(meter), meter.domain.low.astype(meter.x.dtype)

        def inside(rows: Array) -> Array:
            return np.asarray((rows - low) / scale)

        network = Network(rng, meter.domain.width, meter.classes)
        # That the target is right on the samples is known: it costs no query.
        seen, said = [inside(meter.x)], [np.eye(meter.classes)[meter.y]]
        network.fit(rng, seen[0], said[0])

        def gradient(rows: Array, labels: Array) -> Array:
            return network.gradient(inside(rows), labels) / scale

        for turn in range(self.probes):
            # More than half of the budget is never spent on training.
            at = meter.standing(max(2, meter.goal.budget // 2))
            if not at.size:
                break
            if turn % 2 == 0:
                slope = gradient(meter.x[at], meter.y[at])
                step = meter.goal.norm.steepest(slope / costs(meter)) * rng.uniform(0.3, 1)
            else:
                step = meter.goal.norm.noise(rng, len(at), meter.domain.width)
            rows = meter.x[at] + radius(meter) * step / costs(meter)
            rows = into(meter, at, rows.astype(meter.x.dtype))
            answers = meter.ask(at, rows)
            known = answers.labels != UNANSWERED
            seen.append(inside(rows[known]))
            said.append(_chances(answers, meter.classes)[known])
            network.fit(rng, np.concatenate(seen), np.concatenate(said))
        return gradient


def _chances(answers: Answers, classes: int) -> Array:
    """What the target thinks likely `(n, k)`: by its scores, or its label alone."""
    hard = np.eye(classes)[np.maximum(answers.labels, 0)]
    if answers.scores is None:
        return hard
    powers = np.exp(answers.scores - answers.scores.max(axis=1, keepdims=True))
    soft = powers / powers.sum(axis=1, keepdims=True)
    # The served label is what the judge goes by.
    return np.where(np.isfinite(soft).all(axis=1, keepdims=True), (soft + hard) / 2, hard)


def _given(meter: Meter, surrogate: GradientTarget) -> Gradient:
    if surrogate.domain.width != meter.domain.width or surrogate.classes != meter.classes:
        raise InputError(
            "attack.bad_surrogate",
            "The surrogate takes other inputs than the target, or tells other classes.",
            "Give one that was trained for the same inputs and classes, or none.",
        )

    def gradient(rows: Array, labels: Array) -> Array:
        found = surrogate.linearize(rows)
        return found.vjp(cross_entropy(found.scores, labels)[1]).astype(rows.dtype)

    return gradient
