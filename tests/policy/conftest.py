"""A small world to judge in: a policy, people with keys, and a ledger of their statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Location, Outcome, Severity
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope, add_signature
from keepstone.evidence.made import Input, Made, Tool
from keepstone.evidence.measured import Measured
from keepstone.evidence.poisoning import Within as Withstood
from keepstone.evidence.predicates import (
    Approval,
    Poisoning,
    Predicate,
    Privacy,
    Reinstatement,
    Revocation,
    Robustness,
    Scan,
    Signature,
    Target,
    Training,
    Vulnerabilities,
)
from keepstone.evidence.privacy import AtRate
from keepstone.evidence.record import entry_body
from keepstone.evidence.robustness import Within
from keepstone.evidence.statement import make_statement
from keepstone.evidence.verify import Evidence, EvidenceBase
from keepstone.evidence.vulnerabilities import Database, WaiverUsed
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.policy.engine import Engine
from keepstone.policy.explain import explain_model
from keepstone.policy.gate import Verdict, gate
from keepstone.policy.parse import add_signer, parse_policy, profile_text
from keepstone.policy.trust import Trust

TOOL = Tool("keepstone", "0")
NOW = 1_790_000_000_000
DAY = 86_400_000
PEOPLE = {
    "alice": ("publisher",),
    "bob": ("approver",),
    "carol": ("responder",),
    "dave": ("reinstater",),
    "erin": ("publisher", "approver"),
    "frank": ("approver",),
    "rita": ("red-team",),
    "rob": ("red-team",),
}
KEYS = {name: SigningKey.generate() for name in ("observer", "gate", "stranger", "bob2", *PEOPLE)}


@dataclass
class World:
    """Everything the gate needs, for one artifact called `digits`."""

    policy: bytes
    subject: Subject = field(default_factory=lambda: Subject("digits", Digest("ab" * 32)))
    endpoint: str = "endpoint-1"
    now: int = NOW
    entries: list[tuple[int, bytes]] = field(default_factory=list)
    keys: dict[str, SigningKey] = field(default_factory=lambda: dict(KEYS))

    def trust(self) -> Trust:
        return Trust.of(
            parse_policy(self.policy),
            observer=self.keys["observer"].verifying,
            gate=self.keys["gate"].verifying,
        )

    def edit(self, old: str, new: str) -> World:
        assert old.encode() in self.policy
        self.policy = self.policy.replace(old.encode(), new.encode())
        return self

    def state(
        self,
        predicate: Predicate,
        by: str,
        *also: str,
        subject: Subject | None = None,
        logged: int | None = None,
    ) -> Envelope:
        envelope = make_statement(subject or self.subject, predicate, self.keys[by])
        for name in also:
            envelope = add_signature(envelope, self.keys[name])
        moment = predicate.made.created if logged is None else logged
        self.entries.append((len(self.entries) + 1, entry_body(envelope, moment)))
        return envelope

    def made(
        self, age: int = 0, expires: int | None = None, inputs: tuple[Input, ...] = ()
    ) -> Made:
        return Made(TOOL, self.now - age, expires, inputs)

    def scan(
        self, outcome: Outcome = Outcome.CLEAN, age: int = 0, by: str = "observer", **given: int
    ) -> Envelope:
        findings = []
        if outcome is Outcome.FLAGGED:
            findings.append(Finding("onnx.external_data", Severity.HIGH, "m", Location("x")))
        predicate = Scan.of(
            self.made(age, given.get("expires")), outcome, "onnx", findings, Digest("cd" * 32), "1"
        )
        return self.state(predicate, by, logged=given.get("logged"))

    def packages(
        self,
        outcome: Outcome = Outcome.CLEAN,
        age: int = 0,
        by: str = "observer",
        database: Database | None = None,
        waivers: tuple[WaiverUsed, ...] = (),
        **given: int,
    ) -> Envelope:
        findings = []
        if outcome is Outcome.FLAGGED:
            findings.append(Finding("dependency.known", Severity.HIGH, "m", Location("x")))
        predicate = Vulnerabilities.of(
            self.made(age, given.get("expires")),
            findings,
            outcome=outcome,
            basis="scanned",
            scanner=TOOL,
            target="requirements.txt",
            packages=3,
            waived=len(waivers),
            report=Digest("cd" * 32),
            database=database or Database("osv", Digest("db" * 32), self.now - age),
            waivers=waivers,
        )
        return self.state(predicate, by, logged=given.get("logged"))

    def attacked(
        self,
        low: float = 0.6,
        high: float = 0.8,
        *,
        by: str = "rita",
        age: int = 0,
        epsilons: tuple[float, ...] = (0.1,),
        lasts: int = 30,
        also: tuple[str, ...] = (),
        **changed: object,
    ) -> Envelope:
        """Each of the `epsilons` leaves the middle of `low` and `high`."""
        said: dict[str, object] = {
            "verdict": "pass",
            "suite": "quick",
            "norm": "linf",
            "within": tuple(
                Within(eps, Measured((low + high) / 2, low, high, 300)) for eps in epsilons
            ),
            "at_least": 0.01,
            "clean": Measured(0.95, 0.92, 0.97, 300),
            "attacks": ("square",),
            "queries": 1000,
            "seed": 0,
            "not_evaluated": 0,
            "sufficient": True,
            "domain": Digest("d0" * 32),
            "constraints": None,
            "data": Digest("da" * 32),
            "report": Digest("cd" * 32),
        }
        made = self.made(age, self.now + lasts * DAY)
        return self.state(Robustness(made, **(said | changed)), by, *also)  # type: ignore[arg-type]

    def audited(
        self,
        low: float = 0.0,
        high: float = 0.05,
        *,
        by: str = "rita",
        age: int = 0,
        fpr: float = 0.01,
        sufficient: bool = True,
        **changed: object,
    ) -> Envelope:
        """At `fpr` the middle of `low` and `high` of the members are told."""
        told = Measured((low + high) / 2, low, high, 500)
        said: dict[str, object] = {
            "outcome": "pass",
            "attack": "rmia",
            "signal": "scores",
            "shadows": 4,
            "rates": (AtRate(fpr, told, 500, sufficient),),
            "queries": 1000,
            "rows": Digest("da" * 32),
            "members": Digest("db" * 32),
            "report": Digest("cd" * 32),
        }
        made = self.made(age, self.now + 30 * DAY)
        return self.state(Privacy(made, **(said | changed)), by)  # type: ignore[arg-type]

    def certified(
        self,
        low: float = 0.78,
        high: float = 0.85,
        *,
        by: str = "rita",
        age: int = 0,
        sizes: tuple[int, ...] = (5,),
        rows: int = 500,
        lasts: int = 30,
        subject: Subject | None = None,
        **changed: object,
    ) -> Envelope:
        """The middle of `low` and `high` is certified against each of the `sizes`."""
        share = Measured((low + high) / 2, low, high, rows)
        said: dict[str, object] = {
            "verdict": "pass",
            "defence": "partition-aggregation",
            "partitions": 25,
            "within": tuple(Withstood(poisons, share) for poisons in sizes),
            "enough": (),
            "undefended": Measured(0.97, 0.95, 0.98, rows),
            "attacked": 20,
            "certificates": 12_782,
            "broken": 0,
            "trainings": 812,
            "seed": 0,
            "sufficient": True,
            "data": Digest("da" * 32),
            "held_out": Digest("d0" * 32),
            "report": Digest("cd" * 32),
        }
        made = self.made(age, self.now + lasts * DAY)
        predicate = Poisoning(made, **(said | changed))  # type: ignore[arg-type]
        return self.state(predicate, by, subject=subject)

    def train(self, by: str = "alice", age: int = 0) -> Envelope:
        predicate = Training(
            self.made(age), "sklearn", {}, {"accuracy": "0.9"}, Input("d", Digest("ee" * 32))
        )
        return self.state(predicate, by)

    def sign(self, publisher: str = "alice", by: str = "observer") -> Envelope:
        key_id = self.keys[publisher].key_id
        return self.state(Signature(self.made(), Digest("dd" * 32), key_id), by)

    def approve(
        self,
        by: str = "bob",
        *also: str,
        age: int = 0,
        expires: int | None = None,
        endpoint: str | None = None,
        subject: Subject | None = None,
        logged: int | None = None,
    ) -> Envelope:
        predicate = Approval(self.made(age, expires), "looked at it", endpoint)
        return self.state(predicate, by, *also, subject=subject, logged=logged)

    def revoke(self, by: str = "carol", target: Target | None = None) -> Envelope:
        target = target or Target("artifact", self.subject.digest)
        subject = Subject(
            self.subject.name if target.kind == "artifact" else target.kind, target.digest
        )
        return self.state(Revocation(self.made(), target, "poisoned"), by, subject=subject)

    def reinstate(
        self, revocation: Envelope, by: str = "dave", expires: int | None = None
    ) -> Envelope:
        return self.state(Reinstatement(self.made(0, expires), revocation.digest, "wrong"), by)

    def complete(self) -> World:
        """All that production asks for."""
        self.scan()
        self.sign()
        self.train()
        self.approve()
        return self

    def evidence(self, now: int | None = None, name: str | None = "digits") -> Evidence:
        trust = self.trust()
        base = EvidenceBase.build(self.entries, trust.signers, trust.rights)
        return base.about(self.subject.digest, name, self.now if now is None else now)

    def judge(self, now: int | None = None) -> Verdict:
        trust = self.trust()
        return gate(Engine(trust.policy), trust, self.evidence(now), self.endpoint)

    def refused(self, rule: str, *helps: str, now: int | None = None) -> str:
        """Why `rule` refuses it, in one sentence; and what `helps` is said."""
        verdict = self.judge(now)
        assert not verdict.allowed
        assert verdict.rule == rule
        reason = next(one for one in verdict.missing if one.rule == rule)
        assert [one for one in helps if one not in reason.remedy] == []
        assert rule in explain_model(verdict).to_text()
        return str(reason.detail)

    def require_invalid(self, requirement: str, old: str, new: str) -> None:
        """The policy ends with `requirement`: with `new` for `old` in that it is refused."""
        before = self.policy[: -len(requirement)]
        assert old in requirement
        with pytest.raises(InputError) as caught:
            parse_policy(before + requirement.replace(old, new).encode())
        assert caught.value.code == "policy.invalid"


def policy_of(profile: str) -> bytes:
    data = profile_text(profile)
    for name, roles in PEOPLE.items():
        data = add_signer(data, name, roles, KEYS[name].verifying)
    return data


POLICIES = {profile: policy_of(profile) for profile in ("local", "production")}


@pytest.fixture
def local() -> World:
    return World(POLICIES["local"])


@pytest.fixture
def production() -> World:
    return World(POLICIES["production"])


@pytest.fixture
def ed25519() -> Callable[[], SigningKey]:
    return lambda: SigningKey.generate(Algorithm.ED25519)
