"""The evidence in a bill of materials: every statement by its digest and its ledger entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.evidence.documents import Bom
from keepstone.evidence.predicates import (
    Admission,
    Approval,
    Reinstatement,
    Revocation,
    Scan,
    Sealing,
    Signature,
    Training,
)
from keepstone.evidence.verified import VerifiedStatement
from keepstone.governance.facts import BomFacts
from keepstone.governance.words import plain, without_empty

# The kind of statement that says which known vulnerabilities were looked for.
VULNERABILITIES = "vulnerabilities"
# What CycloneDX calls a reference to each kind.
_TYPES = {
    Scan.kind: "static-analysis-report",
    Signature.kind: "digital-signature",
    Training.kind: "attestation",
    VULNERABILITIES: "vulnerability-assertion",
    Approval.kind: "attestation",
    Revocation.kind: "attestation",
    Reinstatement.kind: "attestation",
}
# Admissions are renewed every hour and say what the verdict says; a document's own signature
# comes after it.
LEFT_OUT = frozenset({Admission.kind, Bom.kind})


def statements(facts: BomFacts) -> list[VerifiedStatement]:
    """What counts about the model, and each revocation of it, in ledger order."""
    found = {item.digest: item for item in facts.evidence.live if item.kind not in LEFT_OUT}
    found |= {denial.digest: denial.statement for denial in facts.evidence.revocations}
    return sorted(found.values(), key=lambda item: (item.place, item.digest))


def references(facts: BomFacts) -> Iterator[dict[str, Any]]:
    """One reference to each statement, and one to the ledger."""
    for item in statements(facts):
        yield {
            "type": _TYPES.get(item.kind, "evidence"),
            "url": f"urn:keepstone:entry:{_entry(facts, item)}",
            "comment": f"{item.kind} by {_persons(facts, item)}",
            "hashes": [{"alg": "SHA-256", "content": item.digest.hex}],
        }
    yield {"type": "log", "url": f"urn:keepstone:ledger:{facts.origin.rpartition('/')[2]}"}


def evidence(facts: BomFacts) -> Iterator[dict[str, Any]]:
    """Each statement with who signed it, when it was made, until when, and what it says."""
    for item in statements(facts):
        made = item.predicate.made
        entry = _entry(facts, item)
        yield without_empty(
            {
                "bom-ref": _ref(item.digest),
                "propertyName": item.statement.predicate_type,
                "description": plain(_says(item)),
                "data": [{"name": entry, "contents": {"url": f"urn:keepstone:entry:{entry}"}}],
                "created": rfc3339(made.created),
                "expires": None if made.expires is None else rfc3339(made.expires),
                "author": {"name": _persons(facts, item)},
            }
        )


def claims(facts: BomFacts, target: str) -> list[dict[str, Any]]:
    """Each rule of the gate: whether it is satisfied, why, and by which statements."""
    known = {item.digest for item in statements(facts)}
    found = []
    for reason in facts.verdict.reasons:
        refs = sorted(_ref(digest) for digest in set(reason.statements) & known)
        found.append(
            without_empty(
                {
                    "bom-ref": f"claim:{reason.rule}",
                    "target": target,
                    "predicate": f"{reason.rule}: {'' if reason.satisfied else 'not '}satisfied",
                    "reasoning": plain(reason.detail),
                    "evidence" if reason.satisfied else "counterEvidence": refs,
                }
            )
        )
    return found


def newest_admissions(facts: BomFacts) -> Iterator[str]:
    """The newest admission at each endpoint, as a line."""
    newest: dict[str, tuple[VerifiedStatement, Admission]] = {}
    for item in facts.evidence.of(Admission.kind):
        if isinstance(item.predicate, Admission):
            newest[item.predicate.endpoint] = (item, item.predicate)
    for _, (item, said) in sorted(newest.items()):
        yield admission_line(item, said, _entry(facts, item))


def admission_line(item: VerifiedStatement, said: Admission, entry: str) -> str:
    until = rfc3339(said.expires)
    return plain(f"{said.endpoint}: {item.digest} until {until}, entry {entry}")


def _ref(digest: Digest) -> str:
    return f"statement:{digest}"


def _entry(facts: BomFacts, item: VerifiedStatement) -> str:
    # A revocation is in force before it is recorded.
    return facts.entries.get(item.place, "unrecorded")


def _persons(facts: BomFacts, item: VerifiedStatement) -> str:
    return ", ".join(sorted({facts.persons.get(key, key) for key in item.signers}))


def _says(item: VerifiedStatement) -> str:
    said = item.predicate
    match said:
        case Scan():
            found = f"{said.total} findings, rules {said.rules_version}"
            return f"{said.outcome} as {said.format}, {found}"
        case Signature():
            return f"a {said.method} signature of the key {said.publisher}, bundle {said.bundle}"
        case Training():
            return f"trained with {said.framework} on {said.dataset.name} {said.dataset.digest}"
        case Approval():
            return f"approved: {said.reason}"
        case Sealing():
            return f"sealed as number {said.version} under its name"
        case Revocation():
            return f"revoked: {said.reason}"
        case Reinstatement():
            return f"reinstated: {said.reason}"
    return said.kind
