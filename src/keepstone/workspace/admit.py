"""From a file somebody brings to a model that may be served: stage, scan, record, judge, seal.

One direction, one copy: what is scanned, signed over, sealed and loaded is the staged copy,
and each step leaves a statement that the gate reads.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from keepstone import __version__
from keepstone.contract.schema import ModelContract
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject, check_name
from keepstone.errors import DeniedError, InputError, OperationalError, VerificationError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.modelsign import verify_model_files
from keepstone.evidence.predicates import LedgerHead, Predicate, Scan, Signature
from keepstone.evidence.statement import make_statement, open_payload
from keepstone.evidence.verify import Evidence
from keepstone.policy.admission import Admission, verify_admission
from keepstone.policy.document import PolicySigner
from keepstone.policy.gate import Verdict, admit, gate
from keepstone.scan.artifact import scan_staged
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import RULES_VERSION
from keepstone.vault.load import LOADERS, Loaded, load_sealed, loader_for, prepare
from keepstone.vault.load.identify import FOLDER, require_scanned
from keepstone.vault.staging import Staged, stage
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reference import LIBRARY, Reference, latest_admission
from keepstone.workspace.sealing import keep_sealed, newest_sealing

TOOL = Tool("keepstone", __version__)
ENDPOINT = "local"
_SIDE_FILE_LIMIT = 64 << 20
# A signature that is not this signer's may be another's; any other fault is the model's.
_SOMEBODY_ELSES = frozenset(
    {
        "signature.invalid",
        "signature.key_mismatch",
        "signature.other_kind",
        "certificate.untrusted",
        "certificate.other_identity",
        "keyless.refused",
    }
)


class Observer(Protocol):
    """Told of each step as it begins and ends; the library itself never prints."""

    def begin(self, step: str) -> None: ...

    def copied(self, done: int, expected: int) -> None: ...

    def end(self, detail: str) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody brings: a model, the name to serve it under, and what its publisher signed.

    `signature` is an OpenSSF bundle, `statements` a file of DSSE envelopes, one a line.
    `contract` is a file that becomes part of the artifact, for formats without room for one;
    `architecture` is the code (`package.module:Class`) that is imported for weights alone.
    """

    model: Path
    name: str
    signature: Path | None = None
    statements: Path | None = None
    endpoint: str = ENDPOINT
    contract: Path | None = None
    architecture: str | None = None

    @classmethod
    def of(cls, model: Path, *, name: str | None = None, endpoint: str = ENDPOINT) -> Submission:
        """The model at `model` with the files beside it that carry its signatures."""
        bundle = model.parent / (model.name + ".sig")
        statements = model.parent / (model.name + ".statements.jsonl")
        return cls(
            model,
            check_name(name) if name else name_of(model),
            bundle if bundle.exists() else None,
            statements if statements.exists() else None,
            endpoint,
        )


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model that may be served: its admission, what it accepts, and the gate's verdict."""

    admission: Admission
    contract: ModelContract
    verdict: Verdict
    loaded: Loaded


