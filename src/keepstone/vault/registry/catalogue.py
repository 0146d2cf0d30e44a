"""The catalogue: what the registry holds, as a fold over the records in the ledger.

Frozen, and extended record by record. The fold refuses what could not have been done: a number
that is not the next one, a pointer to what is gone, a confirmation by who proposed or pushed. Such
an entry was not written by a registry, and while there is one nothing is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.vault.registry.records import (
    ALIAS,
    STAGE,
    Collected,
    Deprecated,
    Moved,
    Proposed,
    Pushed,
    Record,
    Swept,
    Withdrawn,
    read_record,
)
from keepstone.vault.registry.reference import Reference


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model. Everything but its end is as it was pushed, for ever."""

    name: str
    number: int
    digest: Digest
    size: int
    sealed: int
    files: int
    format: str
    outcome: Outcome
    attributes: frozenset[tuple[str, str]]
    contract: Digest | None
    pushed_by: str
    pushed_at: int
    entry: int
    note: str
    deprecated: Deprecated | None = None
    collected: bool = False

    @property
    def subject(self) -> Subject:
        """What statements about it name."""
        return Subject(self.name, self.digest)

    @property
    def exact(self) -> str:
        """`name@number`."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """An alias or a stage: what it points to, since when, and by whose hand."""

    kind: str
    name: str
    number: int
    since: int
    by: str
    entry: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A promotion that waits for a second principal. `entry` names it."""

    entry: int
    stage: str
    number: int
    digest: Digest
    was: int | None
    by: str
    since: int
    expires: int
    note: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """All versions of one model, in the order of their numbers, and what points to them."""

    name: str
    versions: tuple[Version, ...] = ()
    pointers: Mapping[str, Pointer] = field(default_factory=lambda: MappingProxyType({}))
    proposals: tuple[Proposal, ...] = ()

    def version(self, number: int) -> Version | None:
        return self.versions[number - 1] if 0 < number <= len(self.versions) else None

    def holding(self, digest: Digest) -> Version | None:
        """The newest version with this digest, one that is not collected before one that is."""
        found = [one for one in self.versions if one.digest == digest]
        return max(found, key=lambda one: (not one.collected, one.number), default=None)

    def pointing_to(self, number: int) -> tuple[Pointer, ...]:
        return tuple(one for one in self.pointers.values() if one.number == number)

    def at(self, kind: str, name: str) -> int | None:
        """The number that the pointer of this kind and name points to."""
        found = self.pointers.get(name)
        return found.number if found is not None and found.kind == kind else None

    def open_proposals(self, now: int, stage: str | None = None) -> tuple[Proposal, ...]:
        """The proposals that may still be confirmed: not expired, and nothing moved meanwhile."""
        return tuple(
            one for one in self.proposals if now < one.expires and stage in (None, one.stage)
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry that the fold does not take, and why."""

    entry: int
    code: str
    cause: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model by name. `sealed` counts the bytes of what is kept; `size` the entries taken."""

    shelves: Mapping[str, Shelf] = field(default_factory=lambda: MappingProxyType({}))
    sealed: int = 0
    size: int = 0
    fault: Fault | None = None

    def extended(self, entries: Iterable[tuple[int, bytes]]) -> Catalogue:
        """The catalogue after further entries (index, body). What does not fit ends it."""
        if self.fault is not None:
            return self
        draft = _Draft(dict(self.shelves), self.sealed, self.size)
        for index, body in entries:
            try:
                record, at = read_record(body)
                draft.take(index, record, at)
            except KeepstoneError as error:
                draft.fault = Fault(index, error.code, error.cause)
                break
        return Catalogue(MappingProxyType(draft.shelves), draft.sealed, draft.size, draft.fault)

    def require_readable(self) -> Catalogue:
        """Return the catalogue if every entry fits, else raise `registry.unreadable`."""
        if self.fault is not None:
            raise OperationalError(
                "registry.unreadable",
                f"Entry {self.fault.entry} of the registry cannot be taken, and it may say no"
                f" ({self.fault.code}: {self.fault.cause})",
                "Run `keepstone ledger verify`; upgrade Keepstone if a newer one wrote it.",
            )
        return self

    def shelf(self, name: str) -> Shelf:
        """The model's shelf, an empty one where there is none."""
        return self.shelves.get(name) or Shelf(name)

    def find(self, wanted: Reference, stages: frozenset[str]) -> Version | None:
        """The version that is meant, or None. `stages` are those that the policy names now.

        The name of a stage means that stage alone: an alias that was called so before does not
        stand in for it.
        """
        shelf = self.shelves.get(wanted.name)
        if shelf is None:
            return None
        if wanted.digest is not None:
            return shelf.holding(wanted.digest)
        number = wanted.number
        if wanted.pointer is not None:
            number = shelf.at(STAGE if wanted.pointer in stages else ALIAS, wanted.pointer)
        return None if number is None else shelf.version(number)

    def versions(self) -> Iterable[Version]:
        """Every version, by name and number."""
        for name in sorted(self.shelves):
            yield from self.shelves[name].versions


def inconsistent(why: str) -> InputError:
    return InputError("registry.inconsistent", f"The registry cannot do that: {why}.")


@dataclass(slots=True)
class _Draft:
    """The fold under way: one catalogue that is not handed out yet."""

    shelves: dict[str, Shelf]
    sealed: int
    size: int
    fault: Fault | None = None
    # By model: which number keeps a digest. Made when a model is first pushed to.
    digests: dict[str, dict[Digest, int]] = field(default_factory=dict)

    def take(self, index: int, record: Record, at: int) -> None:
        _TAKE[type(record)](self, index, record, at)
        self.size += 1

    def shelf(self, name: str) -> Shelf:
        found = self.shelves.get(name)
        if found is None:
            raise inconsistent(f"there is no model {name}")
        return found

    def kept(self, name: str, number: int) -> Version:
        version = self.shelf(name).version(number)
        if version is None or version.collected:
            raise inconsistent(f"there is no version {number} of {name}")
        return version

    def put(self, version: Version) -> None:
        shelf = self.shelf(version.name)
        at = version.number - 1
        versions = (*shelf.versions[:at], version, *shelf.versions[at + 1 :])
        self.shelves[shelf.name] = replace(shelf, versions=versions)

    def pushed(self, index: int, record: Pushed, at: int) -> None:
        shelf = self.shelves.get(record.model) or Shelf(record.model)
        if record.number != len(shelf.versions) + 1:
            raise inconsistent(f"version {record.number} of {record.model} is not the next one")
        kept = self.digests.get(record.model)
        if kept is None:
            kept = {one.digest: one.number for one in shelf.versions if not one.collected}
            self.digests[record.model] = kept
        if record.digest in kept:
            raise inconsistent(f"{record.model}@{kept[record.digest]} is that artifact already")
        kept[record.digest] = record.number
        version = Version(
            name=record.model,
            number=record.number,
            digest=record.digest,
            size=record.size,
            sealed=record.sealed,
            files=record.files,
            format=record.format,
            outcome=record.outcome,
            attributes=frozenset(record.attributes),
            contract=record.contract,
            pushed_by=record.by.principal,
            pushed_at=at,
            entry=index,
            note=record.note,
        )
        self.shelves[shelf.name] = replace(shelf, versions=(*shelf.versions, version))
        self.sealed += record.sealed

    def moved(self, index: int, record: Moved, at: int) -> None:
        shelf = self.shelf(record.model)
        there = shelf.pointers.get(record.pointer)
        # An alias of a stage's name is nothing: the stage begins anew.
        was = there.number if there is not None and there.kind == record.kind else None
        if record.was != was:
            raise inconsistent(f"{record.pointer} did not point to version {record.was}")
        pointers = dict(shelf.pointers)
        if record.number is None:
            if record.kind != ALIAS or was is None:
                raise inconsistent("only an alias that is there is taken away")
            del pointers[record.pointer]
        else:
            version = self.kept(record.model, record.number)
            if version.deprecated is not None:
                raise inconsistent(f"{version.exact} is deprecated")
            if record.proposal is not None:
                _require_second(shelf, version, record, at)
            pointers[record.pointer] = Pointer(
                record.kind, record.pointer, record.number, at, record.by.principal, index
            )
        left = shelf.proposals
        if record.kind == STAGE:
            # What was proposed from another state of affairs is not what would happen now.
            left = tuple(one for one in left if one.stage != record.pointer)
        self.shelves[shelf.name] = replace(
            shelf, pointers=MappingProxyType(pointers), proposals=left
        )

    def proposed(self, index: int, record: Proposed, at: int) -> None:
        version = self.kept(record.model, record.number)
        shelf = self.shelf(record.model)
        if version.digest != record.digest or shelf.at(STAGE, record.stage) != record.was:
            raise inconsistent("a proposal is about what the stage and the version are")
        if record.expires <= at:
            raise inconsistent("a proposal ends after it was made")
        proposal = Proposal(
            entry=index,
            stage=record.stage,
            number=record.number,
            digest=record.digest,
            was=record.was,
            by=record.by.principal,
            since=at,
            expires=record.expires,
            note=record.note,
        )
        # One for each stage and version, and none that ended.
        others = tuple(
            one
            for one in shelf.open_proposals(at)
            if (one.stage, one.number) != (record.stage, record.number)
        )
        self.shelves[shelf.name] = replace(shelf, proposals=(*others, proposal))

    def withdrawn(self, index: int, record: Withdrawn, at: int) -> None:
        shelf = self.shelf(record.model)
        left = tuple(one for one in shelf.proposals if one.entry != record.proposal)
        if len(left) == len(shelf.proposals):
            raise inconsistent(f"there is no proposal {record.proposal}")
        self.shelves[shelf.name] = replace(shelf, proposals=left)

    def deprecated(self, index: int, record: Deprecated, at: int) -> None:
        self.put(replace(self.kept(record.model, record.number), deprecated=record))

    def collected(self, index: int, record: Collected, at: int) -> None:
        shelf = self.shelf(record.model)
        for number in record.numbers:
            version = self.kept(record.model, number)
            if number == len(shelf.versions) or shelf.pointing_to(number):
                raise inconsistent(f"{version.exact} is the newest, or something points to it")
            if any(one.number == number for one in shelf.open_proposals(at)):
                raise inconsistent(f"{version.exact} is proposed")
            self.put(replace(version, collected=True))
            self.digests.get(version.name, {}).pop(version.digest, None)
            self.sealed -= version.sealed

    def swept(self, index: int, record: Swept, at: int) -> None:
        for blob in record.blobs:
            version = (self.shelves.get(blob.name) or Shelf(blob.name)).holding(blob.digest)
            if version is not None and not version.collected:
                raise inconsistent(f"{version.exact} is a version, and its bytes stay")


def _require_second(shelf: Shelf, version: Version, record: Moved, at: int) -> None:
    """A confirmation is of an open proposal, by who neither proposed nor pushed it."""
    proposal = next((one for one in shelf.open_proposals(at) if one.entry == record.proposal), None)
    named = (record.pointer, version.number, version.digest, record.was)
    if proposal is None or named != (
        proposal.stage,
        proposal.number,
        proposal.digest,
        proposal.was,
    ):
        raise inconsistent(f"no proposal {record.proposal} is open for that")
    if record.by.principal in (proposal.by, version.pushed_by):
        raise inconsistent("who proposed it, or pushed it, does not confirm it")


_TAKE: Mapping[type[Record], Callable[[_Draft, int, Any, int], None]] = MappingProxyType(
    {
        Pushed: _Draft.pushed,
        Moved: _Draft.moved,
        Proposed: _Draft.proposed,
        Withdrawn: _Draft.withdrawn,
        Deprecated: _Draft.deprecated,
        Collected: _Draft.collected,
        Swept: _Draft.swept,
    }
)
