"""Trust bundles, attacked: forged, cut, rolled back, out of their time, and read by a fuzzer."""

from __future__ import annotations

import dataclasses
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.ports import rfc3339
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, KeepstoneError, VerificationError
from keepstone.evidence.dsse import Envelope, sign_envelope
from keepstone.evidence.predicates import Target
from keepstone.evidence.statement import PAYLOAD_TYPE as STATEMENT
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger.checkpoint import Checkpoint, sign_checkpoint
from keepstone.ledger.tree import inclusion_path, leaf_hash, root_of
from keepstone.policy import bundle as module
from keepstone.policy.bundle import (
    MAX_LIFETIME_MS,
    PAYLOAD_TYPE,
    Contents,
    Logged,
    Seen,
    TrustBundle,
    claimed_origin,
    make_bundle,
    verify_bundle,
)
from keepstone.policy.permission import Permission

World = Any
ORIGIN = "keepstone/0123456789abcdef"
LEDGER = SigningKey.generate(Algorithm.ED25519)
HOUR = 3_600_000


def contents(world: World, size: int | None = None, **changed: Any) -> Contents:
    """What a workspace with the entries of `world` would export; entry 0 is an event."""
    bodies = [b"event", *(body for _, body in world.entries)]
    bodies += [b"event"] * ((size or len(bodies)) - len(bodies))
    leaves = [leaf_hash(body) for body in bodies]

    def node(level: int, index: int) -> bytes:
        return root_of(leaves[index << level : (index + 1) << level])

    note = sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root_of(leaves)), LEDGER)
    whole = Contents(
        origin=ORIGIN,
        issued=world.now,
        expires=world.now + HOUR,
        observer=world.keys["observer"].verifying,
        gate=world.keys["gate"].verifying,
        ledger=LEDGER.verifying,
        policy=world.policy,
        note=note,
        statements=tuple(
            Logged(index, body, tuple(inclusion_path(index, len(leaves), node)))
            for index, body in world.entries
        ),
    )
    return dataclasses.replace(whole, **changed)


def export(world: World, **changed: Any) -> bytes:
    return make_bundle(contents(world, **changed), world.keys["gate"])


def opened(world: World, data: bytes, now: int | None = None, **given: Any) -> TrustBundle:
    moment = world.now if now is None else now
    return verify_bundle(data, now=moment, key_id=world.keys["gate"].key_id, **given)


