"""Gather what a workspace knows of one model, for a bill of materials; hold one against it.

Nothing of the model runs. Its files are read from the vault, for their digests and for what it
says it accepts, as a program reads them: for an admission, which is recorded. What the gate denies
is described by its evidence alone.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keepstone.contract.schema import ModelContract
from keepstone.core.digest import Digest, FileDigest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, KeepstoneError, VerificationError
from keepstone.evidence.documents import Bom
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.predicates import Admission, LedgerHead
from keepstone.evidence.record import parse_statement_entry
from keepstone.evidence.statement import make_statement
from keepstone.governance.bom import SPEC_VERSION, make_bom
from keepstone.governance.difference import (
    Difference,
    admissions,
    differences,
    has_packages,
    ledger_head,
    parse_bom,
)
from keepstone.governance.facts import BomFacts, Seen
from keepstone.governance.proof import admission_line
from keepstone.identity.signing import Signatory
from keepstone.ledger import EntryId
from keepstone.policy.admission import verify_admission
from keepstone.policy.gate import gate
from keepstone.vault.load import prepare
from keepstone.vault.permission import Permission
from keepstone.vault.seal import unseal
from keepstone.vault.verified import Files
from keepstone.workspace.kek import current_kek
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import (
    WorkspaceView,
    load_policy,
    public_key,
    read_workspace,
)
from keepstone.workspace.reference import LIBRARY
from keepstone.workspace.sealing import newest_sealing
from keepstone.workspace.site import Site
from keepstone.workspace.store import opened_store

FORMAT = f"CycloneDX {SPEC_VERSION}"
_NOT_THERE = frozenset({"blob.missing", "model.never_admitted", "gate.denied", "gate.revoked"})
_Known = tuple[tuple[FileDigest, ...] | None, ModelContract | None]


@dataclass(frozen=True, slots=True)
class Checked:
    """How a document stands to what the workspace knows now.

    `signed` names who signed exactly this document, with the ledger entry. `packages` is None
    where the document lists packages and nobody said where to look for them.
    """

    subject: Subject
    differences: tuple[Difference, ...]
    signed: tuple[tuple[str, str], ...]
    packages: bool | None

    @property
    def matches(self) -> bool:
        return not self.differences


def gather(site: Site, model: str, endpoint: str, packages: Seen | None = None) -> BomFacts:
    """What is known now of `model` (a name or digest), as the gate judges it at `endpoint`.

    Raises InputError `model.unknown`; VerificationError `seal.*` for a blob that is not sound:
    a document over files that nobody has would be a lie.
    """
    known = _look(site, model)
    with read_workspace(site) as view:
        return _facts(view, known, model, endpoint, packages)


def bom_of(site: Site, model: str, endpoint: str, packages: Seen | None = None) -> dict[str, Any]:
    """The bill of materials of `model` as plain data. Raises as `gather`."""
    return make_bom(gather(site, model, endpoint, packages))


def sign_bom(
    site: Site, document: dict[str, Any], data: bytes, key: Signatory
) -> tuple[str, bytes]:
    """State that `data` (the document as it is written) describes its model, and record that.

    Returns the ledger entry's id and the envelope, to go with the document. Raises DeniedError
    `statement.no_right`, VerificationError `signature.unknown_key`.
    """
    component = document["metadata"]["component"]
    name, _, digest = component["bom-ref"].partition("@")
    with read_workspace(site) as view:
        said = Bom(Made(TOOL, view.now), Digest.of(data), FORMAT, document["serialNumber"])
    envelope = make_statement(Subject(name, Digest.parse(digest)), said, key)
    answer = perform(site, "statement.record", {"envelope": envelope.to_dict()})
    return str(answer["entry"]), envelope.to_json()


def check_bom(
    site: Site,
    model: str,
    endpoint: str,
    data: bytes,
    packages: Seen | None = None,
) -> Checked:
    """Hold the document `data` against what is known now of `model`.

    (1) It is a document that Keepstone wrote, from this workspace's ledger.
    (2) The ledger still begins with what it was written from: it grew, and was not rewritten.
    (3) Each admission that it names was given, though others may have been since.
    (4) Each other field is the one that would be written now; packages only where given.

    Raises InputError `bom.malformed`, `bom.other_version`, and as `gather`.
    """
    document = parse_bom(data)
    # (1)
    origin, size, root = ledger_head(document)
    known = _look(site, model)
    with read_workspace(site) as view:
        facts = _facts(view, known, model, endpoint, packages)
        # (2)
        found = _ledger_faults(view, origin, size, root)
        # (3)
        given = _admissions(view, facts.subject)
        found += [
            Difference("metadata.properties[keepstone:admission]", line[:300], None)
            for line in admissions(document)
            if line not in given
        ]
        signed = tuple(_signed(view, facts.subject, Digest.of(data)))
    # (4)
    compared = packages is not None
    found += differences(document, make_bom(facts), packages=compared)
    left_out = not compared and has_packages(document)
    return Checked(facts.subject, tuple(found), signed, None if left_out else compared)


def _ledger_faults(view: WorkspaceView, origin: str, size: int, root: str) -> list[Difference]:
    path = "metadata.properties[keepstone:ledger]"
    if origin != view.identity.origin:
        return [Difference(path, origin[:100], view.identity.origin)]
    if not 0 <= size <= view.reader.size():
        return [Difference(path, f"size {size}", f"size {view.reader.size()}")]
    now = f"sha256:{view.reader.root_at(size).hex()}"
    return [] if root == now else [Difference(path, root[:100], now)]


def _admissions(view: WorkspaceView, subject: Subject) -> set[str]:
    return {
        admission_line(item, item.predicate, _entry(view, item.place))
        for item in view.evidence.statements
        if isinstance(item.predicate, Admission) and item.subject == subject
    }


def _signed(view: WorkspaceView, subject: Subject, document: Digest) -> list[tuple[str, str]]:
    live = view.evidence.about(subject.digest, subject.name, view.now).of(Bom.kind)
    return [
        (view.trust.person(key), _entry(view, item.place))
        for item in live
        if isinstance(item.predicate, Bom) and item.predicate.document == document
        for key in item.signers
    ]


def _facts(
    view: WorkspaceView, known: _Known, model: str, endpoint: str, packages: Seen | None
) -> BomFacts:
    subject = view.subject_of(model)
    evidence = view.evidence.about(subject.digest, subject.name, view.now)
    head = view.reader.head()
    named = [*evidence.live, *(denial.statement for denial in evidence.revocations)]
    files, contract = known
    return BomFacts(
        subject=subject,
        taken=view.now,
        tool=TOOL,
        evidence=evidence,
        verdict=gate(view.engine(), view.trust, evidence, endpoint),
        persons=dict(view.trust.names),
        entries={item.place: _entry(view, item.place) for item in named},
        origin=view.identity.origin,
        ledger=LedgerHead(head.size, Digest(head.root.hex())),
        files=files,
        contract=contract if _is_admitted(view, subject, contract) else None,
        packages=packages,
    )


def _entry(view: WorkspaceView, index: int) -> str:
    return str(EntryId.of(index, view.reader.leaf(index)))


def _is_admitted(view: WorkspaceView, subject: Subject, contract: ModelContract | None) -> bool:
    """Whether the contract is the one that the newest admission binds, if there is any."""
    for item in reversed(view.evidence.statements):
        if isinstance(item.predicate, Admission) and item.subject == subject:
            return contract is not None and item.predicate.contract == contract.digest
    return True


def _look(site: Site, model: str) -> _Known:
    """The model's files and its contract, out of the vault; None for what may not be read.

    (1) The gate says yes now. (2) An admission of a program's own holds, or is asked for and so
    recorded. (3) The blob unseals for it.
    """
    # (1)
    with read_workspace(site) as view:
        subject = view.subject_of(model)
        evidence = view.evidence.about(subject.digest, subject.name, view.now)
        if not gate(view.engine(), view.trust, evidence, LIBRARY).allowed:
            return None, None
        # (2)
        permission, now = _recorded(view, subject), view.now
        version = newest_sealing(view.evidence, subject) or 0
    try:
        if permission is None:
            permission, now = _ask(site, subject)
        # (3)
        with (
            opened_store(site.layout) as store,
            unseal(store, current_kek(site), permission, now=now, version=version) as files,
        ):
            return _listing(files), _without_code(lambda: prepare(files)[1].contract)
    except (InputError, DeniedError) as error:
        if error.code not in _NOT_THERE:
            raise
        return None, None


def _listing(files: Files) -> tuple[FileDigest, ...]:
    views = ((path, files.view(path)) for path in files.paths)
    return tuple(FileDigest(path, view.nbytes, Digest.of(view)) for path, view in views)


def _recorded(view: WorkspaceView, subject: Subject) -> Permission | None:
    """The newest admission to load `subject` into a program, if it still holds."""
    for item in reversed(view.evidence.statements):
        said = item.predicate
        if not isinstance(said, Admission) or item.subject != subject or said.endpoint != LIBRARY:
            continue
        envelope = parse_statement_entry(view.reader.body(item.place)).envelope
        try:
            return _verified(view.site, subject, envelope.to_json(), view.now)
        except VerificationError:
            return None
    return None


def _ask(site: Site, subject: Subject) -> tuple[Permission, int]:
    """Have the gate judge it now, as whoever loads it has. Raises `gate.*`, `model.*`."""
    answer = perform(site, "model.admit", {"model": f"{subject.name}@{subject.digest}"})
    now = int(answer["now"])
    return _verified(site, subject, b64decode(str(answer["envelope"])), now), now


def _verified(site: Site, subject: Subject, envelope: bytes, now: int) -> Permission:
    return verify_admission(
        envelope,
        public_key(site.layout, "gate"),
        now=now,
        digest=subject.digest,
        name=subject.name,
        endpoint=LIBRARY,
        policy_digest=load_policy(site.layout).digest,
    )


def _without_code(read: Callable[[], ModelContract]) -> ModelContract | None:
    """The contract, where it can be read without importing anybody's code."""
    try:
        return read()
    except KeepstoneError:
        return None


__all__ = ["Checked", "bom_of", "check_bom", "gather", "sign_bom"]
