"""The predicate `vulnerabilities`: what saw nothing is not clean, no waiver outlives itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Location, Outcome, Severity
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import rests_on
from keepstone.evidence.statement import Statement, parse_statement
from keepstone.evidence.vulnerabilities import Database, Vulnerabilities, WaiverUsed

TOOL = Tool("keepstone", "1")
MODEL = Subject("digits", Digest.of(b"model"))
FINDING = Finding("dependency.known", Severity.INFO, "m", Location("p"))
DATABASE = Database("osv", Digest.of(b"db"), 500)
WAIVER = WaiverUsed(Digest.of(b"waiver"), "ab" * 32, 2_000)


def said(**given: Any) -> Vulnerabilities:
    base: dict[str, Any] = {
        "made": Made(TOOL, 1_000),
        "outcome": Outcome.CLEAN,
        "basis": "scanned",
        "scanner": TOOL,
        "target": "lock",
        "packages": 3,
        "waived": 0,
        "report": Digest.of(b"report"),
        "database": DATABASE,
        "waivers": (),
    }
    given = base | given
    return Vulnerabilities.of(given.pop("made"), given.pop("findings", ()), **given)


def refused(predicate: Vulnerabilities) -> bool:
    try:
        data = Statement(MODEL, predicate).to_bytes()
    except InputError as error:
        return error.code == "statement.malformed"
    assert parse_statement(data).predicate == predicate
    return False


def test_clean_is_what_looked_at_packages_by_a_database_and_found_nothing() -> None:
    assert not refused(said())
    assert refused(said(packages=0))
    assert refused(said(database=None))
    # A note is a known vulnerability like any other.
    assert refused(said(findings=[FINDING]))
    assert refused(replace(said(), total=1))


def test_flagged_is_what_found_something() -> None:
    assert refused(said(outcome=Outcome.FLAGGED))
    assert not refused(said(outcome=Outcome.FLAGGED, findings=[FINDING]))
    # A report that names a vulnerability has seen a package, whether it lists packages or not.
    assert not refused(said(outcome=Outcome.FLAGGED, findings=[FINDING], packages=0))


def test_what_was_not_evaluated_may_be_anything() -> None:
    for given in ({}, {"packages": 0}, {"database": None}, {"findings": [FINDING]}):
        assert not refused(said(outcome=Outcome.NOT_EVALUATED, **given))


def test_a_statement_ends_with_the_first_waiver_that_it_rests_on() -> None:
    later = replace(WAIVER, digest=Digest.of(b"other"), expires=3_000)
    for expires, bad in ((None, True), (2_001, True), (2_000, False), (1_500, False)):
        made = Made(TOOL, 1_000, expires)
        assert refused(said(made=made, waived=1, waivers=(WAIVER, later))) is bad


def test_what_is_waived_names_its_waivers_and_the_other_way_round() -> None:
    made = Made(TOOL, 1_000, 2_000)
    assert refused(said(made=made, waived=1))
    assert refused(said(made=made, waivers=(WAIVER,)))


def test_it_rests_on_waivers_their_signers_and_the_database() -> None:
    predicate = said(made=Made(TOOL, 1_000, 2_000), waived=1, waivers=(WAIVER,))
    assert set(rests_on(predicate)) == {WAIVER.digest, Digest("ab" * 32), DATABASE.digest}
    assert rests_on(said(database=Database("trivy", None, None))) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("basis", "guessed"), ("packages", -1), ("packages", True), ("target", ""), ("waivers", {})],
)
def test_what_cannot_be_read(field: str, value: Any) -> None:
    from keepstone.evidence.predicates import parse_predicate, type_of

    with pytest.raises(InputError):
        parse_predicate(type_of("vulnerabilities"), said().to_dict() | {field: value})


def test_more_findings_than_fit_are_counted() -> None:
    many = said(outcome=Outcome.FLAGGED, findings=[FINDING] * 500)
    assert (len(many.findings), many.total) == (100, 500)
    assert not refused(many)
