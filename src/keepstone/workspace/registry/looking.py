"""What a principal is shown: versions, what points to them, what is known, and how two differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keepstone.core.digest import FileDigest
from keepstone.core.ports import rfc3339
from keepstone.core.subject import check_name
from keepstone.errors import InputError
from keepstone.evidence.predicates import Scan
from keepstone.policy.explain import explain_model
from keepstone.vault.registry.catalogue import Shelf, Version
from keepstone.vault.registry.records import STAGE
from keepstone.vault.registry.reference import Reference
from keepstone.workspace.registry.desk import Attempt, Desk, not_found
from keepstone.workspace.registry.pulling import listing_of, warnings_of

MAX_PAGE = 10_000
# What `show` and `diff` print of a folder with many files.
MAX_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some versions as JSON members, and where the next page begins; None after the last."""

    versions: tuple[dict[str, Any], ...]
    next: str | None


def list_versions(
    desk: Desk, model: str | None = None, after: str | None = None, limit: int = 1000
) -> Page:
    """The versions that this principal may see, by name and number, from after `after` on.

    A page is full whatever lies hidden between its lines, and a cursor is a place in the order,
    not a version: it need not be anybody's. Raises InputError `registry.bad_page`, `name.invalid`.
    """
    with desk.asking("list", model or "*", read=True):
        if not 0 < limit <= MAX_PAGE:
            raise InputError("registry.bad_page", f"A page holds 1 to {MAX_PAGE} versions.")
        names = sorted(desk.catalogue.shelves) if model is None else [check_name(model)]
        start = ("", 0) if after is None else _place(after)
        found: list[dict[str, Any]] = []
        for version in _after(desk, names, start):
            if len(found) == limit:
                last = found[-1]
                return Page(tuple(found), f"{last['model']}@{last['number']}")
            found.append(version_document(desk, version))
        return Page(tuple(found), None)


def _after(desk: Desk, names: list[str], start: tuple[str, int]) -> Iterator[Version]:
    for name in names:
        if name >= start[0]:
            first = start[1] if name == start[0] else 0
            yield from (one for one in desk.visible(name) if one.number > first)


def _place(text: str) -> tuple[str, int]:
    wanted = Reference.parse(text)
    if wanted.number is None:
        raise InputError(
            "registry.bad_page",
            "Not where a page ends.",
            "Give the `next` of the page before.",
        )
    return wanted.name, wanted.number


def show(desk: Desk, text: str) -> dict[str, Any]:
    """A model with all its versions, or one version with what is known of it, as JSON members.

    Raises InputError `registry.not_found`.
    """
    with desk.asking("show", text, read=True) as attempt:
        wanted = Reference.parse(text)
        if wanted.is_whole:
            return _model(desk, text, wanted.name)
        version = desk.find(text, attempt, kept=False)
        return _version(desk, version, desk.endpoint_of(text))


def _model(desk: Desk, text: str, name: str) -> dict[str, Any]:
    versions = desk.visible(name)
    if not versions:
        raise not_found(text)
    shelf, seen = desk.catalogue.shelf(name), {version.number for version in versions}
    return {
        "model": name,
        "versions": [version_document(desk, version) for version in versions],
        "pointers": [
            {"kind": one.kind, "name": one.name, "number": one.number, "since": rfc3339(one.since)}
            for one in _pointers(desk, shelf)
            if one.number in seen
        ],
        "proposals": _proposals(desk, shelf, seen),
    }


def _version(desk: Desk, version: Version, endpoint: str) -> dict[str, Any]:
    shelf = desk.catalogue.shelf(version.name)
    return version_document(desk, version) | {
        "note": version.note,
        "warnings": list(warnings_of(version)),
        "proposals": _proposals(desk, shelf, {version.number}),
        "endpoint": endpoint,
        "gate": _gate(desk, version, endpoint),
        "evidence": evidence_of(desk, version),
        "files": None
        if version.collected
        else [file_document(one) for one in _files(desk, version)],
    }


def _gate(desk: Desk, version: Version, endpoint: str) -> dict[str, Any]:
    return explain_model(desk.verdict(version, endpoint)).to_dict()


def _files(desk: Desk, version: Version) -> tuple[FileDigest, ...]:
    return listing_of(desk.workspace, version)[:MAX_FILES]


