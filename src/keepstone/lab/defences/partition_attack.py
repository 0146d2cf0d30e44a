"""Poison a partition aggregate as one would who knows its partitions: do its certificates hold?

Promise: for each row that is attacked the poisoner reads who votes for what, and puts his poisons
into the partitions that vote for the leader, into no more of them than turn it, those first whose
rows say least of the row. Two ways: copies of the row, next to it and with the rival's label,
changed until their hash is the partition's; or labels of the nearest rows flipped. What is touched
is trained again, and then every prediction that was certified against so many poisons is looked at,
not that of the attacked row alone.

Once for each way and size the worst poisoned set is partitioned and trained anew as a whole: more
partitions that vote otherwise than there are poisons, where no row of theirs was changed, are the
training's doing, and void all certificates. Where no row that was drawn is right, nothing was
attacked (`defence.not_attacked`).

Cost: for each row, way and size at most as many trainings of a k-th of the data as there are
poisons, and `k` more for each way and size. Blind spots: the poisoner flips and inserts, he removes
nothing; he spends on every partition alike, and learns nothing from one that did not turn; a row
beside the one that is meant turns a model that looks near it, and a linear one less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.lab.defences.certificate import Certificates, checked, told
from keepstone.lab.defences.partition import (
    Aggregate,
    Partition,
    ballot_of,
    counted,
    leaders,
    vote_of,
)
from keepstone.lab.draws import draws
from keepstone.lab.metrics.wilson import Share, share
from keepstone.lab.problem import Problem, insufficient, invalid
from keepstone.lab.training import Train, data_digest

WAYS = ("insertions", "label-flips")
# Rows whose certificate is the least that covers a size: an attack is nearest to breaking those.
_EDGE = 4
_SCALE, _TRIES = 1e-3, 12


@dataclass(frozen=True, slots=True)
class Reattacked:
    """One way with so many `poisons`: what it leaves of the rows that were drawn to be attacked,
    each with a poisoned set of its own (`left`), and of all tested rows at worst (`accuracy`).

    `certified` predictions were looked at that no such poison may change; it changed `broken`.
    """

    way: str
    poisons: int
    left: Share
    accuracy: Share
    certified: int
    broken: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "way": self.way,
            "poisons": self.poisons,
            "left": told(self.left),
            "accuracy": told(self.accuracy),
            "certified": self.certified,
            "broken": self.broken,
        }


@dataclass(frozen=True, slots=True)
class Reattack:
    found: tuple[Reattacked, ...]
    problems: tuple[Problem, ...]
    trainings: int


def reattack(
    made: Partition,
    aggregate: Aggregate,
    train: Train,
    learnt: tuple[Array, Array],
    tested: tuple[Array, Array],
    certificates: Certificates,
    sizes: Sequence[int],
    rows: int = 20,
    seed: int = 0,
) -> Reattack:
    """Attack `rows` of the `tested` with poison in what was `learnt`, for each of `sizes`.

    `certificates` are of the tested rows, in their order. Deterministic by `seed`, as far as
    `train` is. Raises InputError `defence.bad_data`, and what `train` raises.
    """
    domain, classes = aggregate.domain, aggregate.classes
    x, y = checked(*learnt, domain.width, classes)
    asked, labels = checked(*tested, domain.width, classes)
    room = _Room(made, aggregate, train, (domain.fit(x, x), y), (domain.fit(asked, asked), labels))
    rng = draws(seed, 1)
    drawn = np.sort(rng.permutation(len(asked))[:rows])
    found, problems = [], []
    for way in WAYS:
        for size in sizes:
            edge = np.flatnonzero(certificates.radii >= size)
            edge = edge[np.argsort(certificates.radii[edge], kind="stable")[:_EDGE]]
            one, worst = room.attack(way, size, drawn, edge, certificates)
            found.append(one)
            problems += _broken(one)
            problems += room.whole(worst, size, certificates)
    if certificates.holds(1).any() and not any(one.certified for one in found):
        problems.append(_not_attacked())
    return Reattack(tuple(found), tuple(dict.fromkeys(problems)), room.trained)


@dataclass(frozen=True, slots=True, eq=False)
class _Poison:
    """What one attack makes of some partitions: their rows and labels, by their places."""

    parts: dict[int, tuple[Array, Array]] = field(default_factory=dict)


class _Room:
    """Where partitions are poisoned and trained again."""

    def __init__(
        self,
        made: Partition,
        aggregate: Aggregate,
        train: Train,
        learnt: tuple[Array, Array],
        tested: tuple[Array, Array],
    ) -> None:
        self._made, self._train = made, train
        self._domain, self._classes = aggregate.domain, aggregate.classes
        self._x, self._y = tested
        self._parts = made.divide(*learnt)
        self._ballots = aggregate.ballots(self._x)
        self._votes = counted(self._ballots, self._classes)
        self.trained = 0
        self._kept: dict[Digest, Array] = {}

    def attack(
        self, way: str, size: int, drawn: Array, edge: Array, certificates: Certificates
    ) -> tuple[Reattacked, _Poison]:
        """What became of it, and the poison after which the fewest tested rows are right."""
        held = certificates.radii >= size
        best, leads = leaders(self._votes)
        standing = {}
        certified = broken = 0
        worst, poison = len(self._y) + 1, _Poison()
        for at in dict.fromkeys([*drawn.tolist(), *edge.tolist()]):
            if best[at] != self._y[at]:
                standing[at] = False
                continue
            tried = _Poison(dict(self._poison(way, size, at, int(best[at]), int(leads[at]))))
            labels = leaders(counted(self._after(tried), self._classes))[0]
            standing[at] = bool(labels[at] == self._y[at])
            certified += int(held.sum())
            broken += int((labels != certificates.labels)[held].sum())
            right = int((labels == self._y).sum())
            if right < worst:
                worst, poison = right, tried
        left = share(sum(standing[at] for at in drawn.tolist()), len(drawn))
        count = len(self._y)
        accuracy = share(min(worst, int((best == self._y).sum())), count)
        return Reattacked(way, size, left, accuracy, certified, broken), poison

    def whole(self, poison: _Poison, size: int, certificates: Certificates) -> list[Problem]:
        """Partition and train all that is there after `poison`, and look at every certificate."""
        parts = [poison.parts.get(place, part) for place, part in enumerate(self._parts)]
        x, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        self.trained += self._made.k
        models = [vote_of(self._train, *part, self._made.seed) for part in self._made.divide(x, y)]
        ballots = np.stack([ballot_of(model, self._x) for model in models])
        turned = np.flatnonzero((ballots != self._ballots).any(axis=1))
        strange = set(turned.tolist()) - set(poison.parts)
        if strange:
            return [
                invalid(
                    "defence.not_deterministic",
                    f"{len(strange)} partitions of which no row was changed trained other models"
                    " when they were trained again: the certificates hold where they do not.",
                )
            ]
        held = certificates.radii >= size
        labels = leaders(counted(ballots, self._classes))[0]
        changed = int((labels != certificates.labels)[held].sum())
        return _broken_of(changed, int(held.sum()), size)

    def _poison(
        self, way: str, size: int, at: int, leader: int, lead: int
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """The partitions that the poison changes, with what is in them then."""
        others = self._votes[at].copy()
        others[leader] = -1
        rival = int(others.argmax())
        places = self._places(at, leader, rival)[: min(size, lead + 1)]
        if not len(places):
            return
        share_of_each = [len(part) for part in np.array_split(np.arange(size), len(places))]
        wanted = dict(zip(places.tolist(), share_of_each, strict=True))
        if way == "insertions":
            copies = self._copies(self._x[at], wanted)
            for place, rows in copies.items():
                x, y = self._parts[place]
                both = np.concatenate([x, rows]), np.concatenate([y, np.full(len(rows), rival)])
                yield place, self._made.divide(*both)[place]
            return
        for place, count in wanted.items():
            x, y = self._parts[place]
            able = np.flatnonzero(y != rival)
            near = able[np.argsort(self._far(x[able], self._x[at]), kind="stable")[:count]]
            flipped = y.copy()
            flipped[near] = rival
            yield place, self._made.divide(x, flipped)[place]

    def _places(self, at: int, leader: int, rival: int) -> Array:
        """Those that vote for the leader, the least supported first; then the others."""
        support = np.full(len(self._parts), np.inf)
        for place, (x, y) in enumerate(self._parts):
            own = x[y == leader]
            if len(own):
                support[place] = self._far(own, self._x[at]).min()
        votes = self._ballots[:, at]
        order = np.lexsort((-support, votes != leader))
        return np.asarray(order[votes[order] != rival])

    def _far(self, rows: Array, row: Array) -> Array:
        span = self._domain.high - self._domain.low
        return np.asarray((((rows - row) / np.where(span > 0, span, 1)) ** 2).sum(axis=1))

    def _copies(self, row: Array, wanted: dict[int, int]) -> dict[int, Array]:
        """Rows next to `row` for these partitions, as many as each wants; what no change of it
        finds is not inserted."""
        found: dict[int, list[Array]] = {place: [] for place in wanted}
        draw = draws(self._made.seed, 2)
        span, scale = self._domain.high - self._domain.low, _SCALE
        for _ in range(_TRIES):
            count = 4 * self._made.k * max(wanted.values()) + 64
            rows = row + scale * span * draw.uniform(-1, 1, (count, len(row)))
            rows = self._domain.fit(rows, np.broadcast_to(row, rows.shape))
            for place, near in zip(self._made.places(rows).tolist(), rows, strict=True):
                if place in found and len(found[place]) < wanted[place]:
                    found[place].append(near)
            if all(len(found[place]) == most for place, most in wanted.items()):
                break
            scale *= 2
        return {place: np.stack(rows) for place, rows in found.items() if rows}

    def _after(self, poison: _Poison) -> Array:
        """The ballots once what is touched was trained again."""
        ballots = self._ballots.copy()
        for place, (x, y) in poison.parts.items():
            key = data_digest(x, y)
            if key not in self._kept:
                self.trained += 1
                self._kept[key] = ballot_of(vote_of(self._train, x, y, self._made.seed), self._x)
            ballots[place] = self._kept[key]
        return ballots


def _broken(found: Reattacked) -> list[Problem]:
    return _broken_of(found.broken, found.certified, found.poisons)


def _broken_of(broken: int, certified: int, size: int) -> list[Problem]:
    if not broken:
        return []
    return [
        invalid(
            "defence.certificate_broken",
            f"{broken} of {certified} predictions changed that were certified against {size}"
            " poisons: the certificates do not hold for this training.",
        )
    ]


def _not_attacked() -> Problem:
    return insufficient(
        "defence.not_attacked",
        "Each row that was drawn to be attacked is predicted wrongly as it is: no certificate was"
        " looked at.",
    )