def name_of(model: Path) -> str:
    """The name a file is served under if none is given: its own, as far as names go."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", model.stem.lower()).strip("-._")
    return check_name(re.sub(r"\.{2,}", ".", plain)[:64].strip("-._") or "model")


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
    with _staged(workspace, submission, observer) as run:
        run.scan()
        run.take_origin()
        verdict = run.judge()
        contract = run.contract()
        admission = issue(workspace, verdict, contract.digest)
        run.seal()
        subject = run.subject
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
    with _staged(workspace, submission, observer) as run:
        run.scan()
        run.take_origin()
        seen(run.subject)
        return run.ask()


def judge(workspace: Workspace, subject: Subject, endpoint: str) -> Verdict:
    """What the policy says now about `subject` under its name. Raises `evidence.unreadable`."""
    evidence = workspace.evidence.about(subject.digest, subject.name, workspace.clock.now_ms())
    return gate(workspace.authorizer.engine, workspace.trust, evidence, endpoint)


def issue(workspace: Workspace, verdict: Verdict, contract: Digest) -> Admission:
    """Sign and record an admission for a yes, and read it back as the vault will."""
    envelope = _sign(workspace, verdict, contract)
    return verify_admission(
        envelope,
        workspace.keys.gate.verifying,
        now=workspace.clock.now_ms(),
        digest=verdict.subject.digest,
        name=verdict.subject.name,
        endpoint=verdict.endpoint,
        policy_digest=workspace.trust.policy.digest,
    )


def _sign(workspace: Workspace, verdict: Verdict, contract: Digest) -> bytes:
    """Sign an admission and put it on the record."""
    head = workspace.ledger.head()
    envelope = admit(
        verdict,
        workspace.keys.gate,
        contract=contract,
        ledger=LedgerHead(head.size, Digest(head.root.hex())),
        tool=TOOL,
    )
    workspace.record(Envelope.parse(envelope))
    return envelope


def admit_again(workspace: Workspace, text: str) -> dict[str, Any]:
    """The owner's side: judge what `text` means now, and sign and record an admission.

    (1) The newest admission names the artifact and its contract. (2) The gate decides now.
    Returns the envelope, the owner's time and the number of the newest sealing. Raises
    DeniedError `gate.denied`, which is recorded; InputError `model.never_admitted`.
    """
    # (1)
    before = latest_admission(workspace.evidence, Reference.parse(text))
    subject = Subject(before.name, before.artifact)
    # (2)
    verdict = judge(workspace, subject, LIBRARY)
    record_denial(workspace, verdict)
    verdict.require()
    envelope = _sign(workspace, verdict, before.contract)
    return {
        "envelope": base64.b64encode(envelope).decode("ascii"),
        "digest": subject.digest.hex,
        "now": workspace.clock.now_ms(),
        "sealing": newest_sealing(workspace.evidence, subject) or 0,
    }


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


@contextmanager
def _staged(workspace: Workspace, submission: Submission, observer: Observer) -> Iterator[_Run]:
    """The submission as a private copy, which is gone after the block."""
    observer.begin("stage")
    staged = stage(
        submission.model,
        workspace.layout.staging,
        progress=observer.copied,
        contract=submission.contract,
    )
    try:
        subject = Subject(submission.name, staged.digest)
        observer.end(f"{staged.size:,} bytes, {subject.digest}")
        yield _Run(workspace, submission, staged, subject, observer)
    finally:
        staged.discard()


@dataclass(slots=True)
class _Run:
    """One submission under way."""

    workspace: Workspace
    submission: Submission
    staged: Staged
    subject: Subject
    observer: Observer
    file_sha256: Digest | None = field(init=False)
    # What the scan judged it as.
    format: str = ""

    def __post_init__(self) -> None:
        self.file_sha256 = self.staged.artifact[0].sha256 if self.staged.is_single_file else None

    def scan(self) -> None:
        self.observer.begin("scan")
        known = self._scanned()
        if known is not None:
            self.format = known.format
            self.observer.end("clean, by a scan that still counts")
            return
        report = scan_staged(self.staged)
        made = Made(TOOL, self.workspace.clock.now_ms())
        self._state(
            Scan.of(
                made, report.outcome, report.format, report.findings, report.digest, RULES_VERSION
            )
        )
        _require_judged(report)
        self.format = report.format
        self.observer.end(f"{report.outcome} ({report.format})")

    def _scanned(self) -> Scan | None:
        for item in reversed(self._evidence().of(Scan.kind)):
            scan = item.predicate
            if isinstance(scan, Scan) and scan.rules_version == RULES_VERSION:
                return scan if scan.outcome is Outcome.CLEAN and self._fresh(scan) else None
        return None

    def _fresh(self, scan: Scan) -> bool:
        """Whether the gate still takes it: no use in keeping a scan the policy calls too old."""
        ages = [
            one.max_age_ms
            for one in self.workspace.trust.policy.requirements
            if one.evidence == Scan.kind and one.max_age_ms is not None
        ]
        return all(self.workspace.clock.now_ms() - scan.made.created < age for age in ages)

    def take_origin(self) -> None:
        self.observer.begin("origin")
        told = []
        if self.submission.signature is not None:
            told.append(self._observe_signature(_read(self.submission.signature)))
        if self.submission.statements is not None:
            lines = _read(self.submission.statements).splitlines()
            told += [self._take(line) for line in lines if line.strip()]
        self.observer.end("; ".join(told) or "nothing is signed")

    def _observe_signature(self, bundle: bytes) -> str:
        signer = self._signer_of(bundle)
        if signer is None:
            self.observer.warn("The signature is by nobody whom the policy names.")
            return "signed by an unknown key"
        known = [item.predicate for item in self._evidence().of(Signature.kind)]
        digest = Digest.of(bundle)
        if not any(isinstance(one, Signature) and one.bundle == digest for one in known):
            made = Made(TOOL, self.workspace.clock.now_ms())
            self._state(Signature(made, digest, signer.signer_id))
        return f"signed by {signer.name}"

    def _signer_of(self, bundle: bytes) -> PolicySigner | None:
        """The signer of the policy whose signature this is. Raises if it is not over this."""
        now = self.workspace.clock.now_ms()
        for signer in self.workspace.trust.policy.signers:
            try:
                expected = signer.expected(now)
                verify_model_files(self.staged.artifact, bundle, expected, copy=self.staged.path)
                return signer
            except VerificationError as error:
                if error.code not in _SOMEBODY_ELSES:
                    raise
            except InputError as error:
                if error.code != "key.unsupported":
                    raise
        return None

    def _take(self, line: bytes) -> str:
        """Record one statement that came with the model, if somebody we know signed it."""
        envelope = Envelope.parse(line)
        if self.workspace.evidence.statement(envelope.digest) is not None:
            return f"{open_payload(envelope).predicate.kind} known"
        if open_payload(envelope).subject.digest != self.subject.digest:
            raise VerificationError(
                "statement.wrong_subject",
                "A statement beside the model is about another artifact.",
                "Get the model and its statements from its publisher again.",
            )
        try:
            _, found = self.workspace.record(envelope)
        except (VerificationError, DeniedError) as error:
            if error.code not in ("signature.unknown_key", "statement.no_right"):
                raise
            self.observer.warn(f"A statement beside the model does not count: {error.cause}")
            return "a statement by an unknown signer"
        return f"{found.kind} by {self.workspace.trust.person(found.signers[0])}"

    def ask(self) -> Verdict:
        """What the gate says; a no is recorded."""
        self.observer.begin("gate")
        verdict = judge(self.workspace, self.subject, self.submission.endpoint)
        record_denial(self.workspace, verdict)
        if verdict.allowed:
            self.observer.end(f"admitted by the policy ({verdict.profile})")
        return verdict

    def judge(self) -> Verdict:
        return self.ask().require()

    def seal(self) -> None:
        self.observer.begin("seal")
        self.observer.end(keep_sealed(self.workspace, self.staged, self.subject))

    def contract(self) -> ModelContract:
        """What the staged model accepts, with the code that is imported for it, if any is."""
        format, prepared = prepare(self.staged, self.submission.architecture)
        require_scanned(self.format, format)
        if prepared.contract.architecture is not None:
            self.workspace.record_event(
                "architecture.consented",
                {
                    "model": self.subject.name,
                    "digest": self.subject.digest.hex,
                    "architecture": prepared.contract.architecture,
                    "contract": prepared.contract.digest.hex,
                },
            )
        return prepared.contract

    def _state(self, predicate: Predicate) -> None:
        envelope = make_statement(
            self.subject,
            predicate,
            self.workspace.keys.observer,
            file_sha256=self.file_sha256,
        )
        self.workspace.record(envelope)

    def _evidence(self) -> Evidence:
        return self.workspace.evidence.about(
            self.subject.digest, self.subject.name, self.workspace.clock.now_ms()
        )


def _require_judged(report: FileReport) -> None:
    """Go on with clean and with flagged (the gate says no to it); else say what is missing."""
    if report.outcome is Outcome.FLAGGED:
        return
    # A folder's report is about all of its files; which one is the model is found out later.
    if report.format not in (*LOADERS, FOLDER):
        loader_for(report.format)
    if report.outcome is Outcome.NOT_EVALUATED:
        why = report.findings[0].message if report.findings else "no reason was given"
        raise OperationalError(
            "scan.not_evaluated",
            f"The model could not be judged: {why}",
            "Not evaluated is not clean; see `keepstone scan MODEL`.",
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_SIDE_FILE_LIMIT + 1)
    except OSError as error:
        raise InputError("file.unreadable", f"Cannot read {path}: {error.strerror}.") from error
    if len(data) > _SIDE_FILE_LIMIT:
        raise InputError("file.too_large", f"{path} is larger than {_SIDE_FILE_LIMIT} bytes.")
    return data


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
    "submit",
]
