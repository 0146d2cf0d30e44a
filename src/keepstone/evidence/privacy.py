"""What a membership audit of a model found: the predicate `privacy`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.evidence.fields import Fields
from keepstone.evidence.made import Made
from keepstone.evidence.measured import Measured, decimal

OUTCOMES = frozenset({"pass", "fail", "insufficient"})
SIGNALS = frozenset({"scores", "labels"})
MAX_RATES = 16


@dataclass(frozen=True, slots=True)
class AtRate:
    """The share of members that are told where at most `fpr` of the others are accused.

    `told.n` are the members. `sufficient` says whether there were non-members enough to speak of
    that rate.
    """

    fpr: float
    told: Measured
    nonmembers: int
    sufficient: bool

    def to_dict(self) -> dict[str, Any]:
        return self.told.to_dict() | {
            "fpr": decimal(self.fpr),
            "nonmembers": self.nonmembers,
            "sufficient": self.sufficient,
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(
            fields.decimal("fpr", 1.0),
            Measured.read(fields),
            fields.integer("nonmembers", low=1),
            fields.boolean("sufficient"),
        )
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Privacy:
    """Somebody says: this attack told so many of the rows that the model was trained on.

    `rates` ascend by false-positive rate. `outcome` is against the auditor's own limits; a policy
    holds the upper ends against its own. `rows` is the digest of the rows that were audited,
    `members` that of which of them are members.
    """

    kind: ClassVar[str] = "privacy"
    made: Made
    outcome: str
    attack: str
    signal: str
    shadows: int
    rates: tuple[AtRate, ...]
    queries: int
    rows: Digest
    members: Digest
    report: Digest

    def at(self, fpr: float) -> AtRate | None:
        """What was measured at exactly this false-positive rate."""
        return next((one for one in self.rates if one.fpr == fpr), None)

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "outcome": self.outcome,
            "attack": self.attack,
            "signal": self.signal,
            "shadows": self.shadows,
            "rates": [one.to_dict() for one in self.rates],
            "queries": self.queries,
            "rows": str(self.rows),
            "members": str(self.members),
            "report": str(self.report),
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        items = fields.items("rates", MAX_RATES)
        rates = tuple(AtRate.read(Fields(item, "predicate's rate")) for item in items)
        if not rates or [one.fpr for one in rates] != sorted({one.fpr for one in rates}):
            raise fields.fault("rates", "is empty, or does not ascend")
        if made.expires is None:
            raise fields.fault("expires", "must be set: attacks get better")
        value = cls(
            made,
            fields.one_of("outcome", OUTCOMES),
            fields.line("attack", 64),
            fields.one_of("signal", SIGNALS),
            fields.integer("shadows"),
            rates,
            fields.integer("queries"),
            fields.digest("rows"),
            fields.digest("members"),
            fields.digest("report"),
        )
        if value.outcome == "pass" and not any(one.sufficient for one in rates):
            raise fields.fault("outcome", "says pass of too few rows")
        return value

    @property
    def rests_on(self) -> tuple[Digest, ...]:
        return (self.rows,)
