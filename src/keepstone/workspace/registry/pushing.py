"""A model becomes a version: staged, scanned, its origin observed, sealed, and only then named.

The blob is durable before the entry that names it. A push that is cut short, wherever, leaves at
most a blob that no version names; `keepstone registry collect` drops it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject, check_name
from keepstone.errors import DeniedError, InputError, KeepstoneError, VerificationError
from keepstone.evidence.predicates import Scan
from keepstone.identity.principal import VersionFacts
from keepstone.policy.document import RegistryRules
from keepstone.vault.registry.catalogue import Catalogue, Version
from keepstone.vault.registry.quota import require_room, require_size
from keepstone.vault.registry.records import Pushed as PushedRecord
from keepstone.vault.seal import sealed_bytes
from keepstone.vault.staging import Staged, StagingLimits, stage
from keepstone.vault.walk import reading
from keepstone.workspace.intake import Intake, Observer, Submission
from keepstone.workspace.registry.collecting import drop_if_unnamed
from keepstone.workspace.registry.desk import Attempt, Desk
from keepstone.workspace.registry.moving import note_line
from keepstone.workspace.registry.requests import Push, Pushed
from keepstone.workspace.sealing import keep_sealed

PUSH = "model.push"
# From here on the scan takes long enough to seal meanwhile.
_LARGE = 32 << 20


def push(desk: Desk, asked: Push, observer: Observer) -> Pushed:
    """Bring a model in as the next version under its name.

    (1) The principal may push such a version, and there is room for one, before a byte is taken.
    (2) Stage: one private copy, hashed while it is written, and cut off where it is too large.
    (3) Scan. What is flagged is refused, and nothing of it is kept.
    (4) Observe the signature and take in the statements; read the contract, if it has one.
    (5) Seal: durable before anybody can name it. A large model is sealed while it is scanned.
    (6) Under the lock, once more: the right, the room, and whether it is a version already.
    (7) One entry. From here on it is a version, and not before.

    Raises InputError `name.invalid`, `registry.attributes`, `registry.attributes_differ`,
    `model.*`; DeniedError `policy.denied`, `registry.flagged`, `registry.quota`; and as the steps.
    """
    submission = asked.submission
    with desk.asking("push", submission.name) as attempt:
        # (1)
        note_line(asked.note)
        size = 0 if asked.staged is not None else _size_on_disk(submission.model)
        require_size(desk.rules, size)
        # Of bytes, later: they may be those of a version, which takes no more room.
        name, attributes = _require_welcome(desk, submission.name, asked.attributes, 0)
        # (2)
        observer.begin("stage")
        staged = asked.staged or _stage(desk, submission, observer)
        try:
            observer.end(f"{staged.size:,} bytes, {staged.digest}")
            attempt.fields |= {"model": name, "digest": staged.digest.hex}
            return _take_in(desk, asked, staged, attributes, attempt, observer)
        finally:
            if asked.staged is None:
                staged.discard()


def require_welcome(desk: Desk, name: str, attributes: Mapping[str, str], size: int) -> None:
    """Return if a push of some `size` bytes would be taken now; for who has not sent them yet.

    A promise of nothing: `push` asks again. A refusal is recorded. Raises as `push` (1).
    """
    with desk.asking("push", name):
        require_size(desk.rules, size)
        _require_welcome(desk, name, attributes, size)


def _require_welcome(
    desk: Desk, text: str, given: Mapping[str, str], size: int
) -> tuple[str, frozenset[tuple[str, str]]]:
    name = check_name(text)
    attributes = checked_attributes(desk.rules, given)
    _require_right(desk, desk.catalogue, name, attributes)
    require_room(desk.rules, desk.catalogue, name, size)
    return name, attributes


def checked_attributes(
    rules: RegistryRules, given: Mapping[str, str]
) -> frozenset[tuple[str, str]]:
    """The attributes as the policy asks for them. Raises InputError `registry.attributes`."""
    if given.keys() != rules.attributes.keys():
        wanted = ", ".join(sorted(rules.attributes)) or "none"
        raise InputError(
            "registry.attributes",
            f"A version has these attributes, and no others: {wanted}.",
            "Give each as --attribute NAME=VALUE.",
        )
    for name, value in given.items():
        check_name(value)
        allowed = rules.attributes[name]
        if allowed and value not in allowed:
            raise InputError(
                "registry.attributes",
                f"The policy allows no {name} {value!r}.",
                f"Choose one of {', '.join(sorted(allowed))}.",
            )
    return frozenset(given.items())


def _require_right(
    desk: Desk, catalogue: Catalogue, name: str, attributes: frozenset[tuple[str, str]]
) -> int:
    """The number that the next version gets, if this principal may push it."""
    number = len(catalogue.shelf(name).versions) + 1
    desk.require(PUSH, name, VersionFacts(number, attributes))
    return number


def _size_on_disk(path: Path) -> int:
    """What the files there say of their size: a guess, made before anything is read."""
    with reading(path):
        if not path.is_dir():
            return path.stat().st_size
        return sum(
            (Path(folder) / name).lstat().st_size
            for folder, _, names in os.walk(path)
            for name in names
        )


def _stage(desk: Desk, submission: Submission, observer: Observer) -> Staged:
    defaults = StagingLimits()
    most = min(defaults.max_bytes, desk.rules.max_version_bytes)
    return stage(
        submission.model,
        desk.workspace.layout.staging,
        StagingLimits(most, defaults.max_files, defaults.max_depth),
        progress=observer.copied,
        contract=submission.contract,
    )


def _take_in(
    desk: Desk,
    asked: Push,
    staged: Staged,
    attributes: frozenset[tuple[str, str]],
    attempt: Attempt,
    observer: Observer,
) -> Pushed:
    workspace, sealed = desk.workspace, sealed_bytes(staged)
    require_size(desk.rules, staged.size)
    intake = Intake(workspace, asked.submission, staged, observer)
    subject = intake.subject
    if _same(desk.catalogue, subject, attributes) is None:
        require_room(desk.rules, desk.catalogue, subject.name, sealed)
    with desk.book.arriving(subject):
        try:
            # (3), (4), (5)
            scan, contract = _judged_and_sealed(intake)
            observer.begin("record")
            with desk.book.writing() as catalogue:
                # (6)
                number = _require_right(desk, catalogue, subject.name, attributes)
                same = _same(catalogue, subject, attributes)
                if same is not None:
                    attempt.about(same)
                    observer.end(f"{same.exact}, as before")
                    return Pushed(same, True, None)
                require_room(desk.rules, catalogue, subject.name, sealed)
                # (7)
                entry = desk.book.write(
                    PushedRecord(
                        by=desk.author,
                        model=subject.name,
                        number=number,
                        digest=subject.digest,
                        size=staged.size,
                        sealed=sealed,
                        files=len(staged.artifact),
                        format=scan.format,
                        outcome=scan.outcome,
                        attributes=tuple(sorted(attributes)),
                        contract=contract,
                        note=asked.note,
                    )
                )
                version = desk.catalogue.shelf(subject.name).version(number)
                assert version is not None
        except (DeniedError, InputError, VerificationError):
            # Not where the ledger failed: what it did not acknowledge may be on the disk yet.
            drop_if_unnamed(desk, subject)
            raise
    attempt.about(version)
    observer.end(f"{version.exact}, as entry {entry}")
    return Pushed(version, False, str(entry))


def _judged_and_sealed(intake: Intake) -> tuple[Scan, Digest | None]:
    """Scan, origin and contract, and a durable blob.

    A large copy is sealed while it is scanned. Nobody can name the blob until both are done; what
    is then flagged is dropped.
    """
    with ThreadPoolExecutor(1, "keepstone-seal") as beside:
        early = None
        if intake.staged.size >= _LARGE:
            early = beside.submit(keep_sealed, intake.workspace, intake.staged, intake.subject)
        # (3)
        scan = _require_unflagged(intake.scan())
        # (4)
        intake.take_origin()
        contract = _contract(intake, scan)
        # (5)
        if early is None:
            intake.seal()
        else:
            intake.observer.begin("seal")
            intake.observer.end(early.result())
    return scan, contract


def _same(
    catalogue: Catalogue, subject: Subject, attributes: frozenset[tuple[str, str]]
) -> Version | None:
    """The version that this artifact is already. Raises `registry.attributes_differ`."""
    known = catalogue.shelf(subject.name).holding(subject.digest)
    if known is None or known.collected:
        return None
    if known.attributes != attributes:
        raise InputError(
            "registry.attributes_differ",
            "This artifact is a version already, with other attributes; a version never changes.",
            "Push it with the attributes it has, or under another name.",
        )
    return known


def _require_unflagged(scan: Scan) -> Scan:
    if scan.outcome is Outcome.FLAGGED:
        rules = sorted({finding.rule for finding in scan.findings})
        raise DeniedError(
            "registry.flagged",
            f"The scan flags the model ({', '.join(rules[:5]) or 'no finding kept'}).",
            "See where with `keepstone scan MODEL`; nothing of it was kept.",
        )
    return scan


def _contract(intake: Intake, scan: Scan) -> Digest | None:
    """The digest of what the model accepts; None where it cannot be read, or not without code."""
    if scan.outcome is not Outcome.CLEAN:
        # What was not judged is not opened by a library either.
        return None
    try:
        return intake.contract().digest
    except KeepstoneError as error:
        intake.observer.warn(f"No contract: {error.cause}")
        return None
