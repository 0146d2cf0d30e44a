from __future__ import annotations

import contextlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.canonical import canonical
from keepstone.errors import DeniedError, InputError, KeepstoneError, OperationalError
from keepstone.identity import apikeys
from keepstone.identity.apikeys import ApiKeyRecord, ApiKeyRing, StoredSecret, is_well_formed
from keepstone.identity.principal import Grant, PrincipalKind

PEPPER = bytes(range(32))
NOW = 1_790_000_000_000
DAY = 86_400_000
GRANTS = (Grant("predictor", ("digits",)),)


def ring() -> ApiKeyRing:
    return ApiKeyRing([], PEPPER)


def denied(keys: ApiKeyRing, presented: str | bytes, now: int = NOW) -> str:
    with pytest.raises(DeniedError) as caught:
        keys.authenticate(presented, now)
    return caught.value.code


def other_secret(text: str) -> str:
    """A well-formed key with the same id and another secret."""
    body = text[:20] + ("A" if text[20] != "A" else "B") + text[21:-6]
    return body + apikeys._checksum(body)


def test_a_minted_key_authenticates_as_text_and_as_bytes() -> None:
    keys = ring()
    text, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    for presented in (text, text.encode()):
        principal = keys.authenticate(presented, NOW)
        assert principal.id == "user:alice"
        assert principal.kind is PrincipalKind.API_KEY
        assert principal.grants == frozenset(GRANTS)
        assert principal.key_id == record.key_id == text[3:15]
    assert len(text) == 65
    assert is_well_formed(text)


def test_nothing_kept_gives_the_secret_away() -> None:
    keys = ring()
    text, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    stored = keys.to_json()
    assert text[16:59].encode() not in stored
    assert PEPPER.hex().encode() not in stored
    assert record.secrets[0].mac.hex().encode() in stored


def test_a_stolen_record_file_is_useless_without_the_pepper() -> None:
    keys = ring()
    text, _ = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    elsewhere = ApiKeyRing.parse(keys.to_json(), bytes(32))
    assert denied(elsewhere, text) == "auth.unknown_key"


def test_an_unknown_id_and_a_wrong_secret_read_the_same() -> None:
    keys = ring()
    text, _ = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    stranger, _ = ring().mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    with pytest.raises(DeniedError) as unknown:
        keys.authenticate(stranger, NOW)
    with pytest.raises(DeniedError) as wrong:
        keys.authenticate(other_secret(text), NOW)
    assert unknown.value.code == wrong.value.code == "auth.unknown_key"
    assert str(unknown.value) == str(wrong.value)
    assert unknown.value.next_step == wrong.value.next_step


def test_an_unknown_id_does_the_work_of_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ring()
    text, _ = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    stranger, _ = ring().mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    calls: list[str] = []
    real = keys._mac

    def digest(message: bytes) -> bytes:
        calls.append("digest")
        return real(message)

    class Counted:
        @staticmethod
        def compare_digest(left: bytes, right: bytes) -> bool:
            calls.append(f"compare {len(left)} {len(right)}")
            return hmac.compare_digest(left, right)

    monkeypatch.setattr(keys, "_mac", digest)
    monkeypatch.setattr(apikeys, "hmac", Counted)
    assert denied(keys, stranger) == "auth.unknown_key"
    unknown = list(calls)
    calls.clear()
    assert denied(keys, other_secret(text)) == "auth.unknown_key"
    assert unknown == calls == ["digest", "compare 32 32", "compare 32 32"]


def test_a_revoked_or_expired_key_says_so_only_to_who_knows_the_secret() -> None:
    keys = ring()
    text, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    assert denied(keys, text, NOW + DAY) == "auth.expired"
    assert denied(keys, other_secret(text), NOW + DAY) == "auth.unknown_key"
    keys.revoke(record.key_id, now=NOW + 5)
    assert denied(keys, text) == "auth.revoked"
    assert denied(keys, other_secret(text)) == "auth.unknown_key"


