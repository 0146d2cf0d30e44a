"""One requirement against the evidence: who fulfils it, until when, and why others do not.

Pure. Only statements that `Evidence` calls live are looked at: signatures, rights, expiry and
revocation are settled there. Here it is roles, results, age, and who must not be whom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.evidence.predicates import Approval, Scan, Signature, Training
from keepstone.evidence.verified import VerifiedStatement
from keepstone.evidence.verify import Evidence
from keepstone.policy.document import PUBLISHER, Requirement
from keepstone.policy.trust import Trust


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's fulfilment of a requirement, until `until` (ms; None: for as long as it is
    not revoked)."""

    person: str
    key_id: str
    statement: VerifiedStatement
    until: int | None


@dataclass(frozen=True, slots=True)
class Met:
    """What was found for a requirement. `votes` are those that count, the most lasting first;
    `misses` say, one sentence each, why others do not."""

    requirement: Requirement
    votes: tuple[Vote, ...]
    misses: tuple[str, ...]

    @property
    def satisfied(self) -> bool:
        return len(self.votes) >= self.requirement.count

    @property
    def deciding(self) -> tuple[Vote, ...]:
        """The votes that were needed, none where it is not satisfied."""
        return self.votes[: self.requirement.count] if self.satisfied else ()


def meet(requirement: Requirement, evidence: Evidence, trust: Trust, endpoint: str) -> Met:
    """Find who fulfils `requirement`, each person counted once."""
    barred = {
        person: role
        for role in requirement.distinct_from
        for person in actors(role, evidence, trust, apart_from=requirement.evidence)
    }
    best: dict[str, Vote] = {}
    misses: list[str] = []
    for vote in _candidates(requirement, evidence, trust):
        miss = _miss(requirement, evidence, endpoint, vote, barred)
        if miss is not None:
            misses.append(miss)
        elif vote.person not in best or _lasts(best[vote.person]) <= _lasts(vote):
            best[vote.person] = vote
    votes = sorted(best.values(), key=lambda vote: (-_lasts(vote), vote.person))
    return Met(requirement, tuple(votes), tuple(dict.fromkeys(misses)))


def actors(role: str, evidence: Evidence, trust: Trust, *, apart_from: str) -> frozenset[str]:
    """The persons who acted in `role` for this artifact, by statements of any other kind."""
    return frozenset(
        trust.person(key_id)
        for statement in evidence.live
        if statement.kind != apart_from
        for key_id in _authors(statement)
        if trust.has_role(key_id, role)
    )


def newest_scans(evidence: Evidence) -> dict[str, VerifiedStatement]:
    """Each scanning key's last word, by the order of the ledger."""
    return {key_id: item for item in evidence.of(Scan.kind) for key_id in item.signers}


def flagged(evidence: Evidence) -> tuple[VerifiedStatement, ...]:
    """The newest scans that flag the artifact, whoever made them."""
    found = {
        item.digest: item
        for item in newest_scans(evidence).values()
        if isinstance(item.predicate, Scan) and item.predicate.outcome is Outcome.FLAGGED
    }
    return tuple(found.values())


def origin_is_proven(evidence: Evidence, trust: Trust) -> bool:
    """Whether a publisher whom the policy names signed, or stated, where this came from."""
    return any(
        trust.has_role(key_id, PUBLISHER)
        for item in evidence.live
        if item.kind in (Training.kind, Signature.kind)
        for key_id in _authors(item)
    )


def _authors(item: VerifiedStatement) -> tuple[str, ...]:
    """The keys whose word it is: of a signature that was seen, the publisher's."""
    predicate = item.predicate
    return (predicate.publisher,) if isinstance(predicate, Signature) else item.signers


def _candidates(requirement: Requirement, evidence: Evidence, trust: Trust) -> Iterable[Vote]:
    for item in evidence.of(requirement.evidence):
        for key_id in _authors(item):
            if trust.has_role(key_id, requirement.role):
                until = _until(item, requirement.max_age_ms)
                yield Vote(trust.person(key_id), key_id, item, until)


def _until(item: VerifiedStatement, max_age_ms: int | None) -> int | None:
    """When the statement stops counting: it expires, or becomes too old."""
    made = item.predicate.made
    ends = [] if made.expires is None else [made.expires]
    if max_age_ms is not None:
        # The signer's own clock cannot make a statement younger than its entry.
        logged = made.created if item.logged_at is None else item.logged_at
        ends.append(min(made.created, logged) + max_age_ms)
    return min(ends, default=None)


def _lasts(vote: Vote) -> float:
    return float("inf") if vote.until is None else vote.until


def _miss(
    requirement: Requirement,
    evidence: Evidence,
    endpoint: str,
    vote: Vote,
    barred: dict[str, str],
) -> str | None:
    """Why this vote does not count, or None if it does."""
    what = _name(vote.statement)
    predicate = vote.statement.predicate
    if isinstance(predicate, Scan):
        if newest_scans(evidence)[vote.key_id] is not vote.statement:
            return f"{what} was superseded by a later scan"
        if predicate.outcome is not Outcome.CLEAN:
            return f"{what} says {predicate.outcome.value.replace('_', ' ')}"
    if isinstance(predicate, Approval) and predicate.endpoint not in (None, endpoint):
        return f"{what} by {vote.person} is for the endpoint {predicate.endpoint}"
    if vote.person in barred:
        return f"{what} is by {vote.person}, who acted as {barred[vote.person]} for this artifact"
    if vote.until is not None and evidence.now >= vote.until:
        return f"{what} by {vote.person} is older than the policy allows"
    return None


def _name(item: VerifiedStatement) -> str:
    return f"The {item.kind} {item.digest.short}"


def digests(votes: Iterable[Vote]) -> tuple[Digest, ...]:
    return tuple(sorted({vote.statement.digest for vote in votes}))