def edited(world: World, data: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """The bundle with another content, signed anew by the gate's key."""
    payload = json.loads(Envelope.parse(data, limit=1 << 25).payload)
    edit(payload)
    return sign_envelope(PAYLOAD_TYPE, canonical(payload), world.keys["gate"]).to_json()


@pytest.fixture
def code() -> Callable[..., str]:
    def find(action: Callable[..., object], *given: object, **named: object) -> str:
        with pytest.raises(KeepstoneError) as caught:
            action(*given, **named)
        return f"{caught.value.code}/{int(caught.value.exit_code)}"

    return find


# What it answers


@pytest.mark.parametrize("profile", ["local", "production"])
def test_a_verdict_under_a_bundle_is_the_workspaces(profile: str, request: Any) -> None:
    world = request.getfixturevalue(profile).complete()
    bundle = opened(world, export(world))
    here, there = bundle.verdict(world.subject, world.endpoint, world.now), world.judge()
    assert here == dataclasses.replace(there, _seal=here._seal)
    assert here.allowed
    assert bundle.revoked(world.subject.digest, world.now) is None
    assert bundle.about(world.subject, world.now).live == world.evidence().live
    assert bundle.names_of(world.subject.digest) == ("digits",)
    assert bundle.names_of(Digest("00" * 32)) == ()


def test_a_revocation_in_the_bundle_is_a_no(local: World, code: Callable[..., str]) -> None:
    local.scan()
    local.revoke()
    bundle = opened(local, export(local))
    assert bundle.revoked(local.subject.digest, local.now) is not None
    assert not bundle.verdict(local.subject, "local", local.now).allowed
    assert code(bundle.permit, local.subject, "local", local.now) == "gate.revoked/1"


@pytest.mark.parametrize("outcome", [Outcome.FLAGGED, Outcome.NOT_EVALUATED])
def test_without_the_evidence_there_is_no_permission(
    local: World, outcome: Outcome, code: Callable[..., str]
) -> None:
    local.scan(outcome)
    bundle = opened(local, export(local))
    assert code(bundle.permit, local.subject, "local", local.now) == "gate.denied/1"
    other = Subject("digits", Digest("00" * 32))
    assert code(bundle.permit, other, "local", local.now) == "gate.denied/1"


def test_a_permission_lasts_no_longer_than_the_bundle_and_its_evidence(local: World) -> None:
    local.scan()
    bundle = opened(local, export(local, expires=local.now + 1000))
    permission = bundle.permit(local.subject, "local", local.now)
    assert (permission.name, permission.artifact) == ("digits", local.subject.digest)
    assert (permission.format, permission.bundle) == ("onnx", bundle.digest)
    assert permission.expires == local.now + 1000
    assert permission.holds(local.now)
    assert permission.holds(local.now + 999)
    assert not permission.holds(local.now + 1000)
    assert not permission.holds(local.now - 1)
    longer = opened(local, export(local, expires=local.now + 30 * HOUR))
    assert longer.permit(local.subject, "local", local.now).expires == local.now + HOUR


def test_without_a_scan_the_format_is_unknown(local: World) -> None:
    local.policy = local.policy.replace(b'evidence = "scan"', b'evidence = "training"', 1)
    local.policy = local.policy.replace(b'role = "observer"', b'role = "publisher"', 1)
    local.policy = local.policy.replace(b'result = "clean"\n', b"", 1)
    local.train()
    bundle = opened(local, export(local))
    assert bundle.permit(local.subject, "local", local.now).format == "unknown"


def test_neither_a_bundle_nor_a_permission_is_made_by_hand(
    local: World, code: Callable[..., str]
) -> None:
    local.scan()
    bundle = opened(local, export(local))
    permission = bundle.permit(local.subject, "local", local.now)
    for value in (bundle, permission):
        given = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        made = type(value)
        assert code(made, **given | {"_seal": object()}).endswith(".unverified/1")
    longer = {"expires": permission.expires + 1, "_seal": None}
    assert code(dataclasses.replace, permission, **longer) == "permission.unverified/1"
    assert isinstance(permission, Permission)


# Forgeries


def test_only_the_key_that_is_trusted_counts(local: World, code: Callable[..., str]) -> None:
    data = export(local)
    thief = SigningKey.generate()
    assert code(verify_bundle, data, now=local.now, key_id=thief.key_id) == "trust.wrong_key/1"
    # Somebody's own bundle, under their own key.
    theirs = make_bundle(contents(local, gate=thief.verifying), thief)
    assert code(opened, local, theirs) == "trust.wrong_key/1"
    # The trusted key named inside, and another one's signature.
    payload = Envelope.parse(data).payload
    forged = sign_envelope(PAYLOAD_TYPE, payload, thief)
    assert code(opened, local, forged.to_json()) == "signature.unknown_key/1"
    (signed,) = forged.signatures
    named = dataclasses.replace(signed, key_id=local.keys["gate"].key_id)
    posing = dataclasses.replace(forged, signatures=(named,)).to_json()
    assert code(opened, local, posing) == "signature.invalid/1"


def test_every_changed_byte_is_refused(local: World) -> None:
    local.scan()
    data = export(local)
    for place in range(0, len(data), 7):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(KeepstoneError):
            opened(local, changed)
    for place in range(0, len(data), 101):
        with pytest.raises(InputError):
            opened(local, data[:place])


def test_a_statement_of_the_gate_is_no_bundle_and_the_other_way_round(
    local: World, code: Callable[..., str]
) -> None:
    payload = Envelope.parse(export(local)).payload
    posing = sign_envelope(STATEMENT, payload, local.keys["gate"]).to_json()
    assert code(opened, local, posing) == "trust.malformed/2"
    approval = local.approve().to_json()
    assert code(opened, local, approval) == "trust.malformed/2"


def test_a_statement_that_is_not_in_the_ledger_is_refused(
    local: World, code: Callable[..., str]
) -> None:
    local.scan()
    good = contents(local)
    local.approve()
    # What the gate's key alone could add: the ledger's key does not cover it.
    (item,) = good.statements
    foreign = dataclasses.replace(item, body=local.entries[-1][1])
    assert code(export, local, statements=(foreign,), note=good.note) == "proof.invalid/1"
    moved = dataclasses.replace(item, index=0)
    assert code(export, local, statements=(moved,), note=good.note) == "proof.invalid/1"


def test_the_checkpoint_is_the_ledgers_own_and_of_this_origin(
    local: World, code: Callable[..., str]
) -> None:
    note = contents(local).note
    other = SigningKey.generate(Algorithm.ED25519)
    assert code(export, local, ledger=other.verifying) == "checkpoint.unsigned/1"
    assert code(export, local, origin="keepstone/other") == "checkpoint.unsigned/1"
    assert export(local, note=note)


def test_keys_that_serve_two_roles_are_refused(local: World, code: Callable[..., str]) -> None:
    gate = local.keys["gate"].verifying
    assert code(export, local, observer=gate) == "policy.invalid/2"
    assert code(export, local, policy=b"schema = 7") == "policy.invalid/2"


def test_a_bundle_of_a_revoked_key_is_refused(local: World, code: Callable[..., str]) -> None:
    local.scan()
    local.revoke(target=Target("key", Digest(local.keys["gate"].key_id)))
    assert code(export, local) == "trust.key_revoked/1"


# Time and rollback


@pytest.mark.parametrize(
    ("after", "expected"),
    [(-1, "trust.not_yet/1"), (HOUR, "trust.expired/1"), (90 * 24 * HOUR, "trust.expired/1")],
)
def test_out_of_its_time_it_says_no(
    local: World, after: int, expected: str, code: Callable[..., str]
) -> None:
    local.scan()
    data = export(local)
    bundle = opened(local, data)
    assert opened(local, data, local.now + HOUR - 1)
    assert code(opened, local, data, local.now + after) == expected
    # Held open since, it answers nothing either.
    later = local.now + after
    for ask in (
        lambda: bundle.revoked(local.subject.digest, later),
        lambda: bundle.about(local.subject, later),
        lambda: bundle.verdict(local.subject, "local", later),
        lambda: bundle.permit(local.subject, "local", later),
    ):
        assert code(ask) == expected


def test_a_life_is_limited_for_the_one_who_signs_and_for_the_one_who_reads(
    local: World, code: Callable[..., str]
) -> None:
    assert export(local, expires=local.now + MAX_LIFETIME_MS)
    longest = local.now + MAX_LIFETIME_MS
    assert code(export, local, expires=longest + 1) == "trust.lifetime/2"
    assert code(export, local, expires=local.now) == "trust.lifetime/2"
    longer = edited(local, export(local), lambda it: it.update(expires=rfc3339(longest + 1)))
    assert code(opened, local, longer) == "trust.too_long/1"


def test_a_receiver_may_ask_for_a_younger_one(local: World, code: Callable[..., str]) -> None:
    data = export(local)
    assert opened(local, data, local.now + 1000, max_age_ms=1000)
    assert code(opened, local, data, local.now + 1001, max_age_ms=1000) == "trust.stale/1"


def test_a_clock_that_was_set_back_revives_nothing(local: World, code: Callable[..., str]) -> None:
    data = export(local)
    seen = opened(local, data, local.now + HOUR - 1).seen()
    assert seen.latest == local.now + HOUR - 1
    late = dataclasses.replace(seen, latest=local.now + HOUR)
    assert code(opened, local, data, seen=late) == "trust.expired/1"
    assert code(opened, local, data, seen=seen, max_age_ms=1000) == "trust.stale/1"
    bundle = opened(local, data, seen=seen)
    assert bundle.opened == seen.latest
    # Nor does it make evidence younger that has run out since.
    assert bundle.about(local.subject, local.now).now == seen.latest


def test_an_older_one_than_the_last_seen_is_refused(local: World, code: Callable[..., str]) -> None:
    local.scan()
    old = export(local)
    seen = opened(local, old).seen()
    assert seen == Seen(ORIGIN, local.keys["gate"].key_id, 2, seen.root, local.now, local.now)
    assert opened(local, old, seen=seen)
    local.revoke()
    new = opened(local, export(local), seen=seen).seen()
    assert new.size == 3
    # The rollback: an honest bundle, before the revocation.
    assert code(opened, local, old, seen=new) == "trust.rolled_back/1"
    # Of the same ledger, and signed earlier.
    later = dataclasses.replace(seen, issued=local.now + 1)
    assert code(opened, local, old, local.now + 2, seen=later) == "trust.rolled_back/1"


def test_another_history_or_another_origin_is_refused(
    local: World, code: Callable[..., str]
) -> None:
    local.scan()
    seen = opened(local, export(local)).seen()
    local.entries.clear()
    local.approve()
    assert code(opened, local, export(local), seen=seen) == "trust.forked/1"
    elsewhere = dataclasses.replace(seen, origin="keepstone/other")
    assert code(opened, local, export(local), seen=elsewhere) == "trust.wrong_origin/1"
    rekeyed = dataclasses.replace(seen, key_id="0" * 64)
    assert code(opened, local, export(local), seen=rekeyed) == "trust.wrong_origin/1"


# Form


def test_a_newer_version_is_refused_by_name(local: World, code: Callable[..., str]) -> None:
    newer = edited(local, export(local), lambda it: it.update(schema="keepstone.trust/v2"))
    with pytest.raises(InputError, match=r"keepstone\.trust/v2.*keepstone\.trust/v1") as caught:
        opened(local, newer)
    assert caught.value.code == "trust.newer_version"
    assert code(claimed_origin, newer) == "trust.newer_version/2"
    odd = edited(local, export(local), lambda it: it.update(schema="keepstone.other/v1"))
    assert code(opened, local, odd) == "trust.malformed/2"


def twice(payload: dict[str, Any]) -> None:
    payload["statements"] *= 2


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "unknown field": lambda it: it.update(more=1),
    "no origin": lambda it: it.pop("origin"),
    "bad origin": lambda it: it.update(origin="a b"),
    "bad time": lambda it: it.update(issued="yesterday"),
    "unknown key": lambda it: it["keys"].update(more="x"),
    "no key": lambda it: it["keys"].pop("ledger"),
    "no PEM": lambda it: it["keys"].update(observer="x"),
    "bad policy": lambda it: it.update(policy="%"),
    "huge policy": lambda it: it.update(policy=b64encode(bytes(3 << 20)).decode()),
    "no note": lambda it: it.update(checkpoint="x"),
    "statements twice": twice,
    "no list": lambda it: it.update(statements={}),
    "no statement": lambda it: it.update(statements=[7]),
    "unknown in statement": lambda it: it["statements"][0].update(more=1),
    "negative index": lambda it: it["statements"][0].update(index=-1),
    "bad body": lambda it: it["statements"][0].update(body="x"),
    "bad path": lambda it: it["statements"][0].update(path=[7]),
    "short hash": lambda it: it["statements"][0].update(path=["AAAA"]),
    "long path": lambda it: it["statements"][0].update(path=[""] * 65),
}


