"""What a scan of packages came to, whoever ran it: the one form that becomes a statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Location, Outcome, Severity
from keepstone.errors import InputError
from keepstone.evidence.made import Input, Made, Tool
from keepstone.evidence.standing import MAX_SKEW_MS
from keepstone.evidence.vulnerabilities import (
    MAX_WAIVERS,
    Database,
    Vulnerabilities,
    WaiverUsed,
)
from keepstone.scan.packages.judging import DepsReport
from keepstone.scan.packages.names import normal_ecosystem
from keepstone.scan.packages.vulnerability import MALICIOUS
from keepstone.scan.rules import RULES, finding, printable
from keepstone.scan.vulnerabilities.waiver import SignedWaiver, Waivers


@dataclass(frozen=True, slots=True)
class Known:
    """A vulnerability of a package at a version. No severity where nobody says how grave it is."""

    ecosystem: str
    package: str
    version: str
    ids: tuple[str, ...]
    severity: Severity | None = None
    path: str = ""

    @property
    def finding(self) -> Finding:
        """As a finding. One that nobody has rated counts like any other."""
        if any(one.startswith(MALICIOUS) for one in self.ids):
            rule, severity = "deps.malicious", Severity.CRITICAL
        elif self.severity is None:
            rule, severity = "deps.unknown_severity", RULES["deps.unknown_severity"].severity
        else:
            rule, severity = "deps.vulnerable", self.severity
        named = ", ".join(printable(one) for one in self.ids[:8])
        what = f"{printable(self.package)} {printable(self.version)} ({printable(self.ecosystem)})"
        return Finding(
            rule,
            severity,
            f"{what} has {named}.",
            Location(printable(self.path, 512)),
        )


@dataclass(frozen=True, slots=True)
class Examined:
    """How many packages were looked at, by what, and what is known of them.

    `open` are sentences that say what could not be judged. `time` (ms) is when the scan was, None
    where its report does not say. Every vulnerability counts, however slight: who wants it not to
    count signs a waiver.
    """

    scanner: Tool
    target: str
    packages: int
    known: tuple[Known, ...]
    database: Database | None
    open: tuple[str, ...] = ()
    time: int | None = None


def examined(report: DepsReport, tool: Tool, target: str) -> Examined:
    """Our own scan of packages, in this form."""
    packages = report.inventory.packages
    return Examined(
        scanner=tool,
        target=target,
        packages=len({(one.ecosystem, one.name, one.version) for one in packages}),
        known=tuple(
            Known(
                one.package.ecosystem,
                one.package.name,
                one.package.version,
                one.ids,
                one.rating.severity,
                one.package.path,
            )
            for one in report.vulnerabilities
        ),
        database=None if report.database is None else _database(report),
        open=tuple(f"{one.name or one.path}: {one.reason}" for one in report.open),
        time=report.now_ms,
    )


def _database(report: DepsReport) -> Database:
    """As old as its part for any ecosystem that was asked for: the oldest of these counts."""
    assert report.database is not None
    asked = {normal_ecosystem(one.ecosystem) for one in report.inventory.packages}
    newest = [report.database.newest.get(release) for release in sorted(asked)]
    known = [time for time in newest if time is not None]
    return Database(
        "osv", report.database.digest, min(known) if known and len(known) == len(newest) else None
    )


def conclude(
    found: Examined,
    waivers: Waivers,
    *,
    basis: str,
    tool: Tool,
    now: int,
    report: Digest,
    lifetime_ms: int | None = None,
    inputs: tuple[Input, ...] = (),
) -> Vulnerabilities:
    """What can be stated: flagged, clean, or not evaluated, with the waivers that it took.

    It is dated when the scan was, so an old report makes an old statement, and ends with the first
    waiver. Raises InputError `report.from_the_future`, `waiver.too_many`.
    """
    used: dict[Digest, SignedWaiver] = {}
    counting: list[Known] = []
    for one in found.known:
        waiver = waivers.for_(one.ecosystem, one.package, one.version, one.ids)
        if waiver is None:
            counting.append(one)
        else:
            used[waiver.digest] = waiver
    if len(used) > MAX_WAIVERS:
        raise InputError(
            "waiver.too_many",
            f"More than {MAX_WAIVERS} waivers are needed.",
            "Mend some of the packages.",
        )
    findings = [one.finding for one in sorted(counting, key=_gravest_first)]
    findings += [_open_finding(reason, found.target) for reason in found.open]
    return Vulnerabilities.of(
        _made(found, used.values(), tool, now, lifetime_ms, inputs),
        findings,
        outcome=_outcome(found, counting),
        basis=basis,
        scanner=found.scanner,
        target=printable(found.target, 500) or "(not named)",
        packages=found.packages,
        waived=len(found.known) - len(counting),
        report=report,
        database=found.database,
        waivers=tuple(
            WaiverUsed(one.digest, one.key_id, one.waiver.expires) for one in used.values()
        ),
    )


def _outcome(found: Examined, counting: list[Known]) -> Outcome:
    if counting:
        return Outcome.FLAGGED
    if found.open or not found.packages or found.database is None:
        return Outcome.NOT_EVALUATED
    return Outcome.CLEAN


def _made(
    found: Examined,
    used: Iterable[SignedWaiver],
    tool: Tool,
    now: int,
    lifetime_ms: int | None,
    inputs: tuple[Input, ...],
) -> Made:
    created = now if found.time is None else found.time
    if created > now + MAX_SKEW_MS:
        raise InputError("report.from_the_future", "The report is of a time that is still to come.")
    created = min(created, now)
    ends = [one.waiver.expires for one in used]
    if lifetime_ms is not None:
        ends.append(now + lifetime_ms)
    made = Made(tool, created, inputs=inputs)
    return replace(made, expires=min(ends)) if ends else made


def _gravest_first(one: Known) -> tuple[int, str, str, tuple[str, ...]]:
    order = tuple(Severity)
    return (-order.index(one.finding.severity), one.package, one.version, one.ids)


def _open_finding(reason: str, target: str) -> Finding:
    return finding("deps.not_evaluated", printable(reason, 500), printable(target, 500))
