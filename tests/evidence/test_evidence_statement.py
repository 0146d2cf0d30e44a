"""Statements and predicates: written once, read strictly, unknown fails closed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1.statement import Statement as PublicStatement

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Location, Outcome, Severity
from keepstone.core.ports import rfc3339
from keepstone.core.subject import Subject
from keepstone.errors import InputError, KeepstoneError
from keepstone.evidence.dsse import Envelope, sign_envelope
from keepstone.evidence.measured import Measured
from keepstone.evidence.poisoning import Enough, Poisoning
from keepstone.evidence.poisoning import Within as Withstood
from keepstone.evidence.predicates import (
    KINDS,
    Admission,
    Approval,
    Bom,
    Input,
    LedgerHead,
    Made,
    Predicate,
    Registered,
    Reinstatement,
    Revocation,
    Scan,
    Sealing,
    Signature,
    Target,
    Tool,
    Training,
    parse_predicate,
    rests_on,
    right_of,
    type_of,
)
from keepstone.evidence.privacy import AtRate, Privacy
from keepstone.evidence.record import entry_body, parse_statement_entry
from keepstone.evidence.robustness import Robustness, Within
from keepstone.evidence.statement import (
    MAX_STATEMENT,
    PAYLOAD_TYPE,
    Statement,
    make_statement,
    open_payload,
    parse_statement,
)
from keepstone.evidence.vulnerabilities import Database, Vulnerabilities, WaiverUsed
from keepstone.identity.signing import SigningKey

KEY = SigningKey.generate()
A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))
MODEL = Subject("digits", A)
MADE = Made(Tool("keepstone", "0.1.0"), 1_000, None, (Input("schema", C),))
SHORT = Made(Tool("keepstone", "0.1.0"), 1_000, 2_000)
FINDING = Finding("onnx.custom_domain", Severity.HIGH, "A message.", Location("m.onnx", 7, "n"))

EXAMPLES: dict[str, Predicate] = {
    "training": Training(
        MADE, "scikit-learn", {"solver": "lbfgs"}, {"accuracy": "0.97"}, Input("digits", B), 7
    ),
    "scan": Scan(MADE, Outcome.FLAGGED, "onnx", (FINDING,), 3, B, "2026.1"),
    "robustness": Robustness(
        made=SHORT,
        verdict="pass",
        suite="standard",
        norm="linf",
        within=(
            Within(0.1, Measured(0.8, 0.7, 0.9, 500)),
            Within(0.2, Measured(0.6, 0.5, 0.7, 500)),
        ),
        at_least=0.5,
        clean=Measured(0.95, 0.9, 0.98, 500),
        attacks=("apgd-ce", "square"),
        queries=123_456,
        seed=3,
        not_evaluated=1,
        sufficient=True,
        domain=C,
        constraints=B,
        data=A,
        report=B,
    ),
    "privacy": Privacy(
        made=SHORT,
        outcome="fail",
        attack="rmia",
        signal="scores",
        shadows=4,
        rates=(
            AtRate(0.001, Measured(0.2, 0.1, 0.3, 500), 500, False),
            AtRate(0.01, Measured(0.4, 0.3, 0.5, 500), 500, True),
        ),
        queries=1032,
        rows=A,
        members=B,
        report=C,
    ),
    "poisoning": Poisoning(
        made=SHORT,
        verdict="pass",
        defence="partition-aggregation",
        partitions=25,
        within=(
            Withstood(0, Measured(0.93, 0.9, 0.95, 500)),
            Withstood(5, Measured(0.82, 0.78, 0.85, 500)),
        ),
        enough=(Enough(5, 0.75),),
        undefended=Measured(0.97, 0.95, 0.98, 500),
        attacked=20,
        certificates=12_782,
        broken=0,
        trainings=812,
        seed=3,
        sufficient=True,
        data=A,
        held_out=B,
        report=C,
    ),
    "vulnerabilities": Vulnerabilities(
        SHORT,
        Outcome.FLAGGED,
        "scanned",
        Tool("keepstone", "0.1.0"),
        "requirements.txt",
        12,
        (FINDING,),
        3,
        1,
        B,
        Database("osv", C, 900),
        (WaiverUsed(C, KEY.key_id, 2_000),),
    ),
    "signature": Signature(MADE, B, KEY.key_id),
    "approval": Approval(SHORT, "Reviewed.", "edge-1"),
    "sealing": Sealing(MADE, 3),
    "registered": Registered(MADE, "mlflow", "Digits", 3, "s3://models/3", "champion"),
    "revocation": Revocation(MADE, Target("artifact", A), "Poisoned."),
    "reinstatement": Reinstatement(MADE, B, "A false alarm."),
    "admission": Admission(
        SHORT, "digits", "local", A, B, C, LedgerHead(3, B), (Digest.of(b"s1"), Digest.of(b"s2"))
    ),
    "bom": Bom(MADE, B, "CycloneDX 1.6", "urn:uuid:1"),
}


def test_there_is_an_example_of_every_kind() -> None:
    assert set(EXAMPLES) == set(KINDS)
    for kind, predicate in EXAMPLES.items():
        assert predicate.kind == kind
        assert (type_of(kind), right_of(kind)) == (f"urn:keepstone:{kind}:v1", f"state.{kind}")


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_kind_reads_back(kind: str) -> None:
    statement = Statement(MODEL, EXAMPLES[kind], B)
    assert parse_statement(statement.to_bytes()) == statement
    envelope = make_statement(MODEL, EXAMPLES[kind], KEY, file_sha256=B)
    assert open_payload(Envelope.parse(envelope.to_json())) == statement
    without = Statement(MODEL, EXAMPLES[kind])
    assert parse_statement(without.to_bytes()) == without


@pytest.mark.parametrize("kind", EXAMPLES)
def test_it_is_an_in_toto_statement(kind: str) -> None:
    value = json.loads(Statement(MODEL, EXAMPLES[kind], B).to_bytes())
    assert value["subject"] == [
        {"name": "digits", "digest": {"keepstoneArtifact": A.hex, "sha256": B.hex}}
    ]
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2

    PublicStatement.copy_from_pb(json_format.ParseDict(value, statement_pb2.Statement())).validate()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_unknown_field_is_refused_at_every_level(kind: str) -> None:
    value = json.loads(Statement(MODEL, EXAMPLES[kind]).to_bytes())

    def objects(node: Any) -> list[dict[str, Any]]:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        found = [node] if isinstance(node, dict) else []
        return found + [each for child in inner for each in objects(child)]

    free = [value["predicate"].get("parameters"), value["predicate"].get("metrics")]
    places = [each for each in objects(value) if not any(each is one for one in free)]
    assert len(places) >= 5
    for place in places:
        place["surprise"] = "x"
        with pytest.raises(InputError, match=r"unknown field 'surprise'"):
            parse_statement(json.dumps(value).encode())
        del place["surprise"]
    assert parse_statement(json.dumps(value).encode())


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_field_is_needed(kind: str) -> None:
    predicate = EXAMPLES[kind].to_dict()
    for name in list(predicate):
        rest = {key: item for key, item in predicate.items() if key != name}
        with pytest.raises(InputError, match=f"`{name}`"):
            parse_predicate(type_of(kind), rest)
        for wrong in (True, 1.5, [[]], {"x": {}}, "\x1b[2J"):
            if type(wrong) is type(predicate[name]) is bool:
                continue
            with pytest.raises(KeepstoneError):
                parse_predicate(type_of(kind), predicate | {name: wrong})


BAD_STATEMENTS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"), "statement.malformed"),
    (lambda v: v.update(subject=[]), "statement.malformed"),
    (lambda v: v.update(subject=v["subject"] * 2), "statement.malformed"),
    (lambda v: v.update(subject=[1]), "statement.malformed"),
    (lambda v: v["subject"][0].update(name="Digits"), "name.invalid"),
    (lambda v: v["subject"][0].update(digest={"sha256": "0" * 64}), "statement.malformed"),
    (lambda v: v["subject"][0]["digest"].update(keepstoneArtifact="0"), "digest.malformed"),
    (lambda v: v["subject"][0]["digest"].update(sha256="0"), "digest.malformed"),
    (lambda v: v["subject"][0]["digest"].update(sha512="0" * 128), "statement.malformed"),
    (lambda v: v.update(predicate=[]), "statement.malformed"),
    (lambda v: v.update(predicateType=None), "statement.malformed"),
    (lambda v: v.update(predicateType="urn:keepstone:approval:v2"), "statement.newer_version"),
    (lambda v: v.update(predicateType="urn:keepstone:approval"), "statement.newer_version"),
    (lambda v: v.update(predicateType="urn:keepstone:blessing:v1"), "statement.unknown_predicate"),
    (lambda v: v.update(predicateType="approval:v1"), "statement.unknown_predicate"),
    (lambda v: v["predicate"].update(created="yesterday"), "time.malformed"),
    (lambda v: v["predicate"].update(expires=v["predicate"]["created"]), "statement.malformed"),
    (lambda v: v["predicate"].update(reason=""), "statement.malformed"),
    (lambda v: v["predicate"].update(reason="a\nb"), "statement.malformed"),
    (lambda v: v["predicate"].update(reason="\u202efdp"), "statement.malformed"),
    (lambda v: v["predicate"].update(inputs=[{}] * 257), "statement.malformed"),
    (
        lambda v: v["predicate"].update(inputs=[{"name": "a", "digest": A.hex}]),
        "statement.malformed",
    ),
    (lambda v: v["predicate"].update(tool={"name": "", "version": "1"}), "statement.malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "code"), BAD_STATEMENTS)
def test_other_statements_are_refused(edit: Callable[[dict[str, Any]], Any], code: str) -> None:
    value = json.loads(Statement(MODEL, EXAMPLES["approval"]).to_bytes())
    edit(value)
    with pytest.raises(InputError) as caught:
        parse_statement(json.dumps(value).encode())
    assert caught.value.code == code


BAD_PREDICATES: list[tuple[str, dict[str, Any]]] = [
    ("training", {"metrics": {"accuracy": "high"}}),
    ("training", {"metrics": {"accuracy": "NaN"}}),
    ("training", {"metrics": {"accuracy": "01"}}),
    ("training", {"metrics": {"accuracy": 0.5}}),
    ("training", {"parameters": {"": "x"}}),
    ("training", {"parameters": {"a\n": "x"}}),
    ("training", {"parameters": {str(n): "x" for n in range(257)}}),
    ("training", {"seed": -1}),
    ("training", {"seed": 2**53}),
    ("scan", {"outcome": "fine"}),
    ("scan", {"outcome": "clean"}),
    ("scan", {"total": 0}),
    ("scan", {"findings": [1]}),
    ("scan", {"report": "sha1:00"}),
    ("signature", {"publisher": "alice"}),
    ("signature", {"method": "trust_me"}),
    ("revocation", {"expires": rfc3339(5_000)}),
    ("revocation", {"target": {"kind": "everything", "digest": str(A)}}),
    ("admission", {"expires": None}),
    ("admission", {"evidence": [1]}),
    ("admission", {"evidence": str(A)}),
    ("admission", {"ledger": {"size": -1, "root": str(B)}}),
]


@pytest.mark.parametrize(("kind", "change"), BAD_PREDICATES)
def test_predicates_that_make_no_sense_are_refused(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        parse_predicate(type_of(kind), EXAMPLES[kind].to_dict() | change)


def test_nothing_is_signed_that_could_not_be_read() -> None:
    for predicate in (
        Approval(MADE, "two\nlines"),
        Revocation(SHORT, Target("artifact", A), "It expires."),
        Admission(MADE, "digits", "local", A, B, C, LedgerHead(3, B), ()),
        Training(MADE, "x", {}, {"accuracy": "good"}, Input("d", B)),
    ):
        with pytest.raises(InputError, match=r"statement\.malformed"):
            make_statement(MODEL, predicate, KEY)


@pytest.mark.parametrize(
    ("subject", "target"),
    [
        (Subject("digits", B), Target("artifact", A)),
        (Subject("digits", A), Target("key", A)),
        (Subject("key", A), Target("statement", A)),
    ],
)
def test_a_revocation_is_filed_under_what_it_ends(subject: Subject, target: Target) -> None:
    with pytest.raises(InputError, match=r"statement\.malformed"):
        make_statement(subject, Revocation(MADE, target, "x"), KEY)


def test_doubled_keys_inside_the_payload_are_refused() -> None:
    data = Statement(MODEL, EXAMPLES["approval"]).to_bytes()
    doubled = data.replace(b'"reason":', b'"reason":"No.","reason":')
    with pytest.raises(InputError, match=r"json\.duplicate_key"):
        parse_statement(doubled)


def test_the_payload_type_is_checked() -> None:
    envelope = sign_envelope("text/plain", Statement(MODEL, EXAMPLES["scan"]).to_bytes(), KEY)
    with pytest.raises(InputError, match=r"statement\.payload_type"):
        open_payload(envelope)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_statement(data: bytes) -> None:
    with pytest.raises(KeepstoneError):
        parse_statement(data)


def test_an_admission_says_when_it_was_issued_and_when_it_ends() -> None:
    admission = EXAMPLES["admission"]
    assert isinstance(admission, Admission)
    assert (admission.issued, admission.expires) == (1_000, 2_000)
    # One that never ends cannot be signed or read; until then it has ended already.
    endless = Admission(MADE, "digits", "local", A, B, C, LedgerHead(3, B), ())
    assert endless.expires == endless.issued


def test_what_a_statement_rests_on() -> None:
    assert rests_on(EXAMPLES["training"]) == (C, B)
    assert rests_on(EXAMPLES["signature"]) == (C, B, Digest(KEY.key_id))
    assert rests_on(EXAMPLES["admission"]) == (A, Digest.of(b"s1"), Digest.of(b"s2"))
    assert rests_on(EXAMPLES["approval"]) == ()


# --- scans ------------------------------------------------------------------------------------


@given(
    st.lists(
        st.builds(
            Finding,
            st.just("a.rule"),
            st.sampled_from(Severity),
            st.text(max_size=2000),
            st.builds(Location, st.text(max_size=600), st.none(), st.none() | st.text()),
        ),
        max_size=4,
    ),
    st.integers(1, 60),
)
def test_whatever_a_file_says_its_scan_fits_into_an_entry(
    findings: list[Finding], times: int
) -> None:
    scan = Scan.of(MADE, Outcome.FLAGGED, "pickle", findings * times, B, "1")
    assert scan.total == len(findings) * times
    assert len(scan.findings) <= 100
    body = entry_body(make_statement(MODEL, scan, KEY), 5)
    assert open_payload(parse_statement_entry(body).envelope).predicate == scan


def test_hostile_names_in_findings_are_kept_readable() -> None:
    finding = Finding("r", Severity.LOW, "\udcff" * 3, Location("\udc80", None, "m" * 9000))
    scan = Scan.of(MADE, Outcome.CLEAN, "zip", [finding], B, "1")
    assert scan.findings[0].message == "\\udcff" * 3
    assert scan.findings[0].location.path == "\\udc80"
    assert len(scan.findings[0].location.member or "") == 512
    make_statement(MODEL, scan, KEY)
    raw = Scan(MADE, Outcome.FLAGGED, "zip", (finding,), 1, B, "1")
    with pytest.raises(InputError):
        make_statement(MODEL, raw, KEY)


# --- entries ----------------------------------------------------------------------------------


def test_an_envelope_comes_back_from_its_entry() -> None:
    envelope = make_statement(MODEL, EXAMPLES["scan"], KEY)
    spaced = json.dumps(envelope.to_dict(), indent=1).encode()
    for given_ in (envelope, envelope.to_json(), spaced):
        entry = parse_statement_entry(entry_body(given_, 77))
        assert (entry.envelope, entry.logged_at) == (envelope, 77)


def test_what_does_not_fit_into_an_entry_is_refused() -> None:
    large = sign_envelope(PAYLOAD_TYPE, b"x" * MAX_STATEMENT, KEY)
    with pytest.raises(InputError, match=r"evidence\.too_large"):
        entry_body(large, 1)
    with pytest.raises(InputError, match=r"json\.too_large"):
        parse_statement(b" " * (MAX_STATEMENT + 1))


def test_what_is_no_statement_entry_is_refused() -> None:
    from keepstone.ledger.entry import Kind, make_entry

    value = {"envelope": make_statement(MODEL, EXAMPLES["scan"], KEY).to_dict()}
    with pytest.raises(InputError, match=r"entry\.malformed"):
        entry_body(make_statement(MODEL, EXAMPLES["scan"], KEY), -1)
    for body in (
        make_entry(Kind.EVENT, 1, value),
        make_entry(Kind.STATEMENT, 1, {}),
        make_entry(Kind.STATEMENT, 1, value | {"more": 1}),
        b"{}",
    ):
        with pytest.raises(InputError, match=r"entry\.malformed"):
            parse_statement_entry(body)
    with pytest.raises(InputError, match=r"envelope\.malformed"):
        parse_statement_entry(make_entry(Kind.STATEMENT, 1, {"envelope": {}}))


def test_findings_that_do_not_fit_are_counted_and_left_to_the_report() -> None:
    # Control characters grow sixfold in JSON.
    finding = Finding("r", Severity.HIGH, "\0" * 512, Location("\0" * 512))
    scan = Scan.of(MADE, Outcome.FLAGGED, "zip", [finding] * 99, B, "1")
    assert (len(scan.findings), scan.total) == (3, 99)
    assert entry_body(make_statement(MODEL, scan, KEY), 5)
