"""One requirement against the evidence: who fulfils it, until when, and why others do not.

Pure. Only statements that `Evidence` calls live are looked at: signatures, rights, expiry and
revocation are settled there. Here it is roles, results, age, and who must not be whom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.evidence.predicates import (
    Approval,
    Predicate,
    Scan,
    Signature,
    Training,
    Vulnerabilities,
)
from keepstone.evidence.verified import VerifiedStatement, Why
from keepstone.evidence.verify import Evidence
from keepstone.policy.denials import denies, is_last_word, lapsed
from keepstone.policy.document import OBSERVER, PUBLISHER, Requirement
from keepstone.policy.tested import Tested, falls_short
from keepstone.policy.trust import Trust

# What counted once, and has ended.
_ENDED = frozenset({Why.EXPIRED, Why.STATEMENT_REVOKED, Why.INPUT_ENDED})


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
    candidates = list(_candidates(requirement, evidence, trust))
    denied = lapsed(requirement, evidence, trust)
    misses: list[str] = []
    for vote in candidates:
        miss = _miss(requirement, evidence, trust, endpoint, vote, barred, denied)
        if miss is not None:
            misses.append(miss)
        elif vote.person not in best or _lasts(best[vote.person]) <= _lasts(vote):
            best[vote.person] = vote
    if any(denies(requirement, vote.statement, vote.key_id, evidence) for vote in candidates):
        # Another's good report does not clear what somebody in the role still says is there.
        best.clear()
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
                until = _until(item, requirement)
                yield Vote(trust.person(key_id), key_id, item, until)


def _until(item: VerifiedStatement, requirement: Requirement) -> int | None:
    """When the statement stops counting: it expires, or it or its database becomes too old."""
    predicate = item.predicate
    made = predicate.made
    ends = [] if made.expires is None else [made.expires]
    # The signer's own clock cannot make a statement younger than its entry.
    stated = made.created if item.logged_at is None else min(made.created, item.logged_at)
    if requirement.max_age_ms is not None:
        ends.append(stated + requirement.max_age_ms)
    most, age = requirement.max_database_age_ms, _database_time(item)
    if most is not None and age is not None:
        # Nor can a database be younger than what was judged by it.
        ends.append(min(age, stated) + most)
    return min(ends, default=None)


def _database_time(item: VerifiedStatement) -> int | None:
    predicate = item.predicate
    if not isinstance(predicate, Vulnerabilities) or predicate.database is None:
        return None
    return predicate.database.time


def _lasts(vote: Vote) -> float:
    return float("inf") if vote.until is None else vote.until


def _miss(
    requirement: Requirement,
    evidence: Evidence,
    trust: Trust,
    endpoint: str,
    vote: Vote,
    barred: dict[str, str],
    denied: int,
) -> str | None:
    """Why this vote does not count, or None if it does. `denied`: see `lapsed`."""
    what = _name(vote.statement)
    predicate = vote.statement.predicate
    if isinstance(predicate, Scan | Vulnerabilities | Tested):
        later = "test" if isinstance(predicate, Tested) else "scan"
        if not is_last_word(vote.statement, vote.key_id, evidence):
            return f"{what} was superseded by a later {later}"
        if not isinstance(predicate, Scan) and _was_replaced(vote, evidence):
            return f"{what} was superseded by a later {later}, which has ended since"
        if vote.statement.place < denied:
            return f"{what} was denied by a later {later}, which has ended since: look again"
    if isinstance(predicate, Scan | Vulnerabilities) and predicate.outcome is not Outcome.CLEAN:
        return f"{what} says {predicate.outcome.value.replace('_', ' ')}"
    if isinstance(predicate, Tested):
        short = falls_short(requirement.bar, predicate)
        if short is not None:
            return f"{what} {short}"
    if trust.has_role(vote.key_id, OBSERVER) and _is_waived_by_nobody(predicate, trust):
        return f"{what} rests on a waiver by somebody who has no right to waive"
    if requirement.max_database_age_ms is not None and _database_time(vote.statement) is None:
        return f"{what} does not say how old its database was"
    if isinstance(predicate, Approval) and predicate.endpoint not in (None, endpoint):
        return f"{what} by {vote.person} is for the endpoint {predicate.endpoint}"
    if vote.person in barred:
        return f"{what} is by {vote.person}, who acted as {barred[vote.person]} for this artifact"
    if vote.until is not None and evidence.now >= vote.until:
        return f"{what} by {vote.person} is older than the policy allows"
    return None


def _is_waived_by_nobody(predicate: Predicate, trust: Trust) -> bool:
    """Whether what was seen was waived by a key that the policy gives no such right.

    The observer vouches for what it saw; that it may be overlooked is not the observer's to say.
    """
    return isinstance(predicate, Vulnerabilities) and not all(
        trust.may_waive(one.key_id) for one in predicate.waivers
    )


def _was_replaced(vote: Vote, evidence: Evidence) -> bool:
    """Whether the same key said something later about it that no longer holds.

    A clean word that ends with its waiver, or is revoked, must not bring back the one before it.
    """
    return any(
        one.kind == vote.statement.kind
        and one.why in _ENDED
        and vote.key_id in one.signers
        and one.subject == vote.statement.subject
        and (one.entry_index or 0) > vote.statement.place
        for one in evidence.refused
    )


def _name(item: VerifiedStatement) -> str:
    kind = "scan for vulnerabilities" if item.kind == Vulnerabilities.kind else item.kind
    return f"The {kind} {item.digest.short}"


def digests(votes: Iterable[Vote]) -> tuple[Digest, ...]:
    return tuple(sorted({vote.statement.digest for vote in votes}))
