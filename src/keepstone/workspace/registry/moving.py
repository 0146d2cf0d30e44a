"""What points to a version: aliases, which are free, and the stages that the policy names.

A pointer moves through the gate: it says yes to the version, at the pointer's name, at the moment
of the move. It is asked again whenever somebody uses the pointer.
"""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.errors import DeniedError, InputError
from keepstone.evidence.fields import Fields
from keepstone.policy.document import Stage
from keepstone.policy.gate import Verdict
from keepstone.vault.registry.catalogue import Proposal, Version
from keepstone.vault.registry.records import ALIAS, STAGE, Deprecated, Moved, Proposed, Withdrawn
from keepstone.vault.registry.reference import check_pointer
from keepstone.workspace.registry.desk import Attempt, Desk, verdict_fields

ALIASING, PROMOTE, DEPRECATE = "model.alias", "model.promote", "model.deprecate"


@dataclass(frozen=True, slots=True)
class Move:
    """What became of a wish to move a pointer: `moved`, `proposed`, `withdrawn`, `unchanged`.

    `was` is the number it pointed to before. A proposal is confirmed until `expires` (ms).
    """

    state: str
    model: str
    pointer: str
    number: int | None
    was: int | None
    entry: str | None
    expires: int | None = None


def alias(desk: Desk, text: str, name: str, note: str = "") -> Move:
    """Point the alias `name` to the version that `text` names.

    (1) It is no stage. (2) The principal sees the version and may alias it, and so the version
    that the alias leaves. (3) It is not deprecated. (4) The gate says yes at the alias.

    Raises InputError `name.invalid`, `registry.is_stage`, `registry.not_found`; DeniedError
    `policy.denied`, `registry.deprecated`, `gate.denied`, `gate.revoked`.
    """
    with desk.asking("alias", f"{text} {name}") as attempt, desk.book.writing():
        # (1)
        _require_alias(desk, name)
        # (2)
        version = desk.on_version(text, ALIASING, attempt)
        was = _left_behind(desk, version.name, name)
        # (3), (4)
        verdict = _may_point(desk, version, name, attempt)
        return _move(desk, version, (ALIAS, name), was, verdict, None, note)


def remove_alias(desk: Desk, model: str, name: str, note: str = "") -> Move:
    """Take an alias away. Raises as `alias`; no gate is asked for less."""
    with desk.asking("alias", f"{model}@{name} --remove") as attempt, desk.book.writing():
        _require_alias(desk, name)
        version = desk.on_version(f"{model}@{name}", ALIASING, attempt)
        record = Moved(
            by=desk.author,
            model=version.name,
            kind=ALIAS,
            pointer=name,
            number=None,
            was=version.number,
            policy=desk.workspace.trust.policy.digest,
            evidence=(),
            proposal=None,
            note=note_line(note),
        )
        entry = desk.book.write(record)
        return Move("moved", version.name, name, None, version.number, str(entry))


def promote(desk: Desk, text: str, name: str, note: str = "") -> Move:
    """Move the stage `name` to the version that `text` names, or take the first step to it.

    (1) The policy has the stage; the principal sees the version and may promote it; it is not
    deprecated. (2) With four eyes the first call proposes, and nothing moves. (3) The second
    confirms: another principal than who proposed and than who pushed, while the proposal is open
    and nothing moved. (4) The gate says yes at the stage, now.

    Raises InputError `registry.unknown_stage`, `registry.not_found`; DeniedError `policy.denied`,
    `registry.deprecated`, `registry.own_proposal`, `registry.own_push`, `gate.denied`,
    `gate.revoked`.
    """
    with desk.asking("promote", f"{text} --to {name}") as attempt, desk.book.writing():
        # (1)
        stage = _stage(desk, name)
        version = desk.on_version(text, PROMOTE, attempt)
        was = desk.catalogue.shelf(version.name).at(STAGE, name)
        if was == version.number:
            return Move("unchanged", version.name, name, was, was, None)
        _require_current(version)
        proposal = None
        if stage.four_eyes:
            proposal = _proposal(desk, version, name)
            # (2)
            if proposal is None:
                return _propose(desk, version, name, was, note)
            # (3)
            _require_second(desk, version, proposal)
        # (4)
        verdict = _may_point(desk, version, name, attempt)
        entry = None if proposal is None else proposal.entry
        return _move(desk, version, (STAGE, name), was, verdict, entry, note)


def withdraw(desk: Desk, text: str, name: str) -> Move:
    """Take back a proposal, one's own or another's: who may promote may also stop.

    Raises InputError `registry.no_proposal`, and as `promote` (1).
    """
    with desk.asking("promote", f"{text} --to {name} --withdraw") as attempt, desk.book.writing():
        _stage(desk, name)
        version = desk.on_version(text, PROMOTE, attempt)
        proposal = _proposal(desk, version, name)
        if proposal is None:
            raise InputError(
                "registry.no_proposal",
                f"Nobody proposes {version.exact} for {name}.",
                f"See `keepstone show {version.exact}`.",
            )
        entry = desk.book.write(Withdrawn(desk.author, version.name, proposal.entry))
        was = desk.catalogue.shelf(version.name).at(STAGE, name)
        return Move("withdrawn", version.name, name, version.number, was, str(entry))


