"""Which statements decide over given artifacts: what must travel so that a no stays a no.

Pure. Leaving out evidence for a yes is harmless, for without it the gate says no. Leaving out
what ends a statement is not: every revocation travels, and every statement through which one
could reach the chosen ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from keepstone.core.digest import Digest
from keepstone.evidence.predicates import (
    Admission,
    Registered,
    Reinstatement,
    Revocation,
    rests_on,
)
from keepstone.evidence.verified import VerifiedStatement


def needed(
    found: Iterable[VerifiedStatement], artifacts: Collection[Digest] | None = None
) -> tuple[VerifiedStatement, ...]:
    """The statements of `found` that decide over `artifacts` (None: over every one), in order.

    (1) All revocations and reinstatements, of whatever, and all registrations: an alias that
    moved away from a chosen artifact must not look as if it still pointed there. (2) All about
    the artifacts, admissions apart: they are what is decided, not what decides. (3) All that a
    chosen one rests on, through any number of steps. (4) Each copy of a chosen one, for a
    revocation may name it by a copy.
    """
    everything = tuple(found)
    named: dict[Digest, list[VerifiedStatement]] = defaultdict(list)
    for item in everything:
        named[item.payload_digest].append(item)
        named[item.digest].append(item)
    # (1) and (2)
    waiting = [item for item in everything if _is_chosen(item, artifacts)]
    chosen: dict[int, VerifiedStatement] = {}
    while waiting:
        item = waiting.pop()
        if item.place in chosen:
            continue
        chosen[item.place] = item
        # (4) and (3)
        for digest in (item.payload_digest, *rests_on(item.predicate)):
            waiting += named.get(digest, ())
    return tuple(chosen[place] for place in sorted(chosen))


def _is_chosen(item: VerifiedStatement, artifacts: Collection[Digest] | None) -> bool:
    if isinstance(item.predicate, Revocation | Reinstatement | Registered):
        return True
    if isinstance(item.predicate, Admission):
        return False
    return artifacts is None or item.subject.digest in artifacts
