"""What attacks on a model's predictions found: the predicate `robustness`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.evidence.fields import Fields
from keepstone.evidence.made import Made
from keepstone.evidence.measured import Measured, decimal

NORMS = frozenset({"linf", "l2", "l1", "l0"})
VERDICTS = frozenset({"pass", "fail", "insufficient", "invalid"})
# The numbers of these were measured well enough to be read.
_MEASURED = frozenset({"pass", "fail"})
MAX_EPSILONS = 16
MAX_ATTACKS = 64


@dataclass(frozen=True, slots=True)
class Within:
    """The share of samples that no attack changed the label of by a perturbation up to `eps`."""

    eps: float
    robust: Measured

    def to_dict(self) -> dict[str, Any]:
        return {"eps": decimal(self.eps)} | self.robust.to_dict()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(fields.decimal("eps"), Measured.read(fields))
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Robustness:
    """Somebody says: these attacks, on these samples, left so much of the model's accuracy.

    `within` ascends by epsilon. `verdict` is against the tester's own `at_least`; a policy holds
    the lower ends against its own, where `sufficient` says that enough was asked for them to vouch
    for anything. `constraints` is the digest of what attackers were held to, None where they could
    change every feature; `domain` that of the range, type and shape as well. The samples are named
    by `data`, the whole report by its digest. `not_evaluated` counts what could not be looked at.
    """

    kind: ClassVar[str] = "robustness"
    made: Made
    verdict: str
    suite: str
    norm: str
    within: tuple[Within, ...]
    at_least: float
    clean: Measured
    attacks: tuple[str, ...]
    queries: int
    seed: int
    not_evaluated: int
    sufficient: bool
    domain: Digest
    constraints: Digest | None
    data: Digest
    report: Digest

    @property
    def measured(self) -> bool:
        """Whether the lower ends can be read: neither invalid nor of too little."""
        return self.verdict in _MEASURED and self.sufficient

    def at(self, eps: float) -> Within | None:
        """What was measured for perturbations of at least `eps`, as near to it as there is."""
        return next((one for one in self.within if one.eps >= eps), None)

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "verdict": self.verdict,
            "suite": self.suite,
            "norm": self.norm,
            "within": [one.to_dict() for one in self.within],
            "at_least": decimal(self.at_least),
            "clean": self.clean.to_dict(),
            "attacks": list(self.attacks),
            "queries": self.queries,
            "seed": self.seed,
            "not_evaluated": self.not_evaluated,
            "sufficient": self.sufficient,
            "domain": str(self.domain),
            "constraints": None if self.constraints is None else str(self.constraints),
            "data": str(self.data),
            "report": str(self.report),
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        verdict = fields.one_of("verdict", VERDICTS)
        rows = fields.items("within", MAX_EPSILONS)
        within = tuple(Within.read(Fields(row, "predicate's epsilon")) for row in rows)
        if not within or any(
            one.eps >= next_one.eps or one.robust.value < next_one.robust.value
            for one, next_one in pairwise(within)
        ):
            raise fields.fault("within", "is empty, or does not ascend while the accuracy falls")
        names = fields.items("attacks", MAX_ATTACKS)
        clean = fields.inner("clean")
        value = cls(
            made,
            verdict,
            fields.line("suite", 64),
            fields.one_of("norm", NORMS),
            within,
            fields.decimal("at_least", 1.0),
            Measured.read(clean),
            tuple(Fields({"item": name}, "list of attacks").line("item", 64) for name in names),
            fields.integer("queries"),
            fields.integer("seed"),
            fields.integer("not_evaluated"),
            fields.boolean("sufficient"),
            fields.digest("domain"),
            None if fields.raw("constraints") is None else fields.digest("constraints"),
            fields.digest("data"),
            fields.digest("report"),
        )
        clean.done()
        value._check(fields)
        return value

    def _check(self, fields: Fields) -> None:
        if self.verdict in _MEASURED and not self.attacks:
            raise fields.fault("verdict", f"says {self.verdict} without an attack")
        if self.verdict == "pass" and not self.sufficient:
            raise fields.fault("verdict", "says pass of too little")
        if self.clean.value < self.within[0].robust.value:
            raise fields.fault("within", "says that attacks raise the accuracy")
        low = min(one.robust.low for one in self.within)
        if self.verdict == "pass" and low < self.at_least:
            raise fields.fault("verdict", "says pass below what is enough")
        if self.made.expires is None:
            raise fields.fault("expires", "must be set: attacks get better")

    @property
    def rests_on(self) -> tuple[Digest, ...]:
        return (self.data,)
