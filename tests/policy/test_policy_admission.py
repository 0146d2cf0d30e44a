from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.evidence import predicates
from keepstone.evidence.dsse import add_signature
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import LedgerHead
from keepstone.evidence.statement import make_statement
from keepstone.policy.admission import Admission, verify_admission
from keepstone.policy.gate import admit

World = Any
TOOL = Tool("keepstone", "0")
CONTRACT = Digest("01" * 32)
HEAD = LedgerHead(7, Digest("02" * 32))


def admitted(world: World) -> bytes:
    world.scan()
    return admit(world.judge(), world.keys["gate"], contract=CONTRACT, ledger=HEAD, tool=TOOL)


def asked(world: World, **changes: Any) -> dict[str, Any]:
    return {
        "now": world.now,
        "digest": world.subject.digest,
        "name": world.subject.name,
        "endpoint": world.endpoint,
        "policy_digest": world.trust().policy.digest,
        **changes,
    }


def refused(world: World, envelope: Any, **changes: Any) -> str:
    with pytest.raises(KeepstoneError) as caught:
        verify_admission(envelope, world.keys["gate"].verifying, **asked(world, **changes))
    return caught.value.code


def test_an_admission_says_what_was_decided(local: World) -> None:
    envelope = admitted(local)
    admission = verify_admission(envelope, local.keys["gate"].verifying, **asked(local))
    assert admission.subject == local.subject
    assert admission.name == "digits"
    assert admission.artifact == local.subject.digest
    assert admission.endpoint == local.endpoint
    assert admission.contract == CONTRACT
    assert admission.ledger == HEAD
    assert admission.policy == local.trust().policy.digest
    assert admission.evidence == local.judge().evidence
    assert admission.issued == local.now
    assert admission.expires == local.now + 3_600_000
    assert admission.holds(local.now)
    assert not admission.holds(local.now - 1)
    assert admission.holds(admission.expires - 1)
    assert not admission.holds(admission.expires)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"digest": Digest("ac" * 32)}, "admission.wrong_artifact"),
        ({"name": "letters"}, "admission.wrong_name"),
        ({"endpoint": "endpoint-2"}, "admission.wrong_endpoint"),
        ({"policy_digest": Digest("ac" * 32)}, "admission.wrong_policy"),
    ],
)
def test_it_is_good_for_nothing_else(local: World, changes: dict[str, Any], code: str) -> None:
    assert refused(local, admitted(local), **changes) == code


def test_it_holds_from_its_first_to_before_its_last_millisecond(local: World) -> None:
    envelope = admitted(local)
    gate = local.keys["gate"].verifying
    assert verify_admission(envelope, gate, **asked(local, now=local.now + 3_599_999))
    assert refused(local, envelope, now=local.now + 3_600_000) == "admission.expired"
    assert refused(local, envelope, now=local.now - 1) == "admission.not_yet"


def by_hand(world: World, key: str = "gate", subject: Subject | None = None, **changes: Any) -> Any:
    """An admission that somebody signed without the gate."""
    said = predicates.Admission(
        made=Made(TOOL, world.now, changes.pop("expires", world.now + 1000)),
        name="digits",
        endpoint=world.endpoint,
        artifact=world.subject.digest,
        contract=CONTRACT,
        policy=world.trust().policy.digest,
        ledger=HEAD,
        evidence=(),
    )
    said = dataclasses.replace(said, **changes)
    return make_statement(subject or world.subject, said, world.keys[key])


@pytest.mark.parametrize("key", ["observer", "alice", "bob", "stranger"])
def test_no_other_key_can_admit(local: World, key: str) -> None:
    assert refused(local, by_hand(local, key)) == "signature.unknown_key"
    assert verify_admission(by_hand(local), local.keys["gate"].verifying, **asked(local))


def test_a_stolen_signature_does_not_fit_another_payload(local: World) -> None:
    good, other = by_hand(local), by_hand(local, endpoint="endpoint-2")
    swapped = dataclasses.replace(other, signatures=good.signatures)
    assert refused(local, swapped, endpoint="endpoint-2") == "signature.invalid"


def test_a_second_signature_adds_nothing(local: World) -> None:
    envelope = add_signature(by_hand(local), local.keys["stranger"])
    assert verify_admission(envelope, local.keys["gate"].verifying, **asked(local))


def test_an_admission_that_contradicts_its_subject_is_refused(local: World) -> None:
    other = Subject("digits", Digest("ac" * 32))
    assert refused(local, by_hand(local, subject=other)) == "admission.not_an_admission"
    renamed = Subject("letters", local.subject.digest)
    assert refused(local, by_hand(local, subject=renamed)) == "admission.not_an_admission"


def test_another_statement_by_the_gate_is_no_admission(local: World) -> None:
    assert refused(local, local.scan(by="gate")) == "admission.not_an_admission"


def test_an_admission_for_longer_than_a_day_is_refused(local: World) -> None:
    day = local.now + 86_400_000
    gate = local.keys["gate"].verifying
    assert verify_admission(by_hand(local, expires=day), gate, **asked(local))
    assert refused(local, by_hand(local, expires=day + 1)) == "admission.too_long"


@pytest.mark.parametrize("envelope", [b"", b"{}", b"null", b"\xff"])
def test_what_is_no_envelope_is_refused(local: World, envelope: bytes) -> None:
    with pytest.raises(InputError):
        verify_admission(envelope, local.keys["gate"].verifying, **asked(local))


def test_every_flipped_bit_of_the_envelope_is_refused(local: World) -> None:
    envelope = admitted(local)
    for place in range(0, len(envelope), 7):
        broken = bytearray(envelope)
        broken[place] ^= 4
        assert refused(local, bytes(broken))


def test_an_admission_cannot_be_made_by_hand(local: World) -> None:
    admission = verify_admission(admitted(local), local.keys["gate"].verifying, **asked(local))
    fields = {name: getattr(admission, name) for name in admission.__slots__}
    with pytest.raises(VerificationError) as caught:
        Admission(**{**fields, "_seal": None})
    assert caught.value.code == "admission.unverified"


def test_an_admission_never_outlives_its_evidence(production: World) -> None:
    production.scan()
    production.sign()
    production.train()
    production.approve(expires=production.now + 1000)
    envelope = admit(
        production.judge(), production.keys["gate"], contract=CONTRACT, ledger=HEAD, tool=TOOL
    )
    assert refused(production, envelope, now=production.now + 1000) == "admission.expired"
