"""What was measured of a model under attack, held against what a policy asks.

Pure. What decides is the unfavourable end of an interval, never the number in its middle, and
never the threshold that whoever measured it had in mind.
"""

from __future__ import annotations

from keepstone.evidence.predicates import Predicate, Privacy, Robustness
from keepstone.policy.document import Bar, PrivacyBar, RobustnessBar

Tested = Robustness | Privacy


def matter(predicate: Predicate) -> str:
    """What a later statement of a key replaces an earlier one on: robustness under one norm says
    nothing about another."""
    return predicate.norm if isinstance(predicate, Robustness) else ""


def falls_short(bar: Bar | None, predicate: Tested) -> str | None:
    """What the statement lacks of the bar, as the rest of a sentence; None where it reaches it."""
    if isinstance(bar, RobustnessBar) and isinstance(predicate, Robustness):
        return _not_robust(bar, predicate)
    if isinstance(bar, PrivacyBar) and isinstance(predicate, Privacy):
        return _not_private(bar, predicate)
    return "is of another kind than what is asked"


def speaks_against(bar: Bar | None, predicate: Tested) -> bool:
    """Whether it proves that the bar is not reached, which no weaker attack of others undoes."""
    if isinstance(bar, RobustnessBar) and isinstance(predicate, Robustness):
        return (
            predicate.verdict != "invalid"
            and predicate.norm == bar.norm
            and any(
                one.eps <= bar.eps and one.robust.high < bar.at_least for one in predicate.within
            )
        )
    if isinstance(bar, PrivacyBar) and isinstance(predicate, Privacy):
        found = predicate.at(bar.fpr)
        return found is not None and found.told.low > bar.at_most
    return False


def _not_robust(bar: RobustnessBar, predicate: Robustness) -> str | None:
    if not predicate.measured:
        return f"says {predicate.verdict}"
    if predicate.norm != bar.norm:
        return f"is about the norm {predicate.norm}, not {bar.norm}"
    found = predicate.at(bar.eps)
    if found is None:
        most = predicate.within[-1].eps
        return f"looked at perturbations up to {most:g} only, not {bar.eps:g}"
    if found.robust.low < bar.at_least:
        return (
            f"vouches for a robust accuracy of {found.robust.low:.3f} at eps {found.eps:g} (it"
            f" measured {found.robust.value:.3f}), and {bar.at_least:g} is asked"
        )
    return None


def _not_private(bar: PrivacyBar, predicate: Privacy) -> str | None:
    found = predicate.at(bar.fpr)
    if found is None:
        return f"did not look at a false-positive rate of {bar.fpr:g}"
    if not found.sufficient:
        return f"had too few rows to speak of a false-positive rate of {bar.fpr:g}"
    if predicate.shadows < bar.shadows:
        return f"rests on {predicate.shadows} shadow models, and {bar.shadows} are asked"
    if found.told.high > bar.at_most:
        return (
            f"cannot exclude that {found.told.high:.3f} of the members are told (it measured"
            f" {found.told.value:.3f}), and at most {bar.at_most:g} is asked"
        )
    return None
