"""Whether an advisory's entry means a version: the OSV schema's evaluation, and no guess.

What the schema leaves to a repository (ranges of commits) or to a version that cannot be put in
order is *undecided*, unless something else in the entry already says yes.
"""

from __future__ import annotations

from functools import cmp_to_key

from keepstone.scan.packages.osv.record import Affected, Event, Range
from keepstone.scan.packages.versions import Order, UnorderableError, compare_semver

# The schema: before any version, and behind any.
_START, _INFINITY = "0", "*"


class UndecidedError(ValueError):
    """The entry cannot be held against the version; the message is the reason, one sentence."""


def is_affected(version: str, entry: Affected, order: Order) -> bool:
    """`IsVulnerable` of the schema for one entry of `affected`. Raises UndecidedError."""
    versions, ranges = entry.versions or (), entry.ranges or ()
    if any(_same(version, listed, order) for listed in versions):
        return True
    undecided = _unorderable(version, order) if versions else ""
    ordered = [one for one in ranges if one.type != "GIT"]
    for one in ordered:
        try:
            if _in_range(version, one, _order_of(one, order)):
                return True
        except UnorderableError as error:
            undecided = str(error)
    if undecided:
        raise UndecidedError(undecided)
    if not versions and not ordered:
        why = "commits alone" if ranges else "no versions"
        raise UndecidedError(f"The advisory names {why}.")
    return False


def fixes(version: str, entry: Affected, order: Order) -> tuple[str, ...]:
    """For each range that holds `version`, the first version behind it that has the fix."""
    found: list[str] = []
    for one in entry.ranges or ():
        if one.type == "GIT":
            continue
        try:
            compare = _order_of(one, order)
            if not _in_range(version, one, compare):
                continue
            behind = [
                event.fixed
                for event in one.events
                if event.fixed is not None and compare(event.fixed, version) > 0
            ]
        except UnorderableError:
            continue
        found += sorted(behind, key=cmp_to_key(compare))[:1]
    return tuple(dict.fromkeys(found))


def _order_of(one: Range, order: Order) -> Order:
    if one.type == "SEMVER":
        return compare_semver
    if one.type == "ECOSYSTEM":
        return order
    raise UnorderableError(f"The advisory has a range of an unknown type: {one.type[:40]!r}.")


def _unorderable(version: str, order: Order) -> str:
    """Why no list of versions can be asked: another spelling of this one may stand there."""
    try:
        order(version, version)
    except UnorderableError as error:
        return str(error)
    return ""


def _same(version: str, listed: str, order: Order) -> bool:
    if version == listed:
        return True
    try:
        return order(version, listed) == 0
    except UnorderableError:
        return False


def _in_range(version: str, one: Range, order: Order) -> bool:
    if not any(event.introduced is not None for event in one.events):
        raise UnorderableError("The advisory has a range without a beginning.")
    if not _before_limits(version, one, order):
        return False
    inside = False

    def compare(first: Event, second: Event) -> int:
        return _events(first, second, order)

    for event in sorted(one.events, key=cmp_to_key(compare)):
        if event.introduced is not None:
            if event.introduced == _START or order(version, event.introduced) >= 0:
                inside = True
        elif event.fixed is not None:
            if order(version, event.fixed) >= 0:
                inside = False
        elif event.last_affected is not None and order(version, event.last_affected) > 0:
            inside = False
    return inside


def _before_limits(version: str, one: Range, order: Order) -> bool:
    limits = [event.limit for event in one.events if event.limit is not None]
    return not limits or any(limit == _INFINITY or order(version, limit) < 0 for limit in limits)


def _events(one: Event, other: Event, order: Order) -> int:
    """The order of a range's events; those of one version stay as they are listed."""
    ranks = [
        (0 if event.introduced == _START else 2 if event.limit is not None else 1)
        for event in (one, other)
    ]
    if ranks[0] != ranks[1] or ranks[0] != 1:
        return ranks[0] - ranks[1]
    return order(one.version, other.version)