@pytest.mark.parametrize("name", EDITS)
def test_the_form_is_strict_even_under_the_right_signature(local: World, name: str) -> None:
    local.scan()
    with pytest.raises(KeepstoneError):
        opened(local, edited(local, export(local), EDITS[name]))


def test_sizes_are_limited(
    local: World, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local.scan()
    data = export(local)
    monkeypatch.setattr(module, "MAX_BUNDLE", len(data) - 1)
    assert code(opened, local, data) == "trust.too_large/2"
    assert code(export, local) == "trust.too_large/2"
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_STATEMENTS", 0)
    assert code(export, local) == "trust.too_large/2"
    assert code(opened, local, data) == "trust.malformed/2"


def test_an_entry_that_cannot_be_read_denies_everything(
    local: World, code: Callable[..., str]
) -> None:
    local.scan()
    local.entries.append((2, b"not an entry"))
    bundle = opened(local, export(local))
    assert code(bundle.revoked, local.subject.digest, local.now) == "evidence.unreadable/3"
    assert code(bundle.permit, local.subject, "local", local.now) == "evidence.unreadable/3"


def test_the_claimed_origin_is_only_a_claim(local: World) -> None:
    assert claimed_origin(export(local)) == ORIGIN


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_KEYS = ["schema", "origin", "issued", "expires", "keys", "policy", "checkpoint", "statements"]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(_KEYS), inner=st.booleans(), value=_JSON)
def test_any_value_in_any_place_is_refused_with_a_code(
    local: World, name: str, inner: bool, value: Any
) -> None:
    world = local
    if not world.entries:
        world.scan()
    data = export(world)

    def edit(payload: dict[str, Any]) -> None:
        holder = payload
        if inner and name in ("keys", "statements"):
            holder = payload["keys"] if name == "keys" else payload["statements"][0]
            holder[sorted(holder)[len(str(value)) % len(holder)]] = value
            return
        holder[name] = value

    changed = edited(world, data, edit)
    if changed == data or (name, value) == ("statements", []):
        return
    with pytest.raises(KeepstoneError):
        opened(world, changed)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_code(data: bytes) -> None:
    with pytest.raises(InputError):
        verify_bundle(data, now=0, key_id="0" * 64)
    with pytest.raises(InputError):
        claimed_origin(data)


def test_errors_are_of_the_family_that_decides(local: World) -> None:
    with pytest.raises(VerificationError):
        opened(local, export(local), local.now + HOUR)
    local.scan(Outcome.FLAGGED)
    with pytest.raises(DeniedError):
        opened(local, export(local)).permit(local.subject, "local", local.now)
    assert b64decode(json.loads(export(local))["payload"])
