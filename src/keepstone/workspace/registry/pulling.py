"""A version goes out: decided and recorded first, then decrypted, verified, and named last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.digest import FileDigest
from keepstone.errors import DeniedError
from keepstone.policy.gate import Verdict
from keepstone.vault.overlap import Sink
from keepstone.vault.registry.catalogue import Version
from keepstone.vault.registry.release import Release, release
from keepstone.vault.seal import plain_bytes
from keepstone.vault.unpack import pour_out, read_listing, unpack
from keepstone.workspace.opened import Workspace
from keepstone.workspace.registry.desk import Attempt, Desk, verdict_fields
from keepstone.workspace.registry.moving import reason_line
from keepstone.workspace.sealing import newest_sealing
from keepstone.workspace.trusting import export_bundle

PULL, EXAMINE = "model.pull", "model.examine"
DAY_MS = 86_400_000
_NO_TRUST = (
    "No trust bundle: it tells of the whole policy, which takes the right ledger.read."
    " Ask the workspace's operator for one (`keepstone trust export`)."
)


@dataclass(frozen=True, slots=True)
class Pulled:
    """A version that may go out now, with what lets another machine verify it.

    `warnings` are for whoever takes it; `trust` is a trust bundle, None where none was asked for.
    """

    version: Version
    release: Release
    warnings: tuple[str, ...]
    trust: bytes | None


def pull(
    desk: Desk, text: str, *, examine: str | None = None, trust_ms: int | None = DAY_MS
) -> Pulled:
    """Decide whether a version may go out to this principal, and record that.

    (1) It sees the version. (2) The gate says yes now, at the alias or stage that was named, or
    at the library. (3) It may pull; or, with `examine` (a reason) and what the gate does not
    admit, it may examine. (4) A trust bundle of the version, good for `trust_ms`, is made, for who
    may know what stands in one: the whole policy, and every revocation, of whatever model.

    Raises InputError `registry.not_found`, `registry.which_version`, `registry.collected`;
    DeniedError `policy.denied`, `gate.denied`, `gate.revoked`; OperationalError
    `evidence.unreadable`, `ledger.*`.
    """
    with desk.asking("pull", text, read=True) as attempt:
        # (1)
        version = desk.find(text, attempt)
        # (2), (3)
        granted = decide(desk, version, desk.endpoint_of(text), examine, attempt)
        # (4)
        warnings, trust = warnings_of(version, granted), None
        if trust_ms is not None and may_have_trust(desk):
            trust, _ = export_bundle(desk.workspace, (str(version.digest),), trust_ms)
        elif trust_ms is not None:
            warnings = (*warnings, _NO_TRUST)
    return Pulled(version, granted, warnings, trust)


def may_have_trust(desk: Desk) -> bool:
    """Whether a trust bundle tells this principal nothing that is hidden from it.

    The user of this machine has the policy file; others need the right to read the ledger.
    """
    return desk.who.is_local or desk.may("ledger.read", None, None)


def decide(
    desk: Desk, version: Version, endpoint: str, examine: str | None, attempt: Attempt
) -> Release:
    """The release of a version that its principal sees, or the reason against it."""
    reason = None if examine is None else reason_line(examine)
    verdict = desk.verdict(version, endpoint)
    attempt.fields |= verdict_fields(verdict)
    if verdict.allowed:
        # What the gate admits is pulled, whatever reason somebody gives.
        reason = None
    elif reason is not None:
        attempt.fields["reason"] = reason
    else:
        _explain_examining(desk, version, verdict)
    action = PULL if reason is None else EXAMINE
    decision = desk.workspace.authorizer.require(
        desk.who, action, version.name, desk.facts(version)
    )
    return release(version, desk.who, verdict, decision, reason)


def _explain_examining(desk: Desk, version: Version, verdict: Verdict) -> None:
    """Raise the gate's no; to who may look all the same, with how."""
    try:
        verdict.require()
    except DeniedError as error:
        if desk.may(EXAMINE, version.name, desk.facts(version)):
            error.next_step = (
                "To look at it before it is approved:"
                f" keepstone pull {version.exact} --examine REASON"
            )
        raise


def warnings_of(version: Version, granted: Release | None = None) -> tuple[str, ...]:
    found = []
    if version.deprecated is not None:
        found.append(f"{version.exact} is deprecated: {version.deprecated.reason}")
    if granted is not None and granted.reason is not None:
        found.append(f"The gate does not admit {version.exact} ({granted.verdict.rule})")
    return tuple(found)


def write_out(workspace: Workspace, granted: Release, target: Path) -> None:
    """Write what was released to `target`; see `vault.unpack`."""
    unpack(
        workspace.store,
        workspace.kek,
        granted,
        target,
        now=workspace.clock.now_ms(),
        sealing=sealing_of(workspace, granted.version),
    )


def send_out(workspace: Workspace, granted: Release, begin: Callable[[int], Sink]) -> None:
    """Give what was released to the sink that `begin` opens for so many bytes.

    Nothing is begun that cannot be read. Raises as `vault.unpack.pour_out`.
    """
    sealing = sealing_of(workspace, granted.version)
    files = listing_of(workspace, granted.version)
    pour_out(
        workspace.store,
        workspace.kek,
        granted,
        begin(plain_bytes(files)),
        now=workspace.clock.now_ms(),
        sealing=sealing,
    )


def sealing_of(workspace: Workspace, version: Version) -> int:
    return newest_sealing(workspace.evidence, version.subject) or 0


def listing_of(workspace: Workspace, version: Version) -> tuple[FileDigest, ...]:
    """The paths, sizes and digests of a version's files."""
    sealing = sealing_of(workspace, version)
    return read_listing(workspace.store, workspace.kek, version.digest, version.name, sealing)
