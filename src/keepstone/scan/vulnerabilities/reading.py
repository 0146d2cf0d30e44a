"""A report, and what goes with it, into what can be stated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.evidence.made import TOOL, Input
from keepstone.scan.packages.judging import MAX_AGE_MS, judge_packages
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.vulnerabilities.examined import Examined, examined
from keepstone.scan.vulnerabilities.grype import read_grype
from keepstone.scan.vulnerabilities.ours import read_ours
from keepstone.scan.vulnerabilities.outside import (
    CYCLONEDX,
    GRYPE,
    SYFT,
    TRIVY,
    form_of,
    parse_report,
)
from keepstone.scan.vulnerabilities.sbom import Bom, read_cyclonedx, read_syft
from keepstone.scan.vulnerabilities.trivy import read_trivy

_LISTS = (SYFT, CYCLONEDX)


@dataclass(frozen=True, slots=True)
class Given:
    """A report's bytes, and what may go with it: the list of packages that Grype was given, or
    the database that a list of packages is held against."""

    report: bytes
    sbom: bytes | None = None
    osv: Path | None = None
    max_age_ms: int = MAX_AGE_MS

    @property
    def inputs(self) -> tuple[Input, ...]:
        return () if self.sbom is None else (Input("sbom", Digest.of(self.sbom)),)


def examine(given: Given, now: int) -> Examined:
    """Read the report, in whichever of the known forms it is.

    Raises InputError `json.*`, `report.unknown`, `report.malformed`, `report.newer_version`,
    `report.mismatch`, `report.does_not_take`, `osv.*`.
    """
    value = parse_report(given.report)
    form = form_of(value)
    if given.sbom is not None and form != GRYPE:
        raise _does_not_take(form, "--sbom", "It goes with a report of Grype, which lists none.")
    if given.osv is not None and form not in _LISTS:
        raise _does_not_take(form, "--osv", "It goes with a list of packages.")
    if form == TRIVY:
        return read_trivy(value)
    if form == GRYPE:
        found = read_grype(value)
        return found if given.sbom is None else _with_packages(found, read_list(given.sbom))
    if form in _LISTS:
        return _judged(read_list(given.report), given, now)
    return read_ours(value)


def read_list(data: bytes) -> Bom:
    """A list of packages, by Syft or in CycloneDX. Raises InputError `report.*`, `json.*`."""
    value = parse_report(data)
    form = form_of(value)
    if form not in _LISTS:
        raise InputError("report.unknown", f"A report of {form} is no list of packages.")
    return read_syft(value) if form == SYFT else read_cyclonedx(value)


def _with_packages(found: Examined, bom: Bom) -> Examined:
    """Grype's report with the packages that it was given; each match must be one of them."""
    for one in found.known:
        if (one.package, one.version) not in bom.names:
            raise InputError(
                "report.mismatch",
                f"Grype matched {one.package} {one.version}, which the list of packages has not.",
                "Give the very list that Grype was given.",
            )
    doubts = tuple(f"{one.name}: {one.reason}" for one in bom.inventory.open)
    return replace(found, packages=len(bom.names), open=(*found.open, *doubts))


def _judged(bom: Bom, given: Given, now: int) -> Examined:
    if given.osv is None:
        return bom.unjudged()
    database = read_database(given.osv, bom.inventory.packages, now)
    report = judge_packages(bom.inventory, database, now, max_age_ms=given.max_age_ms)
    found = examined(report, TOOL, bom.target)
    return replace(found, known=(*found.known, *bom.known))


def _does_not_take(form: str, option: str, why: str) -> InputError:
    return InputError(
        "report.does_not_take", f"A report in the form of {form} takes no {option}.", why
    )
