"""Proofs that anybody can check offline, entries as people read them, and answers to why."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import KeepstoneError
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import EntryProof, LedgerReader, format_vkey
from keepstone.workspace.explaining import explain_credential, explain_subject
from keepstone.workspace.history import entry_document, find_entry, newest, one_line
from keepstone.workspace.layout import read_identity
from keepstone.workspace.operations import perform
from keepstone.workspace.proving import Proved, prove_entry, verify_proof_file, vkey_of
from keepstone.workspace.statements import approve, reinstate, revoke

KEY = {"principal": "user:eve", "roles": ["caller"], "models": ["scale"], "lifetime_ms": 60_000}


@pytest.fixture
def proved(home: Any, prediction: Callable[..., str]) -> Proved:
    return prove_entry(home.site, prediction(home, b"question", b"answer"))


def test_a_proof_verifies_offline_with_nothing_but_the_key(home: Any, proved: Proved) -> None:
    vkey = vkey_of(home.site)
    again = verify_proof_file(proved.text.encode(), vkey, input=b"question", output=b"answer")
    assert again.entry_id == proved.entry_id
    assert (again.input_matches, again.output_matches, again.holds) == (True, True, True)
    assert again.to_dict()["input"] == "matches"
    assert proved.to_dict() | {"input": "matches", "output": "matches"} == again.to_dict()
    assert any("not_compared" in line for line in proved.lines())


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({"input": b"question"}, (True, None)),
        ({"input": b"questions"}, (False, None)),
        ({"output": b"answer"}, (None, True)),
        ({"output": b"question"}, (None, False)),
        ({"input": b"answer", "output": b"question"}, (False, False)),
    ],
)
def test_a_request_and_an_answer_are_held_against_it(
    home: Any, prediction: Callable[..., str], given: dict[str, bytes], matches: Any
) -> None:
    found = prove_entry(home.site, prediction(home, b"question", b"answer"), **given)
    assert (found.input_matches, found.output_matches) == matches
    assert found.holds == (False not in matches)


def test_no_changed_character_verifies_as_the_same(home: Any, proved: Proved) -> None:
    """Whatever one character is turned into: refused, or the entry and its opening unchanged.

    The key in it is not signed, only useless if it is wrong: the commitments then differ.
    """
    vkey, text = vkey_of(home.site), proved.text
    genuine = verify_proof_file(text.encode(), vkey, input=b"question", output=b"answer")
    accepted = []
    for at, old in enumerate(text):
        new = "A" if old != "A" else "B"
        try:
            changed = text[:at] + new + text[at + 1 :]
            found = verify_proof_file(changed.encode(), vkey, input=b"question", output=b"answer")
        except KeepstoneError:
            continue
        assert (found.entry_id, found.entry) == (genuine.entry_id, genuine.entry)
        if found.holds:
            accepted.append((at, old, new))
    assert accepted == []


def test_a_cut_proof_is_refused(home: Any, proved: Proved) -> None:
    vkey = vkey_of(home.site)
    for size in range(0, len(proved.text), 7):
        with pytest.raises(KeepstoneError):
            verify_proof_file(proved.text[:size].encode(), vkey)


def test_another_ledgers_key_or_name_does_not_verify_it(
    home: Any, proved: Proved, code: Callable[..., str]
) -> None:
    origin = read_identity(home.layout).origin
    other = SigningKey.generate(Algorithm.ED25519).verifying
    data = proved.text.encode()
    assert code(verify_proof_file, data, format_vkey(origin, other)).endswith("/1")
    own = home.layout.keys / "ledger.pub.pem"
    from keepstone.identity.signing import load_public_key

    renamed = format_vkey("keepstone/0123456789abcdef", load_public_key(own))
    assert code(verify_proof_file, data, renamed).endswith("/1")
    assert code(verify_proof_file, data, "no key at all").endswith("/2")


def test_a_proof_of_another_entry_does_not_carry_this_one(
    home: Any, prediction: Callable[..., str], code: Callable[..., str]
) -> None:
    from dataclasses import replace

    one = prove_entry(home.site, prediction(home, b"1", b"1"))
    two = prove_entry(home.site, prediction(home, b"2", b"2"))
    first, second = EntryProof.parse(one.text), EntryProof.parse(two.text)
    mixed = replace(second, extra=first.extra).to_text()
    assert code(verify_proof_file, mixed.encode(), vkey_of(home.site)) == "proof.invalid/1"


@pytest.mark.parametrize(
    "extra",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b'{"entry":7}',
        b'{"entry":"%%"}',
        b'{"entry":"e30=","key":7}',
        b'{"entry":"e30=","key":"%%"}',
        b'{"entry":"e30="}',
        b'{"entry":"e30=","schema":"keepstone.entry-proof/v2"}',
        b'{"entry":"e30=","kez":"AAAA","schema":"keepstone.entry-proof/v1"}',
    ],
)
def test_a_proof_that_does_not_carry_its_entry_is_malformed(
    home: Any, proved: Proved, code: Callable[..., str], extra: bytes
) -> None:
    from dataclasses import replace

    text = replace(EntryProof.parse(proved.text), extra=extra).to_text()
    assert code(verify_proof_file, text.encode(), vkey_of(home.site)) == "proof.malformed/2"


def test_a_key_on_what_is_no_prediction_opens_nothing(home: Any, code: Callable[..., str]) -> None:
    from dataclasses import replace

    event = prove_entry(home.site, "0")
    proof = EntryProof.parse(event.text)
    assert proof.extra is not None
    extra = json.loads(proof.extra) | {"key": b64encode(bytes(32)).decode()}
    text = replace(proof, extra=json.dumps(extra).encode()).to_text()
    assert code(verify_proof_file, text.encode(), vkey_of(home.site)) == "entry.not_a_prediction/2"
    given = {"input": b"x"}
    assert code(prove_entry, home.site, "0", **given) == "entry.not_a_prediction/2"


def test_an_entry_is_proved_beside_an_owner_and_under_a_checkpoint_made_for_it(
    home: Any, prediction: Callable[..., str]
) -> None:
    from keepstone.workspace.control import ControlServer
    from keepstone.workspace.operations import execute

    with home.open() as workspace:
        server = ControlServer(home.layout, lambda *asked: execute(workspace, *asked))
        entry = workspace.record_event("tested", {})
        assert prove_entry(home.site, str(entry)).size == entry.index + 1
        server.close()


def test_an_entry_that_is_not_there_or_another_is_refused(
    home: Any, code: Callable[..., str]
) -> None:
    entry = newest(home.site, 1)[0]["id"]
    other = entry[:-1] + ("0" if entry[-1] != "0" else "1")
    assert code(prove_entry, home.site, other) == "entry.id_mismatch/1"
    assert code(prove_entry, home.site, "7") == "ledger.no_such_entry/2"
    assert code(prove_entry, home.site, "ks-7-0123456789abcdef") == "ledger.no_such_entry/2"
    for text in ("", "-1", "ks", "٣", "9" * 40, "0x0", " 0"):
        assert code(prove_entry, home.site, text) == "entry.bad_id/2", text


# History


def test_entries_are_shown_newest_last_and_without_what_opens_them(
    served: Any, prediction: Callable[..., str]
) -> None:
    prediction(served, b"question", b"answer")
    entries = newest(served.site, 4)
    assert [entry["kind"] for entry in entries] == [*["statement"] * 3, "prediction"]
    assert entries[0]["predicate"] == "scan"
    assert entries[0]["subject"] == "scale"
    assert not {"nonce", "in", "out", "period"} & entries[-1].keys()
    assert len(newest(served.site, 100)) == len(served.entries())
    for entry in entries:
        line = one_line(entry)
        assert "\n" not in line
        assert entry["id"] in line


def test_one_entry_is_shown_whole(served: Any) -> None:
    with LedgerReader.open(served.layout.ledger) as reader:
        entry_id, _ = find_entry(reader, "1")
    document = entry_document(served.site, str(entry_id))
    assert document == entry_document(served.site, "1")
    assert document["statement"]["predicateType"] == "urn:keepstone:scan:v1"
    assert "statement" not in entry_document(served.site, "0")


def test_a_statement_that_cannot_be_read_is_shown_as_such(served: Any) -> None:
    from keepstone.evidence.dsse import sign_envelope
    from keepstone.evidence.record import entry_body

    envelope = sign_envelope("application/x-other", b"{}", served.keys["bob"])
    with served.open() as workspace:
        workspace.ledger.append(entry_body(envelope, served.clock.now)).wait(10)
    (entry,) = newest(served.site, 1)
    assert entry["signers"] == [served.keys["bob"].key_id[:16]]
    assert "unreadable" in entry


# What people sign


def test_people_approve_revoke_and_reinstate_by_name_and_by_digest(
    served: Any, subject: Subject, code: Callable[..., str]
) -> None:
    site, keys = served.site, served.keys
    assert approve(site, "scale", keys["bob"], "looked at it").subject == subject
    assert approve(site, str(subject.digest), keys["bob"], "again").subject == subject
    assert code(reinstate, site, "scale", keys["dave"], "why") == "model.not_revoked/2"
    assert code(revoke, site, "artifact", "scale", keys["bob"], "why") == "statement.no_right/1"
    stranger = keys["stranger"]
    assert code(revoke, site, "artifact", "scale", stranger, "why") == "signature.unknown_key/1"
    assert revoke(site, "artifact", subject.digest.hex, keys["carol"], "why").subject == subject
    assert explain_subject(site, "scale", "local").allowed is False
    assert code(reinstate, site, "scale", keys["carol"], "why") == "statement.no_right/1"
    reinstate(site, "scale", keys["dave"], "checked")
    assert explain_subject(site, "scale", "local").allowed is True


def test_an_approval_can_be_given_for_a_time(served: Any, subject: Subject) -> None:
    approve(served.site, "scale", served.keys["bob"], "for now", 60_000)
    shown = entry_document(served.site, newest(served.site, 1)[0]["id"])
    from keepstone.core.ports import rfc3339

    assert shown["statement"]["predicate"]["expires"] == rfc3339(served.clock.now + 60_000)


def test_a_digest_that_was_never_seen_can_be_denied_and_reinstated(
    served: Any, never: Digest, code: Callable[..., str]
) -> None:
    site, keys = served.site, served.keys
    assert code(approve, site, str(never), keys["bob"], "why") == "model.unknown/2"
    assert code(revoke, site, "artifact", "nothing", keys["carol"], "why") == "model.unknown/2"
    assert code(revoke, site, "artifact", str(never), keys["bob"], "x") == "statement.no_right/1"
    revoke(site, "artifact", str(never), keys["carol"], "known to be bad")
    with served.open() as workspace:
        assert workspace.evidence.denied(never, served.clock.now) is not None
    reinstate(site, str(never), keys["dave"], "it was another")
    with served.open() as workspace:
        assert workspace.evidence.denied(never, served.clock.now) is None


def test_a_statement_and_a_key_are_revoked_by_what_names_them(
    served: Any, subject: Subject, code: Callable[..., str]
) -> None:
    site, keys = served.site, served.keys
    said = approve(site, "scale", keys["bob"], "looked at it")
    assert code(revoke, site, "statement", "ks-1", keys["carol"], "x") == "entry.bad_id/2"
    event = newest(site, 100)[0]["id"]
    assert code(revoke, site, "statement", event, keys["carol"], "x") == "statement.unknown/2"
    revoke(site, "statement", said.entry, keys["carol"], "not looked at after all")
    bob = keys["bob"].key_id
    assert code(revoke, site, "key", bob[:7], keys["carol"], "x") == "digest.malformed/2"
    assert revoke(site, "key", bob[:8], keys["carol"], "lost").subject.digest == Digest(bob)
    with served.open() as workspace:
        assert bob in workspace.evidence.revoked_keys
        live = workspace.evidence.about(subject.digest, "scale", served.clock.now).live
    assert {item.kind for item in live} == {"scan", "sealing", "admission"}


# Why


def test_a_model_and_a_principal_are_explained(served: Any, code: Callable[..., str]) -> None:
    assert explain_subject(served.site, "scale", "local").allowed
    assert code(explain_subject, served.site, "nothing", "local") == "model.unknown/2"
    made = perform(served.site, "keys.create", KEY)
    assert explain_credential(served.site, made["key_id"], "model.predict", "scale").allowed
    assert not explain_credential(served.site, made["key_id"], "model.predict", "other").allowed
    assert not explain_credential(served.site, made["key_id"], "metrics.read", None).allowed
    assert not explain_credential(served.site, "user:bob", "model.predict", "scale").allowed
    served.edit_policy(
        "# ---- Signers",
        '[[bindings]]\nprincipal = "user:bob"\nrole = "caller"\nmodels = ["scale"]\n\n# ---- S',
    )
    assert explain_credential(served.site, "user:bob", "model.predict", "scale").allowed
    unknown = code(explain_credential, served.site, "nobody", "model.predict", "scale")
    assert unknown == "principal.unknown/2"
    bad = code(explain_credential, served.site, "user: bob", "model.predict", "scale")
    assert bad == "principal.invalid/2"
