"""What one check saw. *Not evaluated* is a result of its own and never reads as clean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Outcome(StrEnum):
    """The verdict of a check over one file, or over all of them (`worst`)."""

    CLEAN = "clean"
    FLAGGED = "flagged"
    NOT_EVALUATED = "not_evaluated"


@dataclass(frozen=True, slots=True)
class Location:
    """Where: a path, a byte offset in it, and the member of a container, as far as known."""

    path: str
    offset: int | None = None
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check saw. `rule` is a stable dotted id, `message` one sentence."""

    rule: str
    severity: Severity
    message: str
    location: Location


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Flagged beats not evaluated beats clean; nothing looked at is not evaluated."""
    seen = set(outcomes)
    for outcome in (Outcome.FLAGGED, Outcome.NOT_EVALUATED, Outcome.CLEAN):
        if outcome in seen:
            return outcome
    return Outcome.NOT_EVALUATED
