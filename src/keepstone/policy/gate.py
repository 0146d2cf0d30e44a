"""The gate: evidence in, a verdict out; and, for a yes, a signed admission.

Nothing here reads a disk, a network or a clock. What the evidence amounts to is worked out in
`requirements`; the yes or no is Cedar's, over those facts, so that the policy text that people
can read is the one that decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.evidence import predicates
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import LedgerHead
from keepstone.evidence.statement import make_statement
from keepstone.evidence.verify import Evidence, Refused
from keepstone.identity.signing import SigningKey
from keepstone.policy.admission import Admission, verify_admission
from keepstone.policy.document import (
    OBSERVER,
    PoisoningBar,
    PrivacyBar,
    Requirement,
    RobustnessBar,
)
from keepstone.policy.engine import Decision, Engine
from keepstone.policy.requirements import Met, digests, flagged, meet, origin_is_proven
from keepstone.policy.trust import Trust

_SEAL = object()


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule of the gate, whether it is satisfied, by what or why not, and what would help.

    `rule` is the id in the Cedar text. `remedy` is a command, empty where nothing is missing.
    """

    rule: str
    satisfied: bool
    detail: str
    persons: tuple[str, ...] = ()
    statements: tuple[Digest, ...] = ()
    entries: tuple[int, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says about one artifact under one name at one endpoint at one time.

    `rule` decided: `gate.admit` for a yes. `not_proven` lists what a yes does not vouch for.
    `expires` is how long an admission on this evidence may last. Made by `gate` alone.
    """

    allowed: bool
    subject: Subject
    endpoint: str
    now: int
    expires: int
    rule: str
    reasons: tuple[Reason, ...]
    errors: tuple[str, ...]
    profile: str
    policy: Digest
    evidence: tuple[Digest, ...]
    not_proven: tuple[str, ...]
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise InputError("gate.by_hand", "A verdict is made by the gate, never by hand.")

    @property
    def missing(self) -> tuple[Reason, ...]:
        """The reasons that are not satisfied."""
        return tuple(reason for reason in self.reasons if not reason.satisfied)

    def require(self) -> Verdict:
        """Return the verdict if it is yes.

        Raises DeniedError `gate.revoked` or `gate.denied`, OperationalError `policy.error`.
        """
        if self.allowed:
            return self
        if self.errors:
            raise OperationalError(
                "policy.error",
                f"The policy could not be evaluated, so {self.subject.name} is not admitted.",
                "Run `keepstone policy check`.",
            )
        first = self.missing[0]
        raise DeniedError(
            "gate.revoked" if self.rule == "guard.revoked" else "gate.denied",
            f"{self.subject.name} ({self.subject.digest.short}) is not admitted: {first.detail}.",
            first.remedy,
        )


def gate(engine: Engine, trust: Trust, evidence: Evidence, endpoint: str) -> Verdict:
    """Judge the artifact that `evidence` is about, under its name, at `evidence.now`.

    (1) The engine and the trust come from one policy, and the evidence is about one name.
    (2) A standing revocation, and any scan that flags the artifact, are facts of their own.
    (3) Each requirement is met by enough persons in its role, fresh, and apart from the others.
    (4) The origin is proven if a publisher whom the policy names stands behind it.
    (5) Cedar decides over these facts; any error is a no.

    Raises InputError `gate.mixed_policy`, `gate.no_name`, `name.invalid`.
    """
    policy = engine.policy
    # (1)
    if trust.policy.digest != policy.digest:
        raise InputError("gate.mixed_policy", "The signers and the rules are of two policies.")
    if evidence.name is None:
        raise InputError("gate.no_name", "The gate judges an artifact under a name.")
    subject = Subject(evidence.name, evidence.digest)
    # (2)
    reasons = [_revocation_reason(evidence), _scan_reason(evidence)]
    # (3)
    found = [meet(one, evidence, trust, endpoint) for one in policy.requirements]
    reasons += [_requirement_reason(met, evidence) for met in found]
    # (4)
    origin = origin_is_proven(evidence, trust)
    if policy.admission.origin_must_be_proven:
        reasons.append(_origin_reason(origin, subject.name))
    # (5)
    decision = engine.decide_admission(subject.name, _facts(evidence, found, origin))
    votes = [vote for met in found for vote in met.deciding]
    ends = [vote.until for vote in votes if vote.until is not None] + _lifted_until(evidence)
    return Verdict(
        allowed=decision.allowed,
        subject=subject,
        endpoint=endpoint,
        now=evidence.now,
        expires=min([evidence.now + policy.admission.lifetime_ms, *ends]),
        rule=_deciding_rule(decision, reasons),
        reasons=tuple(reasons),
        errors=decision.errors,
        profile=policy.profile,
        policy=policy.digest,
        evidence=digests(votes),
        not_proven=_not_proven(found, origin),
        _seal=_SEAL,
    )


def admit(
    verdict: Verdict, key: SigningKey, *, contract: Digest, ledger: LedgerHead, tool: Tool
) -> bytes:
    """Sign an admission for a yes, from `verdict.now` until `verdict.expires`.

    Returns the envelope's bytes. Raises as `Verdict.require`.
    """
    verdict.require()
    said = predicates.Admission(
        made=Made(tool, created=verdict.now, expires=verdict.expires),
        name=verdict.subject.name,
        endpoint=verdict.endpoint,
        artifact=verdict.subject.digest,
        contract=contract,
        policy=verdict.policy,
        ledger=ledger,
        evidence=verdict.evidence,
    )
    return make_statement(verdict.subject, said, key).to_json()


def _not_proven(found: list[Met], origin: bool) -> tuple[str, ...]:
    """What a yes does not vouch for."""
    tested = any(met.satisfied for met in found if met.requirement.evidence == "robustness")
    named = {"origin": origin, "robustness": tested}
    return tuple(name for name, proven in named.items() if not proven)


def _facts(evidence: Evidence, found: list[Met], origin: bool) -> Mapping[str, Any]:
    return {
        "satisfied": sorted(met.requirement.id for met in found if met.satisfied),
        "revoked": evidence.denied is not None,
        "flagged": bool(flagged(evidence)),
        "origin": origin,
    }


def _deciding_rule(decision: Decision, reasons: list[Reason]) -> str:
    """The first rule, in the order people read them, that Cedar names."""
    if decision.errors:
        return "policy.error"
    if decision.allowed:
        return decision.rules[0]
    order = [reason.rule for reason in reasons if reason.rule in decision.rules]
    return order[0] if order else "no.permit"


def _lifted_until(evidence: Evidence) -> list[int]:
    """When reinstatements run out: the denial they lift stands again from then on."""
    lifting = {denial.lifted_by for denial in evidence.revocations if denial.lifted_by is not None}
    made = [item.predicate.made for item in evidence.live if item.digest in lifting]
    return [one.expires for one in made if one.expires is not None]


def _revocation_reason(evidence: Evidence) -> Reason:
    denial = evidence.denied
    if denial is None:
        return Reason("guard.revoked", True, "No revocation stands")
    item = denial.statement
    return Reason(
        "guard.revoked",
        False,
        f"It was revoked ({denial.revocation.reason})",
        statements=(item.digest,),
        entries=() if item.entry_index is None else (item.entry_index,),
        remedy=f"keepstone reinstate {evidence.name} --as KEY --reason WHY"
        " (by another signer than who revoked it)",
    )


def _scan_reason(evidence: Evidence) -> Reason:
    found = flagged(evidence)
    if not found:
        return Reason("guard.flagged", True, "No scan flags it")
    rules = sorted(
        {
            finding.rule
            for item in found
            if isinstance(item.predicate, predicates.Scan)
            for finding in item.predicate.findings
        }
    )
    return Reason(
        "guard.flagged",
        False,
        f"The newest scan flags it ({', '.join(rules[:5]) or 'no finding kept'})",
        statements=tuple(item.digest for item in found),
        entries=tuple(item.entry_index for item in found if item.entry_index is not None),
        remedy="keepstone scan MODEL shows where; mend the model and run keepstone up MODEL",
    )


def _origin_reason(origin: bool, name: str) -> Reason:
    if origin:
        return Reason("guard.origin", True, "A publisher in the policy stands behind it")
    return Reason(
        "guard.origin",
        False,
        "Its origin is not proven: no publisher in the policy stands behind it",
        remedy="keepstone signers add NAME PUBLIC_KEY --role publisher,"
        f" then keepstone up with the publisher's signature of {name}",
    )


def _requirement_reason(met: Met, evidence: Evidence) -> Reason:
    asked = met.requirement
    rule = f"require.{asked.id}"
    if met.satisfied:
        used = met.deciding
        persons = tuple(vote.person for vote in used)
        entries = [vote.statement.entry_index for vote in used]
        return Reason(
            rule,
            True,
            f"{_wanted(asked)}: by {', '.join(persons)}",
            persons,
            digests(used),
            tuple(entry for entry in entries if entry is not None),
        )
    why = [*met.misses, *(_refusal(one) for one in evidence.refused if one.kind == asked.evidence)]
    have = f"has {len(met.votes)} of {asked.count}" if met.votes else "has none"
    detail = "; ".join([f"{_wanted(asked)}, and it {have}", *why[:5]])
    return Reason(rule, False, detail, remedy=_remedy(asked, str(evidence.name)))


def _wanted(asked: Requirement) -> str:
    what = {
        "scan": "a clean scan by",
        "vulnerabilities": "a scan without known vulnerabilities by",
        "robustness": f"{_tested(asked)} by",
        "privacy": f"{_tested(asked)} tested by",
        "poisoning": f"{_tested(asked)} by",
        "training": "a training statement by",
        "signature": "a signature of",
        "approval": "an approval by",
    }[asked.evidence]
    who = f"{asked.count} persons with the role {asked.role}" if asked.count > 1 else asked.role
    apart = f" (not its {' or '.join(asked.distinct_from)})" if asked.distinct_from else ""
    return f"It needs {what} {who}{apart}"


def _refusal(refused: Refused) -> str:
    return f"statement {refused.digest.short} does not count: {refused.detail.rstrip('.')}"


def _remedy(asked: Requirement, name: str) -> str:
    return {
        "scan": "keepstone up MODEL (scans it again)",
        "vulnerabilities": _rescan(asked, name),
        "robustness": _test(asked),
        "privacy": _test(asked),
        "poisoning": _test(asked),
        "training": f"keepstone up MODEL with a training statement signed by a {asked.role}",
        "signature": "keepstone sign MODEL --private-key KEY --signature SIG, by a"
        f" {asked.role}; then keepstone up MODEL with it",
        "approval": f"keepstone approve {name} --as KEY --reason WHY, by a signer with the role"
        f" {asked.role}",
    }[asked.evidence]


def _tested(asked: Requirement) -> str:
    match asked.bar:
        case RobustnessBar(norm, eps, at_least, _):
            return f"a robust accuracy of {at_least:g} or more within {norm} {eps:g}, tested"
        case PrivacyBar(fpr, at_most, _):
            return f"at most {at_most:g} of its members told at a false-positive rate of {fpr:g},"
        case PoisoningBar(poisons, at_least, _, _):
            return f"an accuracy of {at_least:g} or more certified against {poisons} poisons"
    return ""


def _test(asked: Requirement) -> str:
    """What somebody with the role has to run."""
    match asked.bar:
        case RobustnessBar(norm, eps, at_least, held):
            command = (
                f"attack MODEL --data FILE --norm {norm} --eps {eps:g} --at-least {at_least:g}"
            )
            command += "" if held is None else " --constraints FILE"
        case PrivacyBar(fpr, at_most, shadows):
            command = (
                "attack membership MODEL --members FILE --nonmembers FILE"
                f" --at-most {at_most:g}@{fpr:g}"
            )
            command += f" --train MODULE:FUNCTION --shadows {shadows}" if shadows else ""
        case PoisoningBar(poisons, at_least, attacked, _):
            command = (
                "harden partition --train MODULE:FUNCTION --data FILE --held-out FILE"
                f" --at-least {at_least:g}@{poisons}"
            )
            command += f" --attacked {attacked}" if attacked else ""
            command += " -o MODEL"
        case None:
            return ""
    return f"keepstone {command} --as KEY, by a signer with the role {asked.role}"


def _rescan(asked: Requirement, name: str) -> str:
    what = f"keepstone attest vulnerabilities {name}"
    if asked.role == OBSERVER:
        return f"{what} --scan PATH --osv DIR (with a newer database, or mended packages)"
    return f"{what} --report FILE --as KEY, by a signer with the role {asked.role}"


__all__ = ["Admission", "Reason", "Verdict", "admit", "gate", "verify_admission"]
