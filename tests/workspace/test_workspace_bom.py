"""Bills of materials: accepted by the official schema, true of the ledger, and checkable later."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.predicates import Approval, Input, Training
from keepstone.evidence.statement import make_statement
from keepstone.governance.bom import make_bom, to_bytes
from keepstone.governance.facts import Seen
from keepstone.scan.packages.package import Package
from keepstone.workspace.bom import bom_of, check_bom, gather, sign_bom

Refusal = Callable[[bytes], str | None]


@pytest.fixture
def refusal(need_module: Callable[[str], ModuleType]) -> Refusal:
    """What the official CycloneDX 1.6 schema, read strictly, has against a document."""
    need_module("jsonschema")
    schema = need_module("cyclonedx.schema")
    module = need_module("cyclonedx.validation.json")
    validator = module.JsonStrictValidator(schema.SchemaVersion.V1_6)

    def find(data: bytes) -> str | None:
        error = validator.validate_str(data.decode())
        return None if error is None else str(error)

    return find


def training(home: Any, subject: Subject, **given: Any) -> Any:
    said = Training(
        made=home.made(),
        framework=given.get("framework", "scikit-learn 1.9.1"),
        parameters=given.get("parameters", {"alpha": "0.01", "task": "classification"}),
        metrics=given.get("metrics", {"accuracy": "0.97", "log_loss": "1e-1"}),
        dataset=Input(given.get("dataset", "uci-digits"), Digest.of(b"data")),
        seed=7,
    )
    return make_statement(subject, said, home.keys["alice"])


def record(home: Any, *envelopes: Any) -> None:
    with home.open() as workspace:
        for envelope in envelopes:
            workspace.record(envelope)


def component(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["metadata"]["component"]
    return found


def properties(document: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in component(document)["properties"]:
        found.setdefault(item["name"].removeprefix("keepstone:"), []).append(item["value"])
    return found


def test_a_minimal_model_says_what_is_not_known(served: Any, refusal: Refusal) -> None:
    document = bom_of(served.site, "scale", "local")

    assert refusal(to_bytes(document)) is None
    said = properties(document)
    assert (said["origin"], said["verdict"]) == (["not proven"], ["admitted"])
    assert said["verdict.rule"] == ["gate.admit"]
    assert {"task", "metrics", "datasets", "packages", "supplier", "licences"} <= {*said["unknown"]}
    card = component(document)["modelCard"]
    assert card["modelParameters"] == {
        "inputs": [{"format": "x: FP32[*, 3]"}],
        "outputs": [{"format": "y: FP32[*, 3]"}],
    }
    assert "quantitativeAnalysis" not in card
    assert "considerations" not in card
    # The hash is what `sha256sum` says of the file.
    model = Digest.of((served.root / "scale.onnx").read_bytes())
    assert component(document)["hashes"] == [{"alg": "SHA-256", "content": model.hex}]
    assert document["components"] == []


def test_a_signed_and_approved_model_names_every_statement(
    served: Any, subject: Subject, refusal: Refusal
) -> None:
    approval = served.approval(subject)
    record(served, training(served, subject), approval)

    document = bom_of(served.site, "scale", "local")

    assert refusal(to_bytes(document)) is None
    card = component(document)["modelCard"]
    assert card["modelParameters"]["task"] == "classification"
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "accuracy", "value": "0.97"},
        {"type": "log_loss", "value": "1e-1"},
    ]
    data, framework = document["components"]
    assert (data["type"], data["name"]) == ("data", "uci-digits")
    assert data["hashes"] == [{"alg": "SHA-256", "content": Digest.of(b"data").hex}]
    assert card["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert (framework["name"], framework["version"]) == ("scikit-learn", "1.9.1")
    assert properties(document)["origin"] == ["proven"]
    assert properties(document)["training.parameter.alpha"] == ["0.01"]
    known = {item["hashes"][0]["content"]: item for item in _statements(document)}
    for entry in served.entries("statement"):
        kind, digest = _kind_and_digest(entry)
        # Admissions are renewed all the time: the newest is in the metadata.
        assert (digest in known) == (kind != "admission")
    assert known[approval.digest.hex]["comment"] == "approval by bob"
    edges = {item["ref"]: item.get("dependsOn") for item in document["dependencies"]}
    assert edges[component(document)["bom-ref"]] == sorted([data["bom-ref"], "framework"])


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in component(document)["externalReferences"] if "hashes" in item]


def _kind_and_digest(entry: dict[str, Any]) -> tuple[str, str]:
    from keepstone.evidence.dsse import Envelope
    from keepstone.evidence.statement import open_payload

    envelope = Envelope.from_dict(entry["envelope"])
    return open_payload(envelope).predicate.kind, envelope.digest.hex


def test_a_revoked_model_is_denied_by_its_own_bill(
    served: Any, subject: Subject, refusal: Refusal
) -> None:
    # An admission from before still holds, as far as time goes.
    assert "contract" not in properties(bom_of(served.site, "scale", "local"))["unknown"]
    revocation = served.revocation(subject)
    record(served, revocation)

    document = bom_of(served.site, "scale", "local")

    assert refusal(to_bytes(document)) is None
    said = properties(document)
    assert (said["verdict"], said["verdict.rule"]) == (["denied"], ["guard.revoked"])
    # What may not be loaded is not read from the vault either.
    assert {"files", "contract"} <= {*said["unknown"]}
    revoked = next(
        one for one in document["declarations"]["claims"] if one["bom-ref"] == "claim:guard.revoked"
    )
    assert revoked["counterEvidence"] == [f"statement:{revocation.digest}"]


def test_words_that_others_chose_neither_break_nor_bend_the_document(
    served: Any, subject: Subject, refusal: Refusal
) -> None:
    """Statements refuse control characters themselves; packages and files come from anywhere."""
    hostile = "a\x00\x1b[2J\u202e\u2066\ud800\n\"'</script>\\"
    long = Approval(served.made(), "x" * 1024)
    record(
        served,
        training(
            served, subject, dataset="\u00e9\u0456vil, 'data'", parameters={"\u03b1": "\\u0000"}
        ),
        make_statement(subject, long, served.keys["bob"]),
    )
    facts = gather(
        served.site,
        "scale",
        "local",
        Seen(
            (
                Package("PyPI", hostile, hostile, hostile),
                Package("Debian:12", "libc6", "2.36-9+deb12u4", "var/lib/dpkg/status"),
                Package("npm", "@scope/name", "1.0.0", "a"),
                Package("npm", "@scope/name", "1.0.0", "b"),
                Package("", "x", "", ""),
            ),
            (f"{hostile}: no package list",),
        ),
    )

    data = to_bytes(make_bom(facts))

    assert refusal(data) is None
    text = data.decode()
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]|(?<!\\)\\u00[01]", text
    )
    document = json.loads(text)
    urls = [one["purl"] for one in document["components"] if one["type"] == "library"]
    assert len(urls) == len(set(urls)) == 4
    again = next(one for one in document["components"] if one["name"] == "@scope/name")
    paths = [one["value"] for one in again["properties"] if one["name"] == "keepstone:path"]
    assert paths == ["a", "b"]


def test_a_folder_lists_its_files(home: Any, refusal: Refusal) -> None:
    folder = home.root / "folder"
    folder.mkdir()
    home.model().rename(folder / "scale.onnx")
    (folder / "read me \u00e9#1.md").write_text("# a model\n")
    with home.open() as workspace:
        home.submit(workspace, folder, name="scale")

    document = bom_of(home.site, "scale", "local")

    assert refusal(to_bytes(document)) is None
    found = {one["name"]: one["hashes"][0]["content"] for one in component(document)["components"]}
    assert found == {
        path.name: Digest.of(path.read_bytes()).hex for path in sorted(folder.iterdir())
    }
    # The artifact's digest is no file's SHA-256, and is never passed off as one.
    assert "hashes" not in component(document)


def test_the_vault_is_read_for_an_admission_and_no_more_often(served: Any) -> None:
    def admissions() -> list[str]:
        found = [_kind_and_digest(entry)[0] for entry in served.entries("statement")]
        return [kind for kind in found if kind == "admission"]

    before = len(admissions())
    bom_of(served.site, "scale", "local")
    bom_of(served.site, "scale", "local")
    assert len(admissions()) == before + 1
    served.clock.now += 3_600_000
    bom_of(served.site, "scale", "local")
    assert len(admissions()) == before + 2


def test_the_same_head_and_moment_give_the_same_bytes(served: Any, subject: Subject) -> None:
    first = to_bytes(bom_of(served.site, "scale", "local"))
    assert to_bytes(bom_of(served.site, "scale", "local")) == first
    served.clock.now += 1
    later = json.loads(to_bytes(bom_of(served.site, "scale", "local")))
    before = json.loads(first)
    assert later.pop("serialNumber") != before.pop("serialNumber")
    assert later["metadata"].pop("timestamp") != before["metadata"].pop("timestamp")
    assert later == before
    record(served, served.approval(subject))
    assert json.loads(to_bytes(bom_of(served.site, "scale", "local"))) != later


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "component", "type"), "model"),
        (("metadata", "component", "hashes", 0, "content"), "zz"),
        (("metadata", "component", "modelCard", "model_parameters"), {}),
        (("metadata", "component", "externalReferences", 0, "type"), "proof"),
        (("metadata", "timestamp"), "yesterday"),
        (("serialNumber",), "urn:uuid:1"),
        (("dependencies", 0, "dependsOn"), ["a", "a"]),
        (("declarations", "claims", 0, "because"), "of it"),
        (("specVersion",), 1.6),
    ],
)
def test_the_schema_refuses_a_wrong_field(
    served: Any, refusal: Refusal, path: tuple[Any, ...], value: Any
) -> None:
    """So that the tests above can fail."""
    document = bom_of(served.site, "scale", "local")
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value

    assert refusal(to_bytes(document)) is not None


# Checking


def check(home: Any, document: dict[str, Any], packages: Seen | None = None) -> Any:
    return check_bom(home.site, "scale", "local", to_bytes(document), packages)


def test_a_document_holds_while_the_ledger_only_grows(served: Any, subject: Subject) -> None:
    document = bom_of(served.site, "scale", "local")
    served.clock.now += 1000
    with served.open() as workspace:
        workspace.record_event("something.else", {})
        served.submit(workspace)

    assert check(served, document).differences == ()


def test_what_changed_since_is_named(served: Any, subject: Subject) -> None:
    document = bom_of(served.site, "scale", "local")
    record(served, served.revocation(subject))

    found = {one.path: one for one in check(served, document).differences}

    verdict = found["metadata.component.properties[keepstone:verdict].value"]
    assert (verdict.document, verdict.workspace) == ("admitted", "denied")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _paths(item, (*path, key))]
    if isinstance(value, list):
        return [found for at, item in enumerate(value) for found in _paths(item, (*path, at))]
    return [path]


def test_no_field_can_be_forged_unseen(served: Any, subject: Subject) -> None:
    """Every value of the document, changed by itself, is named; but for when and who wrote it."""
    record(served, training(served, subject), served.approval(subject))
    document = bom_of(served.site, "scale", "local")
    free, refused = [], []
    for path in _paths(document):
        forged = copy.deepcopy(document)
        at: Any = forged
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = "forged" if isinstance(at[path[-1]], str) else 99
        try:
            if not check(served, forged).differences:
                free.append(".".join(str(step) for step in path))
        except InputError as error:
            refused.append(error.code)
    assert free == [
        "metadata.timestamp",
        "metadata.tools.components.0.version",
        "serialNumber",
    ]
    assert {*refused} == {"bom.malformed", "bom.other_version"}


def test_a_field_that_is_left_out_or_added_is_named(served: Any) -> None:
    document = bom_of(served.site, "scale", "local")
    less = copy.deepcopy(document)
    del less["metadata"]["component"]["properties"][1]
    more = copy.deepcopy(document)
    more["components"].append({"type": "library", "bom-ref": "x", "name": "x"})

    assert [one.document for one in check(served, less).differences] == [None, None]
    assert {one.workspace for one in check(served, more).differences} == {None}


def test_a_rewritten_or_foreign_ledger_is_named(served: Any) -> None:
    document = bom_of(served.site, "scale", "local")
    for name, value in (
        ("ledger.root", f"sha256:{'0' * 64}"),
        ("ledger.size", "999"),
        ("ledger.origin", "keepstone/0000000000000000"),
    ):
        forged = copy.deepcopy(document)
        for item in forged["metadata"]["properties"]:
            if item["name"] == f"keepstone:{name}":
                item["value"] = value
        paths = [one.path for one in check(served, forged).differences]
        assert "metadata.properties[keepstone:ledger]" in paths


def test_packages_are_compared_only_where_they_are_given(served: Any) -> None:
    seen = Seen((Package("PyPI", "numpy", "2.4.0", "requirements.txt"),))
    document = make_bom(gather(served.site, "scale", "local", seen))

    assert check(served, document).packages is None
    assert check(served, document).matches
    assert check(served, document, seen) == replace(check(served, document), packages=True)
    other = Seen((replace(seen.packages[0], version="2.4.1"),))
    assert not check(served, document, other).matches


def test_what_is_no_document_of_ours_is_refused(served: Any, code: Callable[..., str]) -> None:
    for data, expected in (
        (b"{", "json.malformed/2"),
        (b"[]", "bom.malformed/2"),
        (b'{"bomFormat":"CycloneDX","specVersion":"1.7"}', "bom.other_version/2"),
        (b'{"bomFormat":"CycloneDX","specVersion":"1.6"}', "bom.malformed/2"),
        (b'{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":[]}', "bom.malformed/2"),
        (b"[" * 100_000, "json.malformed/2"),
    ):
        assert code(check_bom, served.site, "scale", "local", data) == expected
    assert code(bom_of, served.site, "nothing", "local") == "model.unknown/2"


# Signing


def test_a_signature_is_on_the_record_and_covers_the_bytes(served: Any, subject: Subject) -> None:
    document = bom_of(served.site, "scale", "local")
    data = to_bytes(document)
    entry, envelope = sign_bom(served.site, document, data, served.keys["alice"])

    assert json.loads(envelope)["payloadType"] == "application/vnd.in-toto+json"
    assert check(served, document).signed == (("alice", entry),)
    # It is about the document: it proves no origin, although a publisher signed it.
    assert properties(bom_of(served.site, "scale", "local"))["origin"] == ["not proven"]
    # The signature itself does not change what it signs; another byte is another document.
    assert check(served, document).matches
    assert check_bom(served.site, "scale", "local", data + b" ").signed == ()


def test_who_may_not_sign_one_does_not(served: Any, code: Callable[..., str]) -> None:
    document = bom_of(served.site, "scale", "local")
    for name, expected in (
        ("bob", "statement.no_right/1"),
        ("stranger", "signature.unknown_key/1"),
    ):
        key = served.keys[name]
        assert code(sign_bom, served.site, document, to_bytes(document), key) == expected


def test_a_damaged_blob_gives_no_document(
    served: Any, subject: Subject, code: Callable[..., str]
) -> None:
    with served.open() as workspace:
        path: Path = workspace.store.path(subject.digest, "scale")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert code(bom_of, served.site, "scale", "local").startswith("seal.")
    path.unlink()
    document = bom_of(served.site, "scale", "local")
    assert {"files", "contract"} <= {*properties(document)["unknown"]}
    # What the scan saw is known still.
    seen = Digest.of((served.root / "scale.onnx").read_bytes())
    assert component(document)["hashes"] == [{"alg": "SHA-256", "content": seen.hex}]
