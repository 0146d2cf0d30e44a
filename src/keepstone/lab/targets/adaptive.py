"""What an attacker who knows a defence sees of it: a gradient around what gives none.

Source: Athalye, Carlini and Wagner 2018, arXiv 1802.00420, for both: the backward pass
differentiable approximation (BPDA) and the expectation over transformation (EOT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.targets.around import Around
from keepstone.lab.targets.port import (
    Answers,
    Capability,
    GradientTarget,
    Linearization,
    Target,
    best_class,
    gradients_of,
)


@runtime_checkable
class Defended(Target, Protocol):
    """A target with a defence around it, which says what it is around and how it is attacked."""

    @property
    def undefended(self) -> Target: ...

    @property
    def randomised(self) -> bool:
        """Whether it may answer the same question in two ways."""
        ...

    def adaptive(self) -> Target:
        """The defence as one sees it who knows it; itself, where nothing is hidden."""
        ...

    def begun(self, seed: int) -> Defended:
        """The same defence, its draws begun anew."""
        ...


class Bpda(Around):
    """`defended` with the gradient of `inner`: forward through `transform`, backward as if that
    were the identity.

    The answers of `linearize` are those of `inner` to the transformed rows, which is what is
    served where the defence is that transform. Without one the labels are the defence's, so that an
    attack goes on until those change, and the scores those of `inner`, for one who has its gradient
    has them too, and goes by them where the gradient leads nowhere. Raises InputError
    `attack.unable` for an `inner` without gradients.
    """

    def __init__(
        self, defended: Target, inner: Target, transform: Callable[[Array], Array] | None = None
    ) -> None:
        super().__init__(defended)
        self.inner = gradients_of(inner)
        self._transform = transform

    @property
    def capabilities(self) -> frozenset[Capability]:
        given = {Capability.GRADIENT}
        if self._transform is None:
            given |= self.inner.capabilities & {Capability.SCORES}
        return super().capabilities | given

    def predict(self, rows: Array) -> Answers:
        found = super().predict(rows)
        if self._transform is not None or Capability.SCORES not in self.inner.capabilities:
            return found
        return Answers(found.labels, self.inner.predict(rows).scores)

    def linearize(self, rows: Array) -> Linearization:
        if self._transform is not None:
            return self.inner.linearize(self._transform(rows))
        found = self.inner.linearize(rows)
        return Linearization(self._served.predict(rows).labels, found.scores, found.vjp)


class Eot(Around):
    """`target`, which draws anew at each question, by the mean of `draws` answers.

    The label is that of the highest mean score (of most answers, where no scores are told). The
    gradient is the mean of the draws' gradients. Each question to it is `draws` questions to the
    target.
    """

    def __init__(self, target: Target, draws: int = 16) -> None:
        if draws < 1:
            raise InputError("defence.bad_parameters", "An expectation takes a draw at least.")
        super().__init__(target)
        self.draws = draws

    @property
    def target(self) -> Target:
        return self._served

    def predict(self, rows: Array) -> Answers:
        found = [self.target.predict(rows) for _ in range(self.draws)]
        scores = [one.scores for one in found if one.scores is not None]
        if len(scores) == self.draws:
            mean = np.mean(scores, axis=0)
            return Answers(best_class(mean), mean)
        return Answers(majority(np.stack([one.labels for one in found]), self.classes))

    def linearize(self, rows: Array) -> Linearization:
        target = gradients_of(self.target)
        found = [target.linearize(rows) for _ in range(self.draws)]
        mean = np.mean([one.scores for one in found], axis=0)

        def vjp(weights: Array) -> Array:
            return np.asarray(np.mean([one.vjp(weights) for one in found], axis=0), rows.dtype)

        return Linearization(best_class(mean), mean, vjp)


def lent_by(view: Target) -> GradientTarget | None:
    """Whose gradient a view goes by that has none of its own; None for one that has."""
    while isinstance(view, Eot):
        view = view.target
    return view.inner if isinstance(view, Bpda) else None


def majority(labels: Array, classes: int) -> Array:
    """Of `(times, n)` labels what each column has most; no answer is one where all are."""
    votes = np.stack([(labels == one).sum(axis=0) for one in range(classes)])
    return np.where(votes.max(axis=0) > 0, votes.argmax(axis=0), -1)
