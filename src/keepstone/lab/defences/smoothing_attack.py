"""The attack on a smoothed classifier by one who knows it, and whether its certificates hold.

Promise: each sample is moved within its own certified radius to where the class that was
certified is served least often under the noise, as far as an attack finds it; what it is served
there is asked with fresh draws. Where the chance of that class is below a half, as surely as the
certificate is sure, the certificate is wrong; more of these than chance allows make all of them
worthless (`defence.certificate_broken`), for then the classifier is not what was certified.

The attack goes up the gradient of the mean of the noise's draws (EOT, as SmoothAdv does). Where a
target tells none, or one that is zero, as a model that rounds its inputs does, it is estimated from
labels by the draws themselves (the score function), which a smoothed classifier always has. Where
every gradient is zero and the labels turned nothing either, nothing was tried
(`defence.not_attacked`).

Source: Salman et al. 2019, arXiv 1906.04584 (SmoothAdv); Cohen et al. 2019, arXiv 1902.02918, for
what is attacked. Cost: of each sample and radius `steps` times `draws` gradients, or `told` labels,
or both where the gradient is zero. Blind spots: an attack that fails proves nothing, the
certificate does; a gradient that misleads without being zero is followed; L2 alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import ABSTAINED, Certificates, checked, told
from keepstone.lab.defences.smoothing import Smoothing
from keepstone.lab.domain import Domain
from keepstone.lab.draws import draws
from keepstone.lab.metrics.clopper_pearson import at_least
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, Verdict, insufficient, invalid, worst_of
from keepstone.lab.targets.port import Capability, Target, gradients_of

# So often certificates that hold are called broken.
_CHANCE = 0.01
# How many numbers are asked at once at most, and how many samples.
_BLOCK = 1 << 22
_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class SmoothAttack:
    """`steps` steps, each by `draws` gradients under the noise; by `told` labels where these say
    no way."""

    steps: int = 20
    draws: int = 16
    told: int = 128
    name: ClassVar[str] = "smooth-adversary"
    source: ClassVar[str] = "Salman et al. 2019, arXiv 1906.04584"

    def __post_init__(self) -> None:
        if min(self.steps, self.draws, self.told) < 1:
            raise InputError("defence.bad_parameters", "An attack takes a step and a draw.")


@dataclass(frozen=True, slots=True, eq=False)
class Adversary:
    """An attack on one smoothed classifier: `target` under the noise of `smoothing`."""

    attack: SmoothAttack
    smoothing: Smoothing
    target: Target
    rng: np.random.Generator

    @property
    def able(self) -> bool:
        """Whether a gradient is declared."""
        return Capability.GRADIENT in self.target.capabilities

    def seek(self, x: Array, labels: Array, radii: Array) -> Array:
        """Rows of the domain no further (L2) than `radii` (n,) from `x` (n, d), where `labels`
        (n,) are served less often under the noise."""
        told, drawn = self.attack.told, self.attack.draws
        copies = (max(drawn, told) if self.able else told) * x.shape[1]
        some = max(1, min(_SAMPLES, _BLOCK // copies))
        parts = [slice(at, at + some) for at in range(0, len(x), some)]
        found = [self._seek(x[part], labels[part], radii[part]) for part in parts]
        return np.concatenate([x[:0], *found])

    def blind(self, x: Array, labels: Array) -> bool:
        """Whether a gradient is declared, and zero at every one of the samples."""
        if not self.able or not len(x):
            return False
        some = max(1, min(_SAMPLES, _BLOCK // (self.attack.draws * x.shape[1])))
        return not any(
            self._by_gradient(x[at : at + some], labels[at : at + some]).any()
            for at in range(0, len(x), some)
        )

    def votes(self, x: Array) -> Array:
        """How often each class is guessed for each row, by fresh draws."""
        return self.smoothing.votes(self.target, x, self.smoothing.guesses, self.rng)

    def _seek(self, x: Array, labels: Array, radii: Array) -> Array:
        found, way = x.copy(), np.zeros_like(x)
        size = 2.5 * radii[:, None] / self.attack.steps
        for _ in range(self.attack.steps):
            slope = self._slope(found, labels)
            # Draws are few: what they said before counts as well.
            way = 0.75 * way + _unit(slope, self.rng)
            found = _within(found + size * _unit(way, self.rng), x, radii, self.target.domain)
        return found

    def _slope(self, x: Array, labels: Array) -> Array:
        if not self.able:
            return self._by_label(x, labels)
        slope = self._by_gradient(x, labels)
        flat = ~slope.any(axis=1)
        if flat.any():
            slope[flat] = self._by_label(x[flat], labels[flat])
        return slope

    def _by_gradient(self, x: Array, labels: Array) -> Array:
        """The way down for the mean probability of `labels`, of any length; 0: none was told."""
        count = self.attack.draws
        rows, _ = self._noisy(x, count)
        found = gradients_of(self.target).linearize(self.target.domain.fit(rows, rows))
        scores = np.asarray(found.scores, np.float64)
        at, own = np.arange(len(rows)), np.repeat(labels, count)
        others = scores.copy()
        others[at, own] = -np.inf
        most = others.max(axis=1, keepdims=True)
        rest = np.exp(others - most)
        odds = scores[at, own] - most[:, 0] - np.log(rest.sum(axis=1))
        # The slope of a probability is p (1 - p) that of its log-odds. Told by logarithms, and
        # for each sample by its largest, for where all are sure it would be zero.
        weights = -np.logaddexp(0, odds) - np.logaddexp(0, -odds)
        weights = weights.reshape(-1, count)
        weights = np.exp(weights - weights.max(axis=1, keepdims=True)).ravel()
        toward = rest / rest.sum(axis=1, keepdims=True)
        toward[at, own] = -1.0
        pulled = found.vjp(toward * weights[:, None])
        slope = np.asarray(pulled, np.float64).reshape(len(x), count, -1).sum(axis=1)
        return np.asarray(np.nan_to_num(slope))

    def _by_label(self, x: Array, labels: Array) -> Array:
        """The same, estimated: where other labels are served, that way the noise led."""
        count = self.attack.told
        rows, drawn = self._noisy(x, count)
        served = self.target.predict(self.target.domain.fit(rows, rows)).labels
        other = (served != np.repeat(labels, count)).reshape(len(x), -1).astype(np.float64)
        other -= other.mean(axis=1, keepdims=True)
        return np.asarray(np.einsum("nk,nkd->nd", other, drawn.reshape(len(x), count, -1)))

    def _noisy(self, x: Array, count: int) -> tuple[Array, Array]:
        """`count` rows around each, and the noise of each."""
        drawn = self.rng.standard_normal((len(x) * count, x.shape[1]))
        return np.repeat(x, count, axis=0) + self.smoothing.sigma * drawn, drawn


@dataclass(frozen=True, slots=True, eq=False)
class Reattacked:
    """Certificates, and what an attack left of the smoothed classifier on the same samples.

    `left` is the share that is still predicted rightly at each of `sizes`. Of `attacked`
    certificates, each within its own radius, `broken` are wrong as surely as a certificate is
    right.
    """

    certificates: Certificates
    attack: SmoothAttack
    sizes: tuple[float, ...]
    left: tuple[Share, ...]
    attacked: int
    broken: int
    problems: tuple[Problem, ...]

    @property
    def verdict(self) -> Verdict:
        return worst_of((*self.certificates.problems, *self.problems))

    def to_dict(self) -> dict[str, Any]:
        problems = (*self.certificates.problems, *self.problems)
        return self.certificates.to_dict(self.sizes) | {
            "verdict": self.verdict.value,
            "problems": [one.to_dict() for one in problems],
            "reattacked": {
                "attack": self.attack.name,
                "source": self.attack.source,
                "parameters": asdict(self.attack),
                "accuracy": [
                    {"size": size, **told(one)}
                    for size, one in zip(self.sizes, self.left, strict=True)
                ],
                "certificates": self.attacked,
                "broken": self.broken,
            },
        }


def reattack(
    smoothing: Smoothing,
    target: Target,
    x: Array,
    certificates: Certificates,
    sizes: Sequence[float],
    *,
    attack: SmoothAttack | None = None,
    seed: int = 0,
) -> Reattacked:
    """Attack the smoothed classifier on the samples `x` (n, d) that `certificates` are of, within
    each certified radius and within each of `sizes`.

    Deterministic by `seed`, as far as the target is. Raises InputError `defence.bad_data`,
    `defence.bad_size`, and what the target raises.
    """
    x, y = checked(x, certificates.y, target.domain.width, target.classes)
    x = target.domain.fit(x, x).astype(np.float64)
    attack = attack or SmoothAttack()
    rng = draws(seed, 1)
    adversary = Adversary(attack, smoothing, target, rng)
    wanted = tuple(sorted(set(sizes)))
    for size in wanted:
        certificates.accuracy_at(size)
    before, *left = _left(adversary, x, y, (0.0, *wanted))
    own = np.flatnonzero(certificates.labels != ABSTAINED)
    labels, radii = certificates.labels[own], certificates.radii[own]
    found = adversary.seek(x[own], labels, radii)
    broken = _broken(smoothing, smoothing.votes(target, found, smoothing.draws, rng), labels)
    problems = _judged(smoothing, len(own), broken)
    turned = broken > 0 or any(one.hits < before.hits for one in left)
    if not turned and adversary.blind(x[own], labels):
        problems = (*problems, _not_attacked())
    return Reattacked(certificates, attack, wanted, tuple(left), len(own), broken, problems)


def _left(adversary: Adversary, x: Array, y: Array, sizes: Sequence[float]) -> tuple[Share, ...]:
    """The share predicted rightly at each of the sizes, which ascend; what fell stays fallen."""
    stands = _most(adversary.votes(x)) == y
    shares = []
    for size in sizes:
        at = np.flatnonzero(stands)
        if size > 0 and at.size:
            radii = np.full(len(at), size)
            found = adversary.seek(x[at], y[at], radii)
            stands[at[_most(adversary.votes(found)) != y[at]]] = False
        shares.append(share(int(stands.sum()), len(x)))
    return tuple(shares)


def _most(votes: Array) -> Array:
    return np.where(votes.max(axis=1) > 0, votes.argmax(axis=1), ABSTAINED)


def _broken(smoothing: Smoothing, votes: Array, labels: Array) -> int:
    """Certificates whose class has a chance below a half, at the certificate's own confidence."""
    hits = votes[np.arange(len(votes)), labels]
    others = [
        at_least(smoothing.draws - int(one), smoothing.draws, smoothing.alpha) for one in hits
    ]
    return sum(one > 0.5 for one in others)


