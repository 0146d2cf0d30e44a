"""What another registry's versions and aliases are, by statements: order, ends, and export."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.needed import needed
from keepstone.evidence.predicates import Registered, Revocation, Target, parse_predicate, type_of
from keepstone.evidence.record import entry_body
from keepstone.evidence.registrations import Registrations
from keepstone.evidence.statement import make_statement
from keepstone.evidence.verified import Signer
from keepstone.evidence.verify import EvidenceBase
from keepstone.identity.signing import SigningKey

NOW = 1_790_000_000_000
KEY, CAROL, STRANGER = (SigningKey.generate() for _ in range(3))
SIGNERS = {
    key.key_id: Signer(name, name, key.verifying)
    for name, key in (("observer", KEY), ("carol", CAROL), ("mallory", STRANGER))
}
RIGHTS = {
    KEY.key_id: frozenset({"state.registered"}),
    CAROL.key_id: frozenset({"state.revocation"}),
    STRANGER.key_id: frozenset({"state.scan"}),
}
ONE, TWO = (Subject("fraud", Digest(two * 32)) for two in ("ab", "cd"))


def said(
    subject: Subject, version: int, alias: str | None = None, *, key: SigningKey = KEY, at: int = 0
) -> Envelope:
    made = Made(Tool("keepstone", "0"), NOW + at)
    what = Registered(made, "mlflow", "Fraud", version, f"/store/{version}", alias)
    return make_statement(subject, what, key)


def base(*envelopes: Envelope) -> EvidenceBase:
    entries = [(index, entry_body(one, NOW)) for index, one in enumerate(envelopes)]
    return EvidenceBase.build(entries, SIGNERS, RIGHTS)


def held(*envelopes: Envelope) -> Registrations:
    return Registrations.of(base(*envelopes), "mlflow", NOW)


def test_a_version_is_what_was_said_first_and_an_alias_what_was_said_last() -> None:
    found = held(said(ONE, 1), said(TWO, 1), said(ONE, 1, "a"), said(TWO, 2, "a", at=1))
    version, alias = found.version("Fraud", 1), found.alias("Fraud", "a")
    assert version is not None
    assert alias is not None
    assert (version.digest, alias.digest, alias.said.version) == (ONE.digest, TWO.digest, 2)
    assert (found.newest("Fraud"), found.newest("fraud")) == (2, 0)
    assert found.version("Fraud", 3) is None
    assert found.alias("Fraud", "A") is None
    at = found.at("/store/2")
    assert at is not None
    assert at.digest == TWO.digest
    assert found.below("/store")
    assert not found.below("/store/2")


def test_another_registry_and_a_signer_without_the_right_say_nothing() -> None:
    assert held(said(ONE, 1, key=STRANGER)).version("Fraud", 1) is None
    assert Registrations.of(base(said(ONE, 1)), "other", NOW).version("Fraud", 1) is None


def test_a_revoked_statement_holds_no_more() -> None:
    first = said(ONE, 1)
    target = Target("statement", first.digest)
    revocation = Revocation(Made(Tool("keepstone", "0"), NOW), target, "a mistake")
    ended = make_statement(Subject("statement", first.digest), revocation, CAROL)
    found = held(first, ended, said(TWO, 1)).version("Fraud", 1)
    assert found is not None
    assert found.digest == TWO.digest


def test_every_registration_travels_in_a_bundle_about_one_artifact() -> None:
    """Else an alias that moved away from it would look as if it still pointed there."""
    everything = base(said(ONE, 1, "a"), said(TWO, 2, "a")).verified
    assert len(needed(everything, {ONE.digest})) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("alias"),
        lambda value: value.update(version=0),
        lambda value: value.update(version="1"),
        lambda value: value.update(model=""),
        lambda value: value.update(model="a\nb"),
        lambda value: value.update(location="x" * 1025),
        lambda value: value.update(more=1),
    ],
)
def test_a_malformed_registration_is_refused(change: Callable[[dict[str, object]], object]) -> None:
    made = Made(Tool("keepstone", "0"), NOW)
    value = Registered(made, "mlflow", "Fraud", 1, "/store/1").to_dict()
    assert parse_predicate(type_of("registered"), dict(value))
    change(value)
    with pytest.raises(InputError, match=r"statement\.malformed"):
        parse_predicate(type_of("registered"), value)