def deprecate(desk: Desk, text: str, reason: str, until: int | None = None) -> Version:
    """Let nothing newly point to a version; from `until` (ms) on it may be collected.

    What points to it stays, and says so; by number it is still pulled. Raises InputError
    `registry.not_found`, `registry.no_reason`; DeniedError `policy.denied`.
    """
    with desk.asking("deprecate", text) as attempt, desk.book.writing():
        version = desk.on_version(text, DEPRECATE, attempt)
        said = reason_line(reason)
        desk.book.write(Deprecated(desk.author, version.name, version.number, said, until))
        changed = desk.catalogue.shelf(version.name).version(version.number)
        assert changed is not None
        return changed


def _require_alias(desk: Desk, name: str) -> None:
    if check_pointer(name) in desk.stages:
        raise InputError(
            "registry.is_stage",
            f"{name} is a stage of the policy, not an alias.",
            f"Promote to it: keepstone promote NAME@VERSION --to {name}.",
        )


def _left_behind(desk: Desk, model: str, name: str) -> int | None:
    """What the alias points to now. It loses the alias, so the right is needed there too."""
    shelf = desk.catalogue.shelf(model)
    was = shelf.at(ALIAS, name)
    left = None if was is None else shelf.version(was)
    if left is not None:
        desk.require(ALIASING, model, desk.facts(left))
    return was


def _stage(desk: Desk, name: str) -> Stage:
    stage = desk.rules.stage(name)
    if stage is None:
        raise InputError(
            "registry.unknown_stage",
            f"The policy has no stage {name[:64]!r}.",
            f"Its stages are: {', '.join(sorted(desk.stages)) or 'none'}.",
        )
    return stage


def _require_current(version: Version) -> None:
    if version.deprecated is not None:
        raise DeniedError(
            "registry.deprecated",
            f"{version.exact} is deprecated ({version.deprecated.reason}), so nothing newly"
            " points to it.",
            "Choose another version.",
        )


def _may_point(desk: Desk, version: Version, name: str, attempt: Attempt) -> Verdict:
    _require_current(version)
    verdict = desk.verdict(version, name)
    attempt.fields |= verdict_fields(verdict)
    return verdict.require()


def _proposal(desk: Desk, version: Version, stage: str) -> Proposal | None:
    """The open proposal of exactly this version for the stage."""
    found = desk.catalogue.shelf(version.name).open_proposals(desk.now, stage)
    return next((one for one in found if one.number == version.number), None)


def _require_second(desk: Desk, version: Version, proposal: Proposal) -> None:
    if desk.who.id == proposal.by:
        raise DeniedError(
            "registry.own_proposal",
            f"{proposal.by} proposed {version.exact} for {proposal.stage}, and cannot confirm it.",
            "Another principal who may promote it has to.",
        )
    if desk.who.id == version.pushed_by:
        raise DeniedError(
            "registry.own_push",
            f"{version.pushed_by} pushed {version.exact}, and cannot confirm its promotion.",
            "Another principal who may promote it has to.",
        )


def _propose(desk: Desk, version: Version, stage: str, was: int | None, note: str) -> Move:
    expires = desk.now + desk.rules.proposal_lifetime_ms
    record = Proposed(
        by=desk.author,
        model=version.name,
        stage=stage,
        number=version.number,
        digest=version.digest,
        was=was,
        expires=expires,
        note=note_line(note),
    )
    entry = desk.book.write(record)
    return Move("proposed", version.name, stage, version.number, was, str(entry), expires)


def _move(
    desk: Desk,
    version: Version,
    pointer: tuple[str, str],
    was: int | None,
    verdict: Verdict,
    proposal: int | None,
    note: str,
) -> Move:
    kind, name = pointer
    if was == version.number:
        return Move("unchanged", version.name, name, was, was, None)
    record = Moved(
        by=desk.author,
        model=version.name,
        kind=kind,
        pointer=name,
        number=version.number,
        was=was,
        policy=verdict.policy,
        evidence=verdict.evidence,
        proposal=proposal,
        note=note_line(note),
    )
    entry = desk.book.write(record)
    return Move("moved", version.name, name, version.number, was, str(entry))


def note_line(note: str) -> str:
    """A note as it is recorded: one line, or nothing. Raises InputError `registry.no_reason`."""
    return reason_line(note) if note else ""


def reason_line(reason: str) -> str:
    """The reason as a line that can be recorded. Raises InputError `registry.no_reason`."""
    try:
        return Fields({"reason": reason}, "request").line("reason", 500)
    except InputError as error:
        raise InputError(
            "registry.no_reason",
            "A reason is one line of 1 to 500 characters.",
            "Say why in a few words: it is recorded.",
        ) from error