def _pointers(desk: Desk, shelf: Shelf) -> list[Any]:
    """What may point now: the name of a stage is that stage's alone."""
    if not shelf.pointers:
        return []
    return [one for one in shelf.pointers.values() if one.kind == desk.pointer_kind(one.name)]


def _proposals(desk: Desk, shelf: Shelf, seen: set[int]) -> list[dict[str, Any]]:
    return [
        {
            "stage": one.stage,
            "number": one.number,
            "digest": str(one.digest),
            # What it leaves is named to who may see that.
            "from": one.was if one.was in seen else None,
            "by": one.by,
            "expires": rfc3339(one.expires),
            "note": one.note,
        }
        for one in shelf.open_proposals(desk.now)
        if one.number in seen and one.stage in desk.stages
    ]


def version_document(desk: Desk, version: Version) -> dict[str, Any]:
    """One version in a line's worth of JSON members."""
    shelf = desk.catalogue.shelf(version.name)
    pointing = [one for one in _pointers(desk, shelf) if one.number == version.number]
    aliases = [one.name for one in pointing if one.kind != STAGE]
    stages = [one.name for one in pointing if one.kind == STAGE]
    said = version.deprecated
    return {
        "model": version.name,
        "number": version.number,
        "digest": str(version.digest),
        "size": version.size,
        "files_count": version.files,
        "format": version.format,
        "scan": version.outcome.value,
        "attributes": dict(sorted(version.attributes)),
        "contract": None if version.contract is None else str(version.contract),
        "aliases": sorted(aliases),
        "stages": sorted(stages),
        "pushed": {"by": version.pushed_by, "at": rfc3339(version.pushed_at)},
        "deprecated": None
        if said is None
        else {
            "reason": said.reason,
            "until": None if said.until is None else rfc3339(said.until),
        },
        "collected": version.collected,
    }


def evidence_of(desk: Desk, version: Version) -> list[dict[str, Any]]:
    """Every live statement about a version, oldest first."""
    about = desk.workspace.evidence.about(version.digest, version.name, desk.now)
    trust = desk.workspace.trust
    found = []
    for item in about.live:
        said = item.predicate
        line: dict[str, Any] = {
            "kind": item.kind,
            "digest": str(item.digest),
            "by": [trust.person(key) for key in item.signers],
            "created": rfc3339(said.made.created),
            "expires": None if said.made.expires is None else rfc3339(said.made.expires),
        }
        if isinstance(said, Scan):
            line |= {
                "outcome": said.outcome.value,
                "rules_version": said.rules_version,
                "findings": sorted({finding.rule for finding in said.findings}),
            }
        found.append(line)
    return found


def file_document(file: FileDigest) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256.hex}


def diff(desk: Desk, first: str, second: str) -> dict[str, Any]:
    """How two versions differ, both of which this principal sees: as JSON members.

    Files by path; size, digest, format, contract, attributes, scan and evidence side by side.
    Raises InputError `registry.not_found`, `registry.collected`.
    """
    with desk.asking("diff", f"{first} {second}", read=True) as attempt:
        # Both are looked up before either is answered.
        versions, attempts = [], (attempt, Attempt())
        faults = []
        for text, each in zip((first, second), attempts, strict=True):
            try:
                versions.append(desk.find(text, each))
            except InputError as error:
                faults.append(error)
        if faults:
            raise faults[0]
        attempt.fields["other"] = f"{versions[1].name}@{versions[1].number}"
        return _difference(desk, *versions)


def _difference(desk: Desk, a: Version, b: Version) -> dict[str, Any]:
    before = {one.path: one for one in listing_of(desk.workspace, a)}
    after = {one.path: one for one in listing_of(desk.workspace, b)}
    sides = [version_document(desk, version) for version in (a, b)]
    names = ("digest", "size", "format", "contract", "attributes", "scan", "files_count")
    return {
        "a": a.exact,
        "b": b.exact,
        "same": a.digest == b.digest,
        "changed": {
            name: [side[name] for side in sides]
            for name in names
            if sides[0][name] != sides[1][name]
        },
        "files": {
            "removed": [file_document(before[path]) for path in sorted(before.keys() - after)],
            "added": [file_document(after[path]) for path in sorted(after.keys() - before)],
            "changed": [
                {"path": path, "a": file_document(before[path]), "b": file_document(after[path])}
                for path in sorted(before.keys() & after)
                if before[path] != after[path]
            ],
        },
        "evidence": [evidence_of(desk, version) for version in (a, b)],
    }
