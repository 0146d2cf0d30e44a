"""Deep partition aggregation: a certificate against poisoned training data.

Promise: a vote of `k` models, each trained on the rows that a hash puts into its partition. A row
that is inserted or removed changes one partition, so one vote at most; so does a change of its
label, for the hash is of the row alone. A prediction that leads by 2r votes, ties counted
against it, is the same for every training set that differs by r such poisons. A row whose
features are changed counts as two, one removed and one inserted.

What is certified is counted, not estimated, and holds if `train` gives the same model for the same
rows in the same order: partitions are sorted, so an insertion elsewhere moves nothing. That the
training repeats itself is tried on the first partition, and refused where it does not. One that
keeps something from its first call for the later ones is not seen so: `keepstone.lab.fresh` keeps
trainings apart.

Source: Levine and Feizi 2021, arXiv 2006.14768, theorem 1. Cost: `k` trainings of a k-th of the
data, one more for the check, and `k` queries a prediction. Blind spots: one poison that is
unlike the others may still be one too many; a model of a k-th of the data is right less often;
identical rows share a partition, so duplicates of one row are many poisons to one vote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.defences.certificate import Certificates, checked, too_few
from keepstone.lab.domain import Domain
from keepstone.lab.problem import Problem, invalid
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Target
from keepstone.lab.training import Train

_PROBES = 64


@dataclass(frozen=True, slots=True)
class Partition:
    """`k` partitions; `seed` goes to every training."""

    k: int = 25
    seed: int = 0
    name: ClassVar[str] = "partition-aggregation"
    source: ClassVar[str] = "Levine and Feizi 2021, arXiv 2006.14768"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError("defence.bad_parameters", "There is at least one partition.")

    def fit(self, train: Train, x: Array, y: Array, domain: Domain, classes: int) -> Aggregate:
        """Train `k` models on rows `x` (n, d) of classes `y` (n,), by their places.

        A partition of one class or none is not trained on: it votes for that class, or not at
        all. Raises InputError `defence.bad_data`, and what `train` raises.
        """
        x, y = checked(x, y, domain.width, classes)
        parts = self.divide(domain.fit(x, x), y)
        models = [vote_of(train, *part, self.seed) for part in parts]
        problems = _repeats(train, models, parts, domain, self.seed)
        sizes = tuple(len(labels) for _, labels in parts)
        return Aggregate(self, domain, classes, models, sizes, problems)

    def divide(self, x: Array, y: Array) -> list[tuple[Array, Array]]:
        """The rows and labels of each partition, whatever the order in which they are given."""
        x = np.ascontiguousarray(x)
        digests = [hashlib.sha256(row.tobytes()).digest() for row in x]
        places = np.array([place_of(digest, self.k) for digest in digests], np.int64)
        # By digest, then by label: nothing hangs on the order in which the rows are given.
        order = np.array(sorted(range(len(x)), key=lambda at: (digests[at], y[at])), np.int64)
        order = order[np.argsort(places[order], kind="stable")]
        ends = np.searchsorted(places[order], np.arange(1, self.k))
        return [(x[part], y[part]) for part in np.split(order, ends)]

    def places(self, rows: Array) -> Array:
        """The partition of each of `rows` (n, d), which lie in the domain."""
        digests = [hashlib.sha256(row.tobytes()).digest() for row in np.ascontiguousarray(rows)]
        return np.array([place_of(one, self.k) for one in digests], np.int64)


def place_of(digest: bytes, k: int) -> int:
    """The partition of a row with this SHA-256."""
    return int.from_bytes(digest, "big") % k


class Aggregate:
    """The vote of `models` as a target: labels, and how many poisons each withstands.

    A model that is a number votes for that class, always; None does not vote.
    """

    def __init__(
        self,
        made: Partition,
        domain: Domain,
        classes: int,
        models: Sequence[Target | int | None],
        sizes: tuple[int, ...],
        problems: tuple[Problem, ...] = (),
    ) -> None:
        self.made = made
        self._models = tuple(models)
        self.domain = domain
        self.classes = classes
        self.sizes = sizes
        self.problems = problems

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL})

    def predict(self, rows: Array) -> Answers:
        return Answers(leaders(self.votes(rows))[0])

    @property
    def models(self) -> tuple[Target | int | None, ...]:
        return self._models

    def votes(self, rows: Array) -> Array:
        """How many models vote for each class `(n, k)`."""
        return counted(self.ballots(rows), self.classes)

    def ballots(self, rows: Array) -> Array:
        """What each partition's model votes for `(partitions, n)`; `UNANSWERED` is no vote."""
        return np.stack([ballot_of(model, rows) for model in self._models])

    def certify(self, x: Array, y: Array) -> Certificates:
        """Of samples `x` (n, d) with the right classes `y` (n,), the poisons that each withstands.

        Raises InputError `defence.bad_data`, and what the models raise.
        """
        x, y = checked(x, y, self.domain.width, self.classes)
        labels, lead = leaders(self.votes(self.domain.fit(x, x)))
        parameters = {**asdict(self.made), "hash": "sha256", "rows": list(self.sizes)}
        return Certificates(
            self.made.name,
            self.made.source,
            "poisons",
            labels,
            lead,
            y,
            0.0,
            parameters,
            (*self.problems, *too_few(len(x))),
        )


def ballot_of(model: Target | int | None, rows: Array) -> Array:
    """The votes (n,) of one model, of a partition of one class, or of one that has no rows."""
    if model is None or isinstance(model, int):
        return np.full(len(rows), UNANSWERED if model is None else model, np.int64)
    return np.asarray(model.predict(rows).labels, np.int64)


def counted(ballots: Array, classes: int) -> Array:
    """How many of the ballots `(partitions, n)` are for each class `(n, classes)`."""
    found = np.zeros((ballots.shape[1], classes), np.int64)
    at = np.arange(len(found))
    for labels in ballots:
        told = labels != UNANSWERED
        found[at[told], labels[told]] += 1
    return found


def leaders(votes: Array) -> tuple[Array, Array]:
    """The class with most of the votes `(n, k)`, the first where several have, and how many voters
    may turn before another one could lead."""
    rows = np.arange(len(votes))
    best = votes.argmax(axis=1)
    # Of two classes with as many votes the first leads, so one before the best needs one less.
    others = votes + (np.arange(votes.shape[1]) < best[:, None])
    others[rows, best] = -1
    return best, (votes[rows, best] - others.max(axis=1)) // 2


def vote_of(train: Train, x: Array, y: Array, seed: int) -> Target | int | None:
    """A model of a partition's rows; of one class that class, of none nothing."""
    known = np.unique(y)
    if len(known) < 2:
        return int(known[0]) if len(known) else None
    return train(x, y, seed)


def _repeats(
    train: Train,
    models: Sequence[Target | int | None],
    parts: Sequence[tuple[Array, Array]],
    domain: Domain,
    seed: int,
) -> tuple[Problem, ...]:
    """Train once more on one partition: another model would void every certificate."""
    trained = [at for at, model in enumerate(models) if not isinstance(model, int | None)]
    if not trained:
        return ()
    x, y = parts[trained[0]]
    first, again = models[trained[0]], train(x, y, seed)
    probes = np.concatenate([x, domain.draw(_PROBES)])
    if isinstance(first, int | None):
        return ()
    if (first.predict(probes).labels == again.predict(probes).labels).all():
        return ()
    return (
        invalid(
            "defence.not_deterministic",
            "The same rows trained another model: the certificate holds where they do not.",
        ),
    )
