"""From a file somebody brings to a model that may be served: stage, scan, record, judge, seal.

One direction, one copy: what is scanned, signed over, sealed and loaded is the staged copy,
and each step leaves a statement that the gate reads.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keepstone.contract.schema import ModelContract
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import TOOL
from keepstone.evidence.predicates import LedgerHead, Scan
from keepstone.policy.admission import Admission, verify_admission
from keepstone.policy.gate import Verdict, admit
from keepstone.vault.load import LOADERS, Loaded, load_sealed, loader_for
from keepstone.vault.load.identify import FOLDER
from keepstone.vault.staging import stage
from keepstone.workspace.intake import ENDPOINT, Intake, Observer, Submission, name_of
from keepstone.workspace.judging import judge
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reference import LIBRARY, Reference, latest_admission
from keepstone.workspace.sealing import newest_sealing


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model that may be served: its admission, what it accepts, and the gate's verdict."""

    admission: Admission
    contract: ModelContract
    verdict: Verdict
    loaded: Loaded


def submit(workspace: Workspace, submission: Submission, observer: Observer) -> Admitted:
    """Bring a model through every step, or raise at the first that says no.

    (1) Stage: one private copy, hashed while it is written.
    (2) Scan, unless a scan by these rules still counts; what was seen is recorded.
    (3) Observe the publisher's signature and take in signed statements.
    (4) The gate decides over all evidence; a no is recorded too.
    (5) Read what the model accepts; code that is imported for it is recorded, then admitted.
    (6) Seal the copy into the vault, and load from there for the admission.

    Raises what the steps raise: `model.*`, `scan.not_evaluated`, `runtime.missing`,
    `signature.*`, `gate.*`, `contract.*`, `seal.*`.
    """
    with _staged(workspace, submission, observer) as intake:
        _require_judged(intake.scan())
        intake.take_origin()
        subject = intake.subject
        verdict = _ask(workspace, intake, observer).require()
        contract = intake.contract()
        admission = issue(workspace, verdict, contract.digest)
        intake.seal()
    observer.begin("load")
    loaded = load_sealed(
        workspace.store,
        workspace.kek,
        admission,
        now=workspace.clock.now_ms(),
        version=newest_sealing(workspace.evidence, subject) or 0,
        architecture=submission.architecture,
    )
    observer.end(f"{loaded.format}, from the bytes that were verified")
    return Admitted(admission, contract, verdict, loaded)


def examine(
    workspace: Workspace,
    submission: Submission,
    observer: Observer,
    seen: Callable[[Subject], None],
) -> Verdict:
    """Steps (1) to (4) of `submit`, for a model that another program loads: nothing is sealed.

    `seen` is called with what was staged once it is scanned, whatever the gate then says.
    Returns the verdict, which may be no; raises as the steps raise.
    """
    with _staged(workspace, submission, observer) as intake:
        _require_judged(intake.scan())
        intake.take_origin()
        seen(intake.subject)
        return _ask(workspace, intake, observer)


@contextmanager
def _staged(workspace: Workspace, submission: Submission, observer: Observer) -> Iterator[Intake]:
    """The submission as a private copy, which is gone after the block."""
    observer.begin("stage")
    staged = stage(
        submission.model,
        workspace.layout.staging,
        progress=observer.copied,
        contract=submission.contract,
    )
    try:
        intake = Intake(workspace, submission, staged, observer)
        observer.end(f"{staged.size:,} bytes, {intake.subject.digest}")
        yield intake
    finally:
        staged.discard()


def _ask(workspace: Workspace, intake: Intake, observer: Observer) -> Verdict:
    """What the gate says of a submission; a no is recorded."""
    observer.begin("gate")
    verdict = judge(workspace, intake.subject, intake.submission.endpoint)
    record_denial(workspace, verdict)
    if verdict.allowed:
        observer.end(f"admitted by the policy ({verdict.profile})")
    return verdict