def test_a_key_lives_to_the_last_millisecond() -> None:
    keys = ring()
    text, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    assert keys.authenticate(text, NOW + DAY - 1).id == "user:alice"
    assert record.state(NOW + DAY - 1) == "live"
    assert record.state(NOW + DAY) == "expired"


def test_two_secrets_overlap_in_rotation_and_never_three() -> None:
    keys = ring()
    first, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    second, _ = keys.rotate(record.key_id, now=NOW, overlap_ms=1000)
    assert keys.authenticate(first, NOW + 999) == keys.authenticate(second, NOW + 999)
    assert denied(keys, first, NOW + 1000) == "auth.unknown_key"
    third, rotated = keys.rotate(record.key_id, now=NOW, overlap_ms=1000)
    assert denied(keys, first) == "auth.unknown_key"
    assert keys.authenticate(second, NOW) == keys.authenticate(third, NOW)
    assert len(rotated.secrets) == 2
    assert rotated.expires == record.expires
    last, bare = keys.rotate(record.key_id, now=NOW, overlap_ms=0)
    assert denied(keys, third) == "auth.unknown_key"
    assert len(bare.secrets) == 1
    assert keys.authenticate(last, NOW).key_id == record.key_id


def test_a_dead_key_is_not_brought_back_by_rotation() -> None:
    keys = ring()
    _, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    with pytest.raises(DeniedError, match="expired"):
        keys.rotate(record.key_id, now=NOW + DAY, overlap_ms=0)
    keys.revoke(record.key_id, now=NOW)
    with pytest.raises(DeniedError, match="revoked"):
        keys.rotate(record.key_id, now=NOW, overlap_ms=0)


def test_revoking_twice_keeps_the_first_time() -> None:
    keys = ring()
    _, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    assert keys.revoke(record.key_id, now=NOW + 1).revoked_at == NOW + 1
    assert keys.revoke(record.key_id, now=NOW + 9).revoked_at == NOW + 1
    for change in (
        lambda: keys.revoke("zzzzzzzzzzzz", now=NOW),
        lambda: keys.rotate("zzzzzzzzzzzz", now=NOW, overlap_ms=0),
    ):
        with pytest.raises(InputError) as caught:
            change()
        assert caught.value.code == "apikeys.unknown"


def test_a_shorter_life_in_the_policy_reaches_keys_already_minted() -> None:
    keys = ring()
    text, _ = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=30 * DAY)
    stricter = ApiKeyRing.parse(keys.to_json(), PEPPER, max_lifetime_ms=DAY)
    assert stricter.authenticate(text, NOW + DAY - 1).id == "user:alice"
    assert denied(stricter, text, NOW + DAY) == "auth.expired"
    for lifetime in (0, DAY + 1):
        with pytest.raises(InputError) as caught:
            stricter.mint("user:bob", GRANTS, now=NOW, lifetime_ms=lifetime)
        assert caught.value.code == "apikeys.lifetime"


def test_the_file_holds_everything() -> None:
    keys = ring()
    text, record = keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    newer, _ = keys.rotate(record.key_id, now=NOW, overlap_ms=500)
    gone, dead = keys.mint("service:b", (Grant("metrics"),), now=NOW + 1, lifetime_ms=DAY)
    keys.revoke(dead.key_id, now=NOW + 2)
    again = ApiKeyRing.parse(keys.to_json(), PEPPER)
    assert again.records == keys.records
    assert [kept.principal for kept in again.records] == ["user:alice", "service:b"]
    assert again.authenticate(text, NOW) == again.authenticate(newer, NOW)
    assert denied(again, gone) == "auth.revoked"
    assert again.to_json() == keys.to_json()


class Fixed:
    """Randomness that always gives the same bytes."""

    def token_bytes(self, count: int) -> bytes:
        return b"\x07" * count


def test_repeating_randomness_is_noticed_before_an_id_is_used_twice() -> None:
    keys = ApiKeyRing([], PEPPER, randomness=Fixed())
    keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    with pytest.raises(OperationalError) as caught:
        keys.mint("user:bob", GRANTS, now=NOW, lifetime_ms=DAY)
    assert caught.value.code == "apikeys.no_randomness"


