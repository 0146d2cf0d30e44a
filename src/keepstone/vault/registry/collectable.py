"""Which versions may be collected. Pure: the evidence that keeps one is handed in."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.core.subject import Subject
from keepstone.vault.registry.catalogue import Catalogue, Shelf, Version


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays. `newest` versions of each model (None: no version goes for being old), all that
    came in less than `younger_than_ms` ago, and `live`: what live evidence is about."""

    newest: int | None
    younger_than_ms: int
    live: frozenset[Subject]


def collectable(catalogue: Catalogue, kept: Kept, now: int) -> tuple[Version, ...]:
    """Every version that may go at `now`.

    Deprecated past its time, or beyond the newest that are kept; and never one that an alias or
    stage points to, that live evidence or an open proposal is about, or that is the newest.
    """
    return tuple(
        version
        for name in sorted(catalogue.shelves)
        for version in _of_shelf(catalogue.shelves[name], kept, now)
    )


def _of_shelf(shelf: Shelf, kept: Kept, now: int) -> list[Version]:
    here = [version for version in shelf.versions if not version.collected]
    # The newest number, whatever became of it, and the newest that still has its bytes.
    stay = {len(shelf.versions), *(version.number for version in here[-1:])}
    stay |= {pointer.number for pointer in shelf.pointers.values()}
    stay |= {proposal.number for proposal in shelf.open_proposals(now)}
    recent = here if kept.newest is None else here[-kept.newest :]
    spared = {version.number for version in recent}
    return [
        version
        for version in here
        if (version.number not in spared or _is_past(version, now))
        and version.number not in stay
        and version.subject not in kept.live
        and version.pushed_at + kept.younger_than_ms <= now
    ]


def _is_past(version: Version, now: int) -> bool:
    said = version.deprecated
    return said is not None and said.until is not None and said.until <= now
