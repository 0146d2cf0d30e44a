"""What people sign: approvals, revocations, reinstatements.

The signer's key is read where the person is and never reaches the owner; what travels is the
signed envelope.
"""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.dsse import unknown_key
from keepstone.evidence.made import TOOL
from keepstone.evidence.predicates import (
    Approval,
    Made,
    Predicate,
    Reinstatement,
    Revocation,
    Target,
    right_of,
)
from keepstone.evidence.statement import make_statement
from keepstone.evidence.verified import no_right
from keepstone.identity.signing import Signatory
from keepstone.ledger import EntryId
from keepstone.workspace.layout import read_identity
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import WorkspaceView, as_digest, load_trust, read_workspace
from keepstone.workspace.site import Site


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was said, and the ledger entry that holds it."""

    subject: Subject
    entry: str


def approve(
    site: Site,
    model: str,
    key: Signatory,
    reason: str,
    lifetime_ms: int | None = None,
    endpoint: str | None = None,
) -> Recorded:
    """Approve what Keepstone saw last as `model`, or a version; at one endpoint if it is named.

    Raises `model.unknown`, `statement.no_right`.
    """
    with read_workspace(site) as view:
        subject = view.subject_of(model)
        expires = None if lifetime_ms is None else view.now + lifetime_ms
        made = Made(TOOL, view.now, expires)
    return _say(site, subject, Approval(made, reason, endpoint), key)


def revoke(site: Site, kind: str, target: str, key: Signatory, reason: str) -> Recorded:
    """End an artifact, a statement or a key.

    Raises InputError `model.unknown`, `statement.unknown`, `digest.malformed`; DeniedError
    `statement.no_right`.
    """
    with read_workspace(site) as view:
        subject = _target(view, kind, target)
        made = Made(TOOL, view.now)
    return _say(site, subject, Revocation(made, Target(kind, subject.digest), reason), key)


def reinstate(site: Site, model: str, key: Signatory, reason: str) -> Recorded:
    """Lift the newest revocation that stands against `model`.

    Raises InputError `model.unknown`, `model.not_revoked`; DeniedError `statement.no_right`.
    """
    with read_workspace(site) as view:
        digest = _artifact_digest(view, model)
        denial = view.evidence.denied(digest, view.now)
        if denial is None:
            raise InputError("model.not_revoked", f"No revocation stands against {model[:80]!r}.")
        subject = denial.statement.subject
        made = Made(TOOL, view.now)
        reinstatement = Reinstatement(made, denial.digest, reason)
    return _say(site, subject, reinstatement, key)


def require_recordable(site: Site, key: Signatory, kind: str) -> None:
    """Before work is done whose result `key` is to state: that the workspace would take its word.

    Raises `workspace.*`, `policy.*`; VerificationError `signature.unknown_key`; DeniedError
    `statement.no_right`.
    """
    read_identity(site.layout)
    rights = load_trust(site.layout).rights
    if key.key_id not in rights:
        raise unknown_key()
    if right_of(kind) not in rights[key.key_id]:
        raise no_right(right_of(kind))


def _say(site: Site, subject: Subject, predicate: Predicate, key: Signatory) -> Recorded:
    envelope = make_statement(subject, predicate, key)
    answer = perform(site, "statement.record", {"envelope": envelope.to_dict()})
    return Recorded(subject, str(answer["entry"]))


def _artifact_digest(view: WorkspaceView, text: str) -> Digest:
    try:
        return view.subject_of(text).digest
    except InputError:
        # A digest nobody has seen here can still be denied, before it ever arrives.
        digest = as_digest(text)
        if digest is None:
            raise
        return digest


def _target(view: WorkspaceView, kind: str, text: str) -> Subject:
    if kind == "artifact":
        try:
            return view.subject_of(text)
        except InputError:
            return Subject("unnamed", _artifact_digest(view, text))
    if kind == "key":
        matches = [key_id for key_id in view.trust.names if key_id.startswith(text)]
        if len(text) >= 8 and len(matches) == 1:
            return Subject("key", Digest(matches[0]))
        return Subject("key", Digest.parse(text))
    return Subject("statement", _statement_digest(view, text))


def _statement_digest(view: WorkspaceView, text: str) -> Digest:
    if text.startswith("ks-"):
        named = EntryId.parse(text)
        named.check(view.reader.body(named.index))
        for item in view.evidence.statements:
            if item.entry_index == named.index:
                return item.digest
        raise InputError("statement.unknown", f"Entry {text} is not a statement's.")
    return Digest.parse(text)
