"""What a statement can say: one frozen value for each predicate type.

`urn:keepstone:<kind>:v1`, and the right to state it is `state.<kind>`. Each says with which
tool it was made, when, until when, and from what (`Made`). Numbers that are not integers are
decimal strings, so that no digest hangs on how a float was printed. Parsing is strict: an
unknown field or a newer version is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Outcome, Severity
from keepstone.errors import InputError
from keepstone.evidence.documents import Bom
from keepstone.evidence.fields import DECIMAL, Fields
from keepstone.evidence.findings import MAX_FINDINGS, finding_dict, first_findings, read_finding
from keepstone.evidence.made import MAX_INPUTS, Input, Made, Tool
from keepstone.evidence.poisoning import Poisoning
from keepstone.evidence.privacy import Privacy
from keepstone.evidence.registered import Registered
from keepstone.evidence.robustness import Robustness
from keepstone.evidence.vulnerabilities import Vulnerabilities

# What a scanner may note about a file it calls clean.
_NOTES = frozenset({Severity.INFO, Severity.LOW})
_PREFIX = "urn:keepstone:"


def type_of(kind: str) -> str:
    """The predicate type of a kind: `urn:keepstone:scan:v1`."""
    return f"{_PREFIX}{kind}:v1"


def right_of(kind: str) -> str:
    """The right that a signer needs to state this kind: `state.scan`."""
    return f"state.{kind}"


@dataclass(frozen=True, slots=True)
class Training:
    """A publisher says: this artifact came from this run over this dataset."""

    kind: ClassVar[str] = "training"
    made: Made
    framework: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, str]
    dataset: Input
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "framework": self.framework,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "dataset": self.dataset.to_dict(),
            "seed": self.seed,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        metrics = fields.lines("metrics", 256)
        for name, value in metrics.items():
            if not DECIMAL.match(value):
                raise fields.fault("metrics", f"gives {name!r} a value that is not a decimal")
        return cls(
            made,
            fields.line("framework", 128),
            fields.lines("parameters", 256),
            metrics,
            Input.read(fields.inner("dataset")),
            None if fields.raw("seed") is None else fields.integer("seed"),
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """An observer says: this scanner, with these rules, found this and no more.

    `findings` are the first of `total`; the whole report is named by its digest.
    """

    kind: ClassVar[str] = "scan"
    made: Made
    outcome: Outcome
    format: str
    findings: tuple[Finding, ...]
    total: int
    report: Digest
    rules_version: str

    @classmethod
    def of(
        cls,
        made: Made,
        outcome: Outcome,
        format: str,
        findings: Iterable[Finding],
        report: Digest,
        rules_version: str,
    ) -> Self:
        """Build one from any number of findings, keeping what fits into a ledger entry."""
        kept, total = first_findings(findings)
        return cls(made, outcome, format, kept, total, report, rules_version)

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "outcome": self.outcome.value,
            "format": self.format,
            "findings": [finding_dict(finding) for finding in self.findings],
            "total": self.total,
            "report": str(self.report),
            "rules_version": self.rules_version,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        outcome = Outcome(fields.one_of("outcome", frozenset(Outcome)))
        items = fields.items("findings", MAX_FINDINGS)
        findings = tuple(read_finding(Fields(item, "predicate's finding")) for item in items)
        total = fields.integer("total", low=len(findings))
        if outcome is Outcome.CLEAN and any(f.severity not in _NOTES for f in findings):
            raise fields.fault("outcome", "says clean beside a finding that is more than a note")
        return cls(
            made,
            outcome,
            fields.line("format", 64),
            findings,
            total,
            fields.digest("report"),
            fields.line("rules_version", 64),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """An observer says: it verified this publisher's signature over exactly this artifact."""

    kind: ClassVar[str] = "signature"
    made: Made
    bundle: Digest
    publisher: str
    method: str = "model_signing"

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "bundle": str(self.bundle),
            "publisher": self.publisher,
            "method": self.method,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        method = fields.one_of("method", frozenset({"model_signing"}))
        return cls(made, fields.digest("bundle"), fields.key_id("publisher"), method)


@dataclass(frozen=True, slots=True)
class Approval:
    """An approver says: this digest may serve under this name (at this endpoint, if named)."""

    kind: ClassVar[str] = "approval"
    made: Made
    reason: str
    endpoint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {"reason": self.reason, "endpoint": self.endpoint}

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        endpoint = None if fields.raw("endpoint") is None else fields.line("endpoint", 256)
        return cls(made, fields.line("reason"), endpoint)


@dataclass(frozen=True, slots=True)
class Sealing:
    """An observer says: this artifact went into the vault as this sealing under its name.

    Sealings under one name are numbered from 1. Only the newest of an artifact is loaded.
    """

    kind: ClassVar[str] = "sealing"
    made: Made
    version: int

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {"version": self.version}

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        return cls(made, fields.integer("version", low=1))


