"""Garbage collection: what nobody names and nothing keeps is dropped, and the ledger says so.

The entry comes first and the bytes go second. A crash between the two leaves a blob that no
version names, and the next collection drops that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.predicates import Admission, Approval, Sealing
from keepstone.vault.registry.catalogue import Catalogue, Version
from keepstone.vault.registry.collectable import Kept, collectable
from keepstone.vault.registry.records import MAX_COLLECTED, MAX_SWEPT, Collected, Swept
from keepstone.vault.stores.port import Leftover
from keepstone.workspace.opened import Workspace
from keepstone.workspace.registry.desk import Desk

COLLECT = "registry.collect"
# A write may take hours.
_UNDER_WAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class CollectRules:
    """What may go. `keep` is how many of a model's newest versions stay; None: all of them but
    those deprecated past their time. Nothing younger than `older_than_ms` goes."""

    keep: int | None = None
    older_than_ms: int = 0
    dry_run: bool = False

    def __post_init__(self) -> None:
        if (self.keep is not None and self.keep < 1) or self.older_than_ms < 0:
            raise InputError("registry.collect_rules", "At least one version of a model is kept.")


@dataclass(frozen=True, slots=True)
class Collection:
    """What was collected, or would be: versions, blobs that no version named, and how many writes
    that were cut short."""

    versions: tuple[Version, ...]
    orphans: tuple[Subject, ...]
    entries: tuple[str, ...]
    leftovers: int = 0

    @property
    def bytes(self) -> int:
        return sum(version.sealed for version in self.versions)


def collect(desk: Desk, rules: CollectRules) -> Collection:
    """Drop what may go, under the lock: no push arrives and no pointer moves meanwhile.

    Raises DeniedError `policy.denied`; OperationalError `evidence.unreadable`, `ledger.*`.
    """
    with desk.asking("collect", "dry run" if rules.dry_run else "", read=rules.dry_run):
        desk.require(COLLECT, None, None)
        with desk.book.writing() as catalogue:
            versions = _versions(desk, catalogue, rules)
            orphans = _orphans(desk, catalogue, rules)
            leftovers = _leftovers(desk, rules)
            if rules.dry_run:
                return Collection(versions, orphans, (), len(leftovers))
            entries = _record(desk, versions, orphans)
            for subject in (*(version.subject for version in versions), *orphans):
                desk.workspace.store.delete(subject.digest, subject.name)
            for leftover in leftovers:
                desk.workspace.store.remove(leftover)
            return Collection(versions, orphans, entries, len(leftovers))


def _versions(desk: Desk, catalogue: Catalogue, rules: CollectRules) -> tuple[Version, ...]:
    kept = Kept(rules.keep, rules.older_than_ms, live_subjects(desk.workspace, desk.now))
    found = collectable(catalogue, kept, desk.now)
    return tuple(one for one in found if not desk.book.arrivals(one.subject))


def live_subjects(workspace: Workspace, now: int) -> frozenset[Subject]:
    """Everything about which an approval or an admission is in force now.

    Raises OperationalError `evidence.unreadable`: what cannot be read may be such a one.
    """
    evidence = workspace.evidence
    evidence.require_readable()
    asked = {
        item.subject
        for item in evidence.statements
        if item.kind in (Approval.kind, Admission.kind)
        and (item.predicate.made.expires is None or now < item.predicate.made.expires)
    }
    return frozenset(
        subject
        for subject in asked
        if any(
            item.kind in (Approval.kind, Admission.kind)
            for item in evidence.about(subject.digest, subject.name, now).live
        )
    )


def _orphans(desk: Desk, catalogue: Catalogue, rules: CollectRules) -> tuple[Subject, ...]:
    sealed_at: dict[Subject, int] = {}
    admitted: set[Subject] = set()
    for item in desk.workspace.evidence.statements:
        if isinstance(item.predicate, Sealing):
            sealed_at[item.subject] = item.logged_at or item.predicate.made.created
        elif isinstance(item.predicate, Admission):
            admitted.add(item.subject)
    live = live_subjects(desk.workspace, desk.now)
    return tuple(
        subject
        for held in desk.workspace.store.addresses()
        if (subject := Subject(held.name, held.digest)) not in live
        and subject not in admitted
        and not _is_named(catalogue, subject)
        and not desk.book.arrivals(subject)
        and sealed_at.get(subject, 0) + rules.older_than_ms <= desk.now
    )


def _leftovers(desk: Desk, rules: CollectRules) -> tuple[Leftover, ...]:
    """What writes left that were cut short. One that is under way looks the same, so none of the
    last day is taken: it was never anything that anybody could read."""
    until = desk.now - max(rules.older_than_ms, _UNDER_WAY_MS)
    return tuple(one for one in desk.workspace.store.leftovers() if one.since <= until)


def _is_named(catalogue: Catalogue, subject: Subject) -> bool:
    version = catalogue.shelf(subject.name).holding(subject.digest)
    return version is not None and not version.collected


def _record(
    desk: Desk, versions: Iterable[Version], orphans: tuple[Subject, ...]
) -> tuple[str, ...]:
    by_model: dict[str, list[int]] = defaultdict(list)
    for version in versions:
        by_model[version.name].append(version.number)
    entries = []
    for model, numbers in sorted(by_model.items()):
        for at in range(0, len(numbers), MAX_COLLECTED):
            part = tuple(numbers[at : at + MAX_COLLECTED])
            entries.append(desk.book.write(Collected(desk.author, model, part)))
    for at in range(0, len(orphans), MAX_SWEPT):
        entries.append(desk.book.write(Swept(desk.author, orphans[at : at + MAX_SWEPT])))
    return tuple(map(str, entries))


def drop_if_unnamed(desk: Desk, subject: Subject) -> None:
    """Delete the blob of a push that was refused, unless somebody else named it or brings it."""
    with desk.book.writing() as catalogue:
        others = desk.book.arrivals(subject) > 1
        admitted = any(
            isinstance(item.predicate, Admission) and item.subject == subject
            for item in desk.workspace.evidence.statements
        )
        if not (others or admitted or _is_named(catalogue, subject)):
            desk.workspace.store.delete(subject.digest, subject.name)
