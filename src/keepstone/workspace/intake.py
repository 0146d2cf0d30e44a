"""What every model that comes in goes through, whatever for: scan, origin, contract, seal.

What is scanned, signed over and sealed is the staged copy, and each step leaves a statement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keepstone.contract.schema import ModelContract
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject, check_name
from keepstone.errors import DeniedError, InputError, VerificationError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.modelsign import verify_model_files
from keepstone.evidence.predicates import Predicate, Scan, Signature
from keepstone.evidence.statement import make_statement, open_payload
from keepstone.evidence.verify import Evidence
from keepstone.policy.document import PolicySigner
from keepstone.scan.artifact import scan_staged
from keepstone.scan.scanner import RULES_VERSION
from keepstone.vault.load import prepare
from keepstone.vault.load.identify import require_scanned
from keepstone.vault.staging import Staged
from keepstone.workspace.opened import Workspace
from keepstone.workspace.sealing import keep_sealed

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


def name_of(model: Path) -> str:
    """The name a file is served under if none is given: its own, as far as names go."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", model.stem.lower()).strip("-._")
    return check_name(re.sub(r"\.{2,}", ".", plain)[:64].strip("-._") or "model")


@dataclass(slots=True)
class Intake:
    """One staged copy on its way in: each step says what it did, and leaves a statement."""

    workspace: Workspace
    submission: Submission
    staged: Staged
    observer: Observer
    # What the scan judged it as.
    format: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(self.submission.name, self.staged.digest)

    @property
    def file_sha256(self) -> Digest | None:
        return self.staged.artifact[0].sha256 if self.staged.is_single_file else None

    def scan(self) -> Scan:
        """Scan it, unless a scan by these rules still counts; what was seen is recorded."""
        self.observer.begin("scan")
        known = self._scanned()
        if known is not None:
            self.format = known.format
            self.observer.end("clean, by a scan that still counts")
            return known
        report = scan_staged(self.staged)
        made = Made(TOOL, self.workspace.clock.now_ms())
        seen = Scan.of(
            made, report.outcome, report.format, report.findings, report.digest, RULES_VERSION
        )
        self._state(seen)
        self.format = report.format
        self.observer.end(f"{report.outcome} ({report.format})")
        return seen

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
        """Observe the publisher's signature, and take in the statements beside the model."""
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
            _, found = self.workspace.take(envelope)
        except (VerificationError, DeniedError) as error:
            if error.code not in ("signature.unknown_key", "statement.no_right"):
                raise
            self.observer.warn(f"A statement beside the model does not count: {error.cause}")
            return "a statement by an unknown signer"
        return f"{found.kind} by {self.workspace.trust.person(found.signers[0])}"

    def seal(self) -> None:
        """Have a sound blob of it in the vault, durable on return."""
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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_SIDE_FILE_LIMIT + 1)
    except OSError as error:
        raise InputError("file.unreadable", f"Cannot read {path}: {error.strerror}.") from error
    if len(data) > _SIDE_FILE_LIMIT:
        raise InputError("file.too_large", f"{path} is larger than {_SIDE_FILE_LIMIT} bytes.")
    return data
