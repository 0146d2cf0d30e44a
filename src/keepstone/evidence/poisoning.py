"""What was certified of a model against poison in its training data: the predicate `poisoning`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.evidence.fields import Fields
from keepstone.evidence.made import Made
from keepstone.evidence.measured import Measured, decimal

DEFENCES = frozenset({"partition-aggregation"})
VERDICTS = frozenset({"pass", "fail", "insufficient", "invalid"})
# The numbers of these were measured well enough to be read.
_MEASURED = frozenset({"pass", "fail"})
MAX_SIZES = 64
MAX_BARS = 16


@dataclass(frozen=True, slots=True)
class Within:
    """The share of held-out samples that are predicted rightly whatever up to so many `poisons` in
    the training data do."""

    poisons: int
    certified: Measured

    def to_dict(self) -> dict[str, Any]:
        return {"poisons": self.poisons} | self.certified.to_dict()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(fields.integer("poisons"), Measured.read(fields))
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Enough:
    """The certified accuracy that whoever certified it called enough at so many poisons."""

    poisons: int
    at_least: float

    def to_dict(self) -> dict[str, Any]:
        return {"poisons": self.poisons, "at_least": decimal(self.at_least)}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(fields.integer("poisons"), fields.decimal("at_least", 1.0))
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Poisoning:
    """Somebody says: no such number of poisons in its training data changes these predictions.

    The model is a vote of models on `partitions` parts of the data. `within` ascends by poisons.
    `verdict` is against the tester's own bars in `enough`; a policy holds the lower ends against
    its own, where `sufficient` says that there were rows enough to speak of. `invalid` is no lack
    of knowledge here: a certificate broke, or the training does not repeat itself. Before anything
    was told, `attacked` rows were attacked by one who knows the partitions: `certificates` were
    looked at, and `broken` of them broke. `undefended` is the accuracy of one model of all rows.

    `data` is the digest of what was trained on, `held_out` that of the samples, `report` that of
    the whole report.
    """

    kind: ClassVar[str] = "poisoning"
    made: Made
    verdict: str
    defence: str
    partitions: int
    within: tuple[Within, ...]
    enough: tuple[Enough, ...]
    undefended: Measured
    attacked: int
    certificates: int
    broken: int
    trainings: int
    seed: int
    sufficient: bool
    data: Digest
    held_out: Digest
    report: Digest

    @property
    def measured(self) -> bool:
        """Whether the lower ends can be read: neither invalid nor of too little."""
        return self.verdict in _MEASURED and self.sufficient

    @property
    def samples(self) -> int:
        """How many held-out samples it is about."""
        return self.undefended.n

    def at(self, poisons: int) -> Within | None:
        """What is certified against at least `poisons`, as near to it as there is."""
        return next((one for one in self.within if one.poisons >= poisons), None)

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "verdict": self.verdict,
            "defence": self.defence,
            "partitions": self.partitions,
            "within": [one.to_dict() for one in self.within],
            "enough": [one.to_dict() for one in self.enough],
            "undefended": self.undefended.to_dict(),
            "attacked": self.attacked,
            "certificates": self.certificates,
            "broken": self.broken,
            "trainings": self.trainings,
            "seed": self.seed,
            "sufficient": self.sufficient,
            "data": str(self.data),
            "held_out": str(self.held_out),
            "report": str(self.report),
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        sizes, bars = fields.items("within", MAX_SIZES), fields.items("enough", MAX_BARS)
        undefended = fields.inner("undefended")
        value = cls(
            made,
            fields.one_of("verdict", VERDICTS),
            fields.one_of("defence", DEFENCES),
            fields.integer("partitions", low=1),
            tuple(Within.read(Fields(size, "predicate's number of poisons")) for size in sizes),
            tuple(Enough.read(Fields(bar, "predicate's bar")) for bar in bars),
            Measured.read(undefended),
            fields.integer("attacked"),
            fields.integer("certificates"),
            fields.integer("broken"),
            fields.integer("trainings"),
            fields.integer("seed"),
            fields.boolean("sufficient"),
            fields.digest("data"),
            fields.digest("held_out"),
            fields.digest("report"),
        )
        undefended.done()
        value._check_numbers(fields)
        value._check_verdict(fields)
        return value

    def _check_numbers(self, fields: Fields) -> None:
        if not self.within or any(
            one.poisons >= more.poisons or _rises(one.certified, more.certified)
            for one, more in pairwise(self.within)
        ):
            raise fields.fault("within", "is empty, or does not ascend while the accuracy falls")
        if any(one.certified.n != self.samples for one in self.within):
            raise fields.fault("within", "is not all of the same samples")
        # A poison turns one vote, and a leader loses where half of them turned.
        most = self.partitions // 2
        if any(one.poisons > most and one.certified.value > 0 for one in self.within):
            raise fields.fault("within", f"certifies more poisons than {self.partitions} votes can")
        if self.broken > self.certificates:
            raise fields.fault("broken", "is more than were looked at")
        if self.made.expires is None:
            raise fields.fault("expires", "must be set: attacks get better")

    def _check_verdict(self, fields: Fields) -> None:
        if self.broken and self.verdict != "invalid":
            raise fields.fault("verdict", f"says {self.verdict} though a certificate broke")
        certified = any(one.poisons and one.certified.value > 0 for one in self.within)
        looked = self.attacked and self.certificates
        if self.verdict in _MEASURED and certified and not looked:
            raise fields.fault("verdict", f"says {self.verdict} of what nobody attacked")
        if self.verdict != "pass":
            return
        if not self.sufficient:
            raise fields.fault("verdict", "says pass of too little")
        for bar in self.enough:
            found = self.at(bar.poisons)
            if found is None or found.certified.low < bar.at_least:
                raise fields.fault("verdict", "says pass below what is enough")

    @property
    def rests_on(self) -> tuple[Digest, ...]:
        return (self.data, self.held_out)


def _rises(one: Measured, more: Measured) -> bool:
    """Whether more poison would leave more."""
    return one.value < more.value or one.low < more.low or one.high < more.high