def require_admitted(workspace: Workspace, subject: Subject, endpoint: str) -> Verdict:
    """The gate's yes; a no is recorded and raised, as `Verdict.require` does."""
    verdict = judge(workspace, subject, endpoint)
    record_denial(workspace, verdict)
    return verdict.require()


def record_denial(workspace: Workspace, verdict: Verdict) -> None:
    """Put a no on the record; a yes leaves its own traces."""
    if not verdict.allowed:
        workspace.record_event(
            "admission.denied",
            {
                "model": verdict.subject.name,
                "digest": verdict.subject.digest.hex,
                "rule": verdict.rule,
                "policy": verdict.policy.hex,
            },
        )


def issue(workspace: Workspace, verdict: Verdict, contract: Digest) -> Admission:
    """Sign and record an admission for a yes, and read it back as the vault will."""
    envelope = admission_envelope(workspace, verdict, contract)
    return verify_admission(
        envelope,
        workspace.keys.gate.verifying,
        now=workspace.clock.now_ms(),
        digest=verdict.subject.digest,
        name=verdict.subject.name,
        endpoint=verdict.endpoint,
        policy_digest=workspace.trust.policy.digest,
    )


def admission_envelope(workspace: Workspace, verdict: Verdict, contract: Digest) -> bytes:
    """Sign an admission, put it on the record, and return its envelope."""
    envelope = sign_verdict(workspace, verdict, contract)
    workspace.record(Envelope.parse(envelope))
    return envelope


def sign_verdict(workspace: Workspace, verdict: Verdict, contract: Digest) -> bytes:
    """The envelope of an admission, signed now. Raises as `Verdict.require`."""
    head = workspace.ledger.head()
    return admit(
        verdict,
        workspace.keys.gate,
        contract=contract,
        ledger=LedgerHead(head.size, Digest(head.root.hex())),
        tool=TOOL,
    )


def admit_again(workspace: Workspace, text: str, endpoint: str = LIBRARY) -> dict[str, Any]:
    """The owner's side: judge what `text` means now, and sign and record an admission.

    (1) The newest admission names the artifact and its contract. (2) The gate decides now. Answers
    as `sign_admission`. Raises DeniedError `gate.denied`, which is recorded; InputError
    `model.never_admitted`.
    """
    # (1)
    before = latest_admission(workspace.evidence, Reference.parse(text))
    # (2)
    verdict = require_admitted(workspace, Subject(before.name, before.artifact), endpoint)
    return sign_admission(workspace, verdict, before.contract)


def sign_admission(workspace: Workspace, verdict: Verdict, contract: Digest) -> dict[str, Any]:
    """An admission for whoever asked the owner: the envelope, the digest, the owner's time, and
    the number of the newest sealing."""
    envelope = admission_envelope(workspace, verdict, contract)
    return {
        "envelope": base64.b64encode(envelope).decode("ascii"),
        "digest": verdict.subject.digest.hex,
        "now": workspace.clock.now_ms(),
        "sealing": newest_sealing(workspace.evidence, verdict.subject) or 0,
    }


def _require_judged(scan: Scan) -> None:
    """Go on with clean and with flagged (the gate says no to it); else say what is missing."""
    if scan.outcome is Outcome.FLAGGED:
        return
    # A folder's report is about all of its files; which one is the model is found out later.
    if scan.format not in (*LOADERS, FOLDER):
        loader_for(scan.format)
    if scan.outcome is Outcome.NOT_EVALUATED:
        why = scan.findings[0].message if scan.findings else "no reason was given"
        raise OperationalError(
            "scan.not_evaluated",
            f"The model could not be judged: {why}",
            "Not evaluated is not clean; see `keepstone scan MODEL`.",
        )


__all__ = [
    "ENDPOINT",
    "Admitted",
    "Observer",
    "Submission",
    "admit_again",
    "examine",
    "issue",
    "judge",
    "name_of",
    "record_denial",
    "require_admitted",
    "sign_admission",
    "submit",
]