def _not_attacked() -> Problem:
    return insufficient(
        "defence.not_attacked",
        "The gradient that the model declares is zero at every sample, and the labels turned no"
        " prediction either: the certificates were not attacked.",
    )


def _judged(smoothing: Smoothing, attacked: int, broken: int) -> tuple[Problem, ...]:
    # Each may be wrong, and so may what finds it wrong, with a chance of alpha.
    if at_least(broken, attacked, _CHANCE) <= 2 * smoothing.alpha:
        return ()
    return (
        invalid(
            "defence.certificate_broken",
            f"{broken} of {attacked} certified predictions fell to an attack within their radius:"
            " the classifier is not the one that was certified.",
        ),
    )


def _unit(way: Array, rng: np.random.Generator) -> Array:
    """Of length 1; drawn, where there is no way."""
    length = np.linalg.norm(way, axis=1, keepdims=True)
    drawn = rng.standard_normal(way.shape)
    drawn /= np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), 1e-300)
    return np.where(length > 0, way / np.maximum(length, 1e-300), drawn)


def _within(rows: Array, x: Array, radii: Array, domain: Domain) -> Array:
    """The rows of the domain nearby; where whole numbers lead too far, the sample itself."""
    moved = rows - x
    length = np.linalg.norm(moved, axis=1)
    moved *= np.minimum(1.0, radii / np.maximum(length, 1e-300))[:, None]
    found = domain.fit(x + moved, x).astype(np.float64)
    far = np.linalg.norm(found - x, axis=1) > radii
    # Rounding to the model's own floats may lead a hair too far.
    found[far] = domain.fit(x[far] + 0.999999 * moved[far], x[far])
    far = np.linalg.norm(found - x, axis=1) > radii
    found[far] = x[far]
    return found
