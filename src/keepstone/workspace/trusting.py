"""Export trust: what another machine needs to decide as this workspace does, for a while.

The bundle is made by the owner, out of one state of affairs: the evidence and the policy in
force, under a checkpoint that covers all of it. Each export is an entry of its own, so a later
bundle always has a larger ledger than an earlier one, and the receiver can tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError
from keepstone.evidence.needed import needed
from keepstone.evidence.predicates import Scan
from keepstone.evidence.verify import EvidenceBase
from keepstone.ledger import Checkpoint, LedgerReader, parse_checkpoint
from keepstone.policy.bundle import Contents, Logged, check_lifetime, make_bundle
from keepstone.policy.trust import Trust
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reading import as_digest


def export_bundle(
    workspace: Workspace, models: Sequence[str], lifetime_ms: int
) -> tuple[bytes, int]:
    """Sign a trust bundle over `models` (names or digests; none: every model), and record that.

    Returns the bundle and the number of its statements. Raises InputError `model.unknown`,
    `trust.lifetime`, `trust.too_large`; OperationalError `evidence.unreadable`,
    `ledger.unrecorded`, and as recording raises.
    """
    # What cannot be exported leaves no entry that says it was.
    check_lifetime(lifetime_ms)
    if models:
        _artifacts(workspace.evidence, models)
    trust, issued = workspace.trust, workspace.clock.now_ms()
    policy = _policy(workspace, trust)
    expires = issued + lifetime_ms
    workspace.record_event(
        "trust.exported",
        {
            "models": sorted(models),
            "policy": trust.policy.digest.hex,
            "expires": rfc3339(expires),
        },
    )
    workspace.keep_outside()
    note, reader = workspace.ledger.checkpoint(), workspace.ledger.reader
    head = parse_checkpoint(note)
    # Read anew, and up to the checkpoint exactly: what it covers and what travels are one.
    entries = takewhile(lambda entry: entry[0] < head.size, reader.indexed("statement"))
    evidence = EvidenceBase.build(entries, trust.signers, trust.rights)
    # A no that cannot be read, or is not on the record, cannot travel: then nothing does.
    evidence.require_readable()
    workspace.require_recorded()
    chosen = needed(evidence.verified, _artifacts(evidence, models) if models else None)
    keys = workspace.keys
    contents = Contents(
        origin=workspace.identity.origin,
        issued=issued,
        expires=expires,
        observer=keys.observer.verifying,
        gate=keys.gate.verifying,
        ledger=keys.ledger.verifying,
        policy=policy,
        note=note,
        statements=tuple(_logged(reader, head, note, item.place) for item in chosen),
    )
    return make_bundle(contents, keys.gate), len(chosen)


def _policy(workspace: Workspace, trust: Trust) -> bytes:
    """The bytes of the policy in force; it covers every signer's key, so it travels as it is."""
    data = workspace.layout.policy.read_bytes()
    if Digest.of(data) != trust.policy.digest:
        raise InputError(
            "policy.not_in_force",
            "The policy file was changed since it was taken into force.",
            "Take it into force first: `keepstone policy check`.",
        )
    return data


def _artifacts(evidence: EvidenceBase, models: Sequence[str]) -> frozenset[Digest]:
    """Every artifact that was scanned under one of the names, or has one of the digests.

    A name means all that it ever meant: another machine may still hold an older one.
    """
    found: set[Digest] = set()
    for text in models:
        wanted = as_digest(text)
        matching = {
            item.subject.digest
            for item in evidence.statements
            if item.kind == Scan.kind
            and (item.subject.name == text or item.subject.digest == wanted)
        }
        if not matching:
            raise InputError(
                "model.unknown",
                f"Nothing called {text[:80]!r} was ever scanned here.",
                "Scan it first: `keepstone up` does, even where it is then refused.",
            )
        found |= matching
    return frozenset(found)


def _logged(reader: LedgerReader, head: Checkpoint, note: str, index: int) -> Logged:
    proof = reader.prove_under(index, head.size, note)
    return Logged(index, reader.body(index), proof.path)
