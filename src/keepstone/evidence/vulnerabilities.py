"""What a scan of packages found: the predicate `vulnerabilities`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Outcome
from keepstone.core.ports import rfc3339
from keepstone.evidence.fields import Fields
from keepstone.evidence.findings import MAX_FINDINGS, finding_dict, first_findings, read_finding
from keepstone.evidence.made import Made, Tool

MAX_WAIVERS = 64
# `scanned`: whoever signs ran the scan. `reported`: it is what another tool's report says, and
# that the report is about this artifact is the signer's word alone.
SCANNED, REPORTED = "scanned", "reported"


@dataclass(frozen=True, slots=True)
class Database:
    """What was judged by. No digest, or no time (ms), where the scanner does not say."""

    name: str
    digest: Digest | None
    time: int | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "digest": None if self.digest is None else str(self.digest),
            "time": None if self.time is None else rfc3339(self.time),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(
            fields.line("name", 64),
            None if fields.raw("digest") is None else fields.digest("digest"),
            None if fields.raw("time") is None else fields.time("time"),
        )
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class WaiverUsed:
    """A signed waiver without which there would be more findings: by digest, signer and end."""

    digest: Digest
    key_id: str
    expires: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "digest": str(self.digest),
            "key_id": self.key_id,
            "expires": rfc3339(self.expires),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        value = cls(fields.digest("digest"), fields.key_id("key_id"), fields.time("expires"))
        fields.done()
        return value


@dataclass(frozen=True, slots=True)
class Vulnerabilities:
    """Somebody says: this scanner, by this database, found this in what goes with the artifact.

    `target` is what was looked at, as the scanner calls it. `findings` are the first of `total`;
    `waived` is how many more there are that the waivers cover, and the statement lasts no longer
    than the first of these. The whole report is named by its digest. Nothing is clean that looked
    at no package, or had no database.
    """

    kind: ClassVar[str] = "vulnerabilities"
    made: Made
    outcome: Outcome
    basis: str
    scanner: Tool
    target: str
    packages: int
    findings: tuple[Finding, ...]
    total: int
    waived: int
    report: Digest
    database: Database | None
    waivers: tuple[WaiverUsed, ...]

    @classmethod
    def of(cls, made: Made, findings: Iterable[Finding], **said: Any) -> Self:
        """Build one from any number of findings, keeping what fits into a ledger entry."""
        kept, total = first_findings(findings)
        return cls(made=made, findings=kept, total=total, **said)

    def to_dict(self) -> dict[str, Any]:
        return self.made.to_dict() | {
            "outcome": self.outcome.value,
            "basis": self.basis,
            "scanner": {"name": self.scanner.name, "version": self.scanner.version},
            "target": self.target,
            "packages": self.packages,
            "findings": [finding_dict(finding) for finding in self.findings],
            "total": self.total,
            "waived": self.waived,
            "report": str(self.report),
            "database": None if self.database is None else self.database.to_dict(),
            "waivers": [one.to_dict() for one in self.waivers],
        }

    @classmethod
    def read(cls, made: Made, fields: Fields) -> Self:
        scanner = fields.inner("scanner")
        named = Tool(scanner.line("name", 128), scanner.line("version", 128))
        scanner.done()
        items = fields.items("findings", MAX_FINDINGS)
        findings = tuple(read_finding(Fields(item, "predicate's finding")) for item in items)
        database = fields.raw("database")
        used = fields.items("waivers", MAX_WAIVERS)
        value = cls(
            made=made,
            outcome=Outcome(fields.one_of("outcome", frozenset(Outcome))),
            basis=fields.one_of("basis", frozenset({SCANNED, REPORTED})),
            scanner=named,
            target=fields.line("target", 512),
            packages=fields.integer("packages"),
            findings=findings,
            total=fields.integer("total", low=len(findings)),
            waived=fields.integer("waived"),
            report=fields.digest("report"),
            database=None if database is None else Database.read(fields.inner("database")),
            waivers=tuple(WaiverUsed.read(Fields(item, "predicate's waiver")) for item in used),
        )
        value._check(fields)
        return value

    def _check(self, fields: Fields) -> None:
        if self.outcome is Outcome.CLEAN:
            if self.total:
                raise fields.fault("outcome", "says clean beside a finding")
            if not self.packages or self.database is None:
                raise fields.fault("outcome", "says clean of no package, or by no database")
        if self.outcome is Outcome.FLAGGED and not self.total:
            raise fields.fault("outcome", "says flagged without a finding")
        if bool(self.waived) != bool(self.waivers):
            raise fields.fault("waived", "does not agree with the waivers")
        ends = min((one.expires for one in self.waivers), default=None)
        if ends is not None and (self.made.expires is None or self.made.expires > ends):
            raise fields.fault("expires", "is later than the end of a waiver that it rests on")

    @property
    def rests_on(self) -> tuple[Digest, ...]:
        """The waivers, their signers' keys and the database: where one ends, so does this."""
        digests = [one.digest for one in self.waivers]
        digests += [Digest(one.key_id) for one in self.waivers]
        if self.database is not None and self.database.digest is not None:
            digests.append(self.database.digest)
        return tuple(digests)