TARGETS = frozenset({"artifact", "statement", "key"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a revocation ends. A key's digest is its key id."""

    kind: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Revocation:
    """A standing denial (artifact), or the end of a statement or key. It never expires."""

    kind: ClassVar[str] = "revocation"
    made: Made
    target: Target
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "target": {"kind": self.target.kind, "digest": str(self.target.digest)},
            "reason": self.reason,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        if made.expires is not None:
            raise fields.fault("expires", "must be null: a revocation never runs out")
        inner = fields.inner("target")
        target = Target(inner.one_of("kind", TARGETS), inner.digest("digest"))
        inner.done()
        return cls(made, target, fields.line("reason"))


@dataclass(frozen=True, slots=True)
class Reinstatement:
    """Lifts one artifact's revocation, named by that statement's digest."""

    kind: ClassVar[str] = "reinstatement"
    made: Made
    revocation: Digest
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "revocation": str(self.revocation),
            "reason": self.reason,
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        return cls(made, fields.digest("revocation"), fields.line("reason"))


@dataclass(frozen=True, slots=True)
class LedgerHead:
    size: int
    root: Digest


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate says: load this artifact, under this name, at this endpoint, until `expires`.

    Bound to the policy it was decided under, the ledger's head it was decided at, and the
    statements that decided it.
    """

    kind: ClassVar[str] = "admission"
    made: Made
    name: str
    endpoint: str
    artifact: Digest
    contract: Digest
    policy: Digest
    ledger: LedgerHead
    evidence: tuple[Digest, ...]

    @property
    def issued(self) -> int:
        return self.made.created

    @property
    def expires(self) -> int:
        """Milliseconds. An admission always runs out (`read` refuses one that does not)."""
        return self.made.created if self.made.expires is None else self.made.expires

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "name": self.name,
            "endpoint": self.endpoint,
            "artifact": str(self.artifact),
            "contract": str(self.contract),
            "policy": str(self.policy),
            "ledger": {"size": self.ledger.size, "root": str(self.ledger.root)},
            "evidence": [str(digest) for digest in self.evidence],
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        if made.expires is None:
            raise fields.fault("expires", "must be set: an admission is short-lived")
        inner = fields.inner("ledger")
        head = LedgerHead(inner.integer("size"), inner.digest("root"))
        inner.done()
        listed = fields.items("evidence", MAX_INPUTS)
        evidence = tuple(Fields({"item": item}, "evidence list").digest("item") for item in listed)
        return cls(
            made,
            fields.line("name", 64),
            fields.line("endpoint", 256),
            fields.digest("artifact"),
            fields.digest("contract"),
            fields.digest("policy"),
            head,
            evidence,
        )


Predicate = (
    Training
    | Scan
    | Vulnerabilities
    | Robustness
    | Privacy
    | Poisoning
    | Signature
    | Approval
    | Sealing
    | Registered
    | Revocation
    | Reinstatement
    | Admission
    | Bom
)

KINDS: Mapping[str, type[Predicate]] = MappingProxyType(
    {
        cls.kind: cls
        for cls in (
            *(Training, Scan, Vulnerabilities, Robustness, Privacy, Poisoning, Signature, Approval),
            *(Sealing, Registered, Revocation, Reinstatement, Admission, Bom),
        )
    }
)


def parse_predicate(predicate_type: str, value: Any) -> Predicate:
    """Read a predicate of a known type; nothing unknown gets through.

    Raises InputError: `statement.malformed`, `statement.newer_version` (a kind of ours in a
    version this build does not know), `statement.unknown_predicate`.
    """
    kind, _, version = predicate_type.removeprefix(_PREFIX).partition(":")
    if not predicate_type.startswith(_PREFIX) or kind not in KINDS:
        raise InputError(
            "statement.unknown_predicate", f"No predicate is called {predicate_type[:100]!r}."
        )
    if version != "v1":
        raise InputError(
            "statement.newer_version",
            f"This build reads {type_of(kind)}, not {predicate_type[:100]!r}.",
            "Upgrade Keepstone.",
        )
    fields = Fields(value, f"{kind} predicate")
    predicate = KINDS[kind].read(Made.read(fields), fields)
    fields.done()
    return predicate


def rests_on(predicate: Predicate) -> tuple[Digest, ...]:
    """Every digest whose end ends this statement: inputs, dataset, publisher, waivers, evidence."""
    digests = [item.digest for item in predicate.made.inputs]
    if isinstance(predicate, Training):
        digests.append(predicate.dataset.digest)
    if isinstance(predicate, Signature):
        # The publisher's key: a signature observed under a key that is revoked proves nothing.
        digests += [predicate.bundle, Digest(predicate.publisher)]
    if isinstance(predicate, Vulnerabilities | Robustness | Privacy | Poisoning):
        digests += predicate.rests_on
    if isinstance(predicate, Admission):
        digests += [predicate.artifact, *predicate.evidence]
    return tuple(digests)


__all__ = [
    "KINDS",
    "MAX_INPUTS",
    "Admission",
    "Approval",
    "Bom",
    "Input",
    "LedgerHead",
    "Made",
    "Poisoning",
    "Predicate",
    "Privacy",
    "Registered",
    "Reinstatement",
    "Revocation",
    "Robustness",
    "Scan",
    "Sealing",
    "Signature",
    "Target",
    "Tool",
    "Training",
    "Vulnerabilities",
    "parse_predicate",
    "rests_on",
    "right_of",
    "type_of",
]
