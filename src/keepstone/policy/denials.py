"""Who says of an artifact what must not be, and for how long that stands against what others say.

Pure. Another's good report does not clear what somebody in the role says is there. When such a
word ends with time, nothing was mended by that: reports from before it stay cleared away, and
only one that came after it counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from keepstone.core.finding import Outcome
from keepstone.evidence.predicates import Predicate, Vulnerabilities
from keepstone.evidence.verified import Refused, VerifiedStatement, Why
from keepstone.evidence.verify import Evidence
from keepstone.policy.document import Requirement
from keepstone.policy.tested import Tested, matter, outweighs, speaks_against
from keepstone.policy.trust import Trust


def is_last_word(statement: VerifiedStatement, key_id: str, evidence: Evidence) -> bool:
    """Whether the key said nothing later on the same matter."""
    about = matter(statement.predicate)
    said = [
        item
        for item in evidence.of(statement.kind)
        if key_id in item.signers and matter(item.predicate) == about
    ]
    return said[-1] is statement


def denies(
    requirement: Requirement, statement: VerifiedStatement, key_id: str, evidence: Evidence
) -> bool:
    """Whether this live word of the key says what must not be, and nothing took it back.

    Vulnerabilities that go with the artifact stand until the key's next word; attacks that prove
    too much until a test that is as good.
    """
    predicate = statement.predicate
    if not _is_against(requirement, predicate):
        return False
    if isinstance(predicate, Vulnerabilities):
        return is_last_word(statement, key_id, evidence)
    later = [
        item.predicate
        for item in evidence.of(statement.kind)
        if item.place > statement.place and key_id in item.signers
    ]
    return not _taken_back(requirement, predicate, later)


def lapsed(requirement: Requirement, evidence: Evidence, trust: Trust) -> int:
    """The place in the ledger of the last word that denied, and expired; -1 if there is none."""
    places = [
        one.entry_index or 0
        for one in evidence.refused
        if one.kind == requirement.evidence
        and one.why is Why.EXPIRED
        and (one.subject is None or evidence.name in (None, one.subject.name))
        and one.predicate is not None
        and _is_against(requirement, one.predicate)
        and any(
            trust.has_role(key_id, requirement.role)
            and not _taken_back(requirement, one.predicate, _later(one, key_id, evidence))
            for key_id in one.signers
        )
    ]
    return max(places, default=-1)


def _later(one: Refused, key_id: str, evidence: Evidence) -> list[Predicate]:
    """What the key said after it, and still says or would if time had not ended it."""
    items: list[VerifiedStatement | Refused] = [*evidence.live]
    items += [item for item in evidence.refused if item.why is Why.EXPIRED]
    return [
        item.predicate
        for item in items
        if item.kind == one.kind
        and item.predicate is not None
        and (item.entry_index or 0) > (one.entry_index or 0)
        and key_id in item.signers
    ]


def _is_against(requirement: Requirement, predicate: Predicate) -> bool:
    if isinstance(predicate, Vulnerabilities):
        return predicate.outcome is Outcome.FLAGGED
    if isinstance(predicate, Tested):
        return speaks_against(requirement.bar, predicate)
    return False


def _taken_back(requirement: Requirement, denial: Predicate, later: Sequence[Predicate]) -> bool:
    if isinstance(denial, Tested):
        return any(
            isinstance(one, Tested) and outweighs(requirement.bar, one, denial) for one in later
        )
    return bool(later)
