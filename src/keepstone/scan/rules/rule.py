"""What a rule is: its stable id, how grave it is, and what it makes of the file."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.core.finding import Outcome, Severity

FLAGGED, OPEN = Outcome.FLAGGED, Outcome.NOT_EVALUATED
LOW, MEDIUM, HIGH, CRITICAL = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Rule:
    """`meaning` is the sentence that docs/rules.md and SARIF show."""

    id: str
    severity: Severity
    outcome: Outcome
    meaning: str