@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_a_short_pepper_is_refused(size: int) -> None:
    with pytest.raises(InputError) as caught:
        ApiKeyRing([], bytes(size))
    assert caught.value.code == "apikeys.bad_pepper"


@pytest.mark.parametrize(
    ("presented", "code"),
    [
        ("", "auth.missing"),
        (b"", "auth.missing"),
        ("ks_", "auth.malformed"),
        ("x" * 65, "auth.malformed"),
        ("é" * 65, "auth.malformed"),
        ("\ud800" * 65, "auth.malformed"),
        (b"\xff" * 65, "auth.malformed"),
        ("ks_" + "a" * 1_000_000, "auth.malformed"),
    ],
)
def test_what_is_no_key_is_told_apart(presented: str | bytes, code: str) -> None:
    assert denied(ring(), presented) == code


@settings(max_examples=60)
@given(st.integers(0, 64), st.characters(min_codepoint=33, max_codepoint=126))
def test_every_single_typing_error_is_malformed(place: int, character: str) -> None:
    text, _ = MINTED
    if text[place] == character:
        return
    mistyped = text[:place] + character + text[place + 1 :]
    assert not is_well_formed(mistyped)
    assert denied(SHARED, mistyped) == "auth.malformed"


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80)))
def test_no_input_does_anything_but_deny(presented: str | bytes) -> None:
    assert denied(SHARED, presented).startswith("auth.")


SHARED = ring()
MINTED = SHARED.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)


def document(**changes: Any) -> dict[str, Any]:
    keys = ring()
    keys.mint("user:alice", GRANTS, now=NOW, lifetime_ms=DAY)
    value: dict[str, Any] = json.loads(keys.to_json())
    value["keys"][0].update(changes)
    return value


MAC = "00" * 32


@pytest.mark.parametrize(
    "changes",
    [
        {"more": 1},
        {"key_id": "short"},
        {"key_id": 5},
        {"principal": "alice"},
        {"grants": None},
        {"created": -1},
        {"created": True},
        {"created": NOW + DAY},
        {"expires": "later"},
        {"expires": 1 << 53},
        {"revoked_at": "never"},
        {"secrets": None},
        {"secrets": []},
        {"secrets": [{"mac": MAC}]},
        {"secrets": [{"mac": "00", "ends": None}]},
        {"secrets": [{"mac": MAC.upper().replace("0", "G"), "ends": None}]},
        {"secrets": [{"mac": MAC, "ends": 5}]},
        {"secrets": [{"mac": MAC, "ends": None}, {"mac": MAC, "ends": None}]},
        {"secrets": [{"mac": MAC, "ends": None}] + [{"mac": MAC, "ends": 1}] * 2},
    ],
)
def test_a_broken_record_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ApiKeyRing.parse(json.dumps(document(**changes)).encode(), PEPPER)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "json.malformed"),
        (b"[]", "apikeys.malformed"),
        (b'{"schema":"keepstone.api-keys/v1","keys":{}}', "apikeys.malformed"),
        (b'{"schema":"keepstone.api-keys/v1","keys":[[]]}', "apikeys.malformed"),
        (b'{"schema":"keepstone.api-keys/v2","keys":[]}', "apikeys.newer_version"),
        (b'{"schema":"x","schema":"keepstone.api-keys/v1","keys":[]}', "json.duplicate_key"),
    ],
)
def test_a_broken_file_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(InputError) as caught:
        ApiKeyRing.parse(data, PEPPER)
    assert caught.value.code == code


def test_a_key_listed_twice_is_refused() -> None:
    record = ApiKeyRecord("a" * 12, "user:a", frozenset(), 1, 2, (StoredSecret(bytes(32)),))
    with pytest.raises(InputError, match="twice"):
        ApiKeyRing([record, record], PEPPER)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["schema", "keys", "a"]), inner)
        ),
        max_leaves=8,
    )
)
def test_no_file_raises_anything_unnamed(value: Any) -> None:
    with contextlib.suppress(KeepstoneError):
        ApiKeyRing.parse(canonical(value), PEPPER)
