from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import DeniedError, InputError
from keepstone.identity import tokens
from keepstone.identity.principal import Grant, PrincipalKind
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.identity.tokens import HOUR_MS, TokenVerifier, issue_token

NOW = 1_790_000_000_500
SECOND = NOW // 1000
KEY = SigningKey.generate(Algorithm.ED25519)
OTHER = SigningKey.generate(Algorithm.ED25519)
ISSUER, AUDIENCE = "keepstone:test", "keepstone:test:endpoint"
GRANTS = (Grant("predictor", ("digits",)),)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "user:alice",
    "iat": SECOND,
    "nbf": SECOND,
    "exp": SECOND + 600,
    "jti": "one",
    "grants": [{"role": "predictor", "models": ["digits"]}],
}


def verifier(**given: Any) -> TokenVerifier:
    return TokenVerifier([KEY.verifying], ISSUER, AUDIENCE, **given)


def token(**given: Any) -> str:
    defaults: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "subject": "user:alice",
        "grants": GRANTS,
        "lifetime_ms": HOUR_MS,
        "now": NOW,
    }
    return issue_token(KEY, **{**defaults, **given})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: bytes | dict[str, Any] | None = None, payload: Any = None) -> str:
    """A token whose signature is good, whatever it says."""
    if header is None:
        header = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.key_id}
    if isinstance(header, dict):
        header = json.dumps(header).encode()
    if payload is None:
        payload = CLAIMS
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(KEY.sign(message.encode()))}"


def denied(text: str | bytes, now: int = NOW, by: TokenVerifier | None = None) -> str:
    with pytest.raises(DeniedError) as caught:
        (by or verifier()).verify(text, now)
    return caught.value.code


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name not in names}


def test_an_issued_token_names_its_principal() -> None:
    for presented in (token(), token().encode()):
        principal = verifier().verify(presented, NOW)
        assert principal.id == "user:alice"
        assert principal.kind is PrincipalKind.TOKEN
        assert principal.grants == frozenset(GRANTS)
        assert principal.key_id == KEY.key_id
        assert principal.attributes["jti"]


def test_the_forge_of_these_tests_makes_good_tokens() -> None:
    assert verifier().verify(forge(), NOW).id == "user:alice"
    assert verifier().verify(forge(payload=without("nbf", "grants")), NOW).grants == frozenset()


def test_a_token_never_lives_longer_than_asked() -> None:
    text = token(lifetime_ms=10_900)
    keys = verifier()
    assert keys.verify(text, (SECOND + 10) * 1000 - 1).id == "user:alice"
    assert denied(text, (SECOND + 10) * 1000, keys) == "auth.expired"
    assert denied(text, (SECOND + 10) * 1000) == "auth.expired"


@pytest.mark.parametrize("lifetime", [-1, 0, 999, HOUR_MS + 1])
def test_a_life_out_of_bounds_is_not_issued(lifetime: int) -> None:
    with pytest.raises(InputError) as caught:
        token(lifetime_ms=lifetime)
    assert caught.value.code == "token.lifetime"


def test_a_token_needs_a_principal_an_ed25519_key_and_little_room() -> None:
    with pytest.raises(InputError, match="principal"):
        token(subject="alice")
    with pytest.raises(InputError, match="Ed25519"):
        issue_token(
            SigningKey.generate(Algorithm.P256),
            issuer=ISSUER,
            audience=AUDIENCE,
            subject="user:a",
            grants=(),
            lifetime_ms=HOUR_MS,
            now=NOW,
        )
    with pytest.raises(InputError, match="Ed25519"):
        TokenVerifier([SigningKey.generate(Algorithm.P256).verifying], ISSUER, AUDIENCE)
    with pytest.raises(InputError) as caught:
        token(grants=[Grant("predictor", tuple(f"model-{i:050d}" for i in range(200)))])
    assert caught.value.code == "token.too_large"


@pytest.mark.parametrize(("issuer", "audience"), [("", AUDIENCE), (ISSUER, "")])
def test_a_verifier_needs_an_issuer_and_an_audience(issuer: str, audience: str) -> None:
    with pytest.raises(InputError):
        TokenVerifier([KEY.verifying], issuer, audience)


# Attacks on the header.


def test_alg_none_is_refused() -> None:
    bare = jwt.encode(CLAIMS, None, algorithm="none", headers={"typ": "at+jwt"})
    assert denied(bare) == "auth.malformed"
    padded = bare + "A" * 86
    assert denied(padded) == "auth.malformed"
    for alg in ("none", "None", "NONE", "", None, ["EdDSA"]):
        header = {"alg": alg, "typ": "at+jwt", "kid": KEY.key_id}
        assert denied(forge(header)) == "auth.malformed"


def test_hs256_with_the_public_key_as_secret_is_refused() -> None:
    import hashlib
    import hmac as mac

    for secret in (KEY.verifying.pem, KEY.verifying.spki, KEY.verifying.spki[-32:]):
        for alg in ("HS256", "HS512", "EdDSA"):
            header = json.dumps({"alg": alg, "typ": "at+jwt", "kid": KEY.key_id}).encode()
            message = f"{b64(header)}.{b64(json.dumps(CLAIMS).encode())}"
            # 64 bytes, so that only the algorithm and the signature can tell it apart.
            signature = mac.digest(secret, message.encode(), hashlib.sha512)
            code = denied(f"{message}.{b64(signature)}")
            assert code == ("auth.bad_signature" if alg == "EdDSA" else "auth.malformed")


@pytest.mark.parametrize("typ", ["JWT", "jwt", "AT+JWT", "application/at+jwt", "", None, 5])
def test_another_kind_of_token_is_not_an_access_token(typ: Any) -> None:
    assert denied(forge({"alg": "EdDSA", "typ": typ, "kid": KEY.key_id})) == "auth.malformed"


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"b64": True},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/cert"},
        {"x5c": ["AA"]},
        {"cty": "JWT"},
        {"zip": "DEF"},
    ],
)
def test_a_header_with_anything_more_is_refused(extra: dict[str, Any]) -> None:
    header = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.key_id, **extra}
    assert denied(forge(header)) == "auth.malformed"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"alg":"EdDSA","typ":"at+jwt"}',
        b'{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"' + KEY.key_id.encode() + b'"}',
        b'{"alg":"EdDSA","typ":"at+jwt","kid":"' + b"k" * 500 + b'"}',
        b"[" * 300,
    ],
)
def test_an_unreadable_header_is_refused(header: bytes) -> None:
    assert denied(forge(header)) == "auth.malformed"


@pytest.mark.parametrize("kid", ["", "0", KEY.key_id.upper(), KEY.key_id + " ", OTHER.key_id])
def test_an_unknown_kid_is_refused(kid: str) -> None:
    assert denied(forge({"alg": "EdDSA", "typ": "at+jwt", "kid": kid})) == "auth.unknown_key"


@pytest.mark.parametrize("kid", [None, 5, ["a"], {"a": 1}, "../../dev/null"])
def test_a_kid_is_looked_up_and_never_interpreted(kid: Any) -> None:
    assert denied(forge({"alg": "EdDSA", "typ": "at+jwt", "kid": kid})) == "auth.unknown_key"


def test_one_key_cannot_sign_in_the_name_of_another() -> None:
    both = TokenVerifier([KEY.verifying, OTHER.verifying], ISSUER, AUDIENCE)
    forged = forge({"alg": "EdDSA", "typ": "at+jwt", "kid": OTHER.key_id})
    assert denied(forged, by=both) == "auth.bad_signature"


# Attacks on the signature and the encoding.


def test_every_flipped_bit_is_refused() -> None:
    text = token()
    keys = verifier()
    for place in range(len(text)):
        for flip in (1, 2, 32):
            broken = text[:place] + chr(ord(text[place]) ^ flip) + text[place + 1 :]
            assert denied(broken, by=keys).startswith("auth.")


def test_the_same_signature_in_another_spelling_is_refused() -> None:
    text = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes leave four unused bits in the last character.
    last = alphabet.index(text[-1])
    spelled = text[:-1] + alphabet[last ^ 1]
    assert base64.urlsafe_b64decode(spelled.split(".")[2] + "==") == base64.urlsafe_b64decode(
        text.split(".")[2] + "=="
    )
    assert denied(spelled) == "auth.malformed"
    for also in (text + "=", text + "==", text + "\n", " " + text, text + ".", text + ".AA"):
        assert denied(also) == "auth.malformed"


@pytest.mark.parametrize(
    "text", ["a", "a.b", "a.b.c", "..", "Bearer x", "é.é.é", "\ud800", b"\xff.\xff.\xff"]
)
def test_what_is_no_token_is_malformed(text: str | bytes) -> None:
    assert denied(text) == "auth.malformed"
    assert denied("") == denied(b"") == "auth.missing"


def test_size_is_limited_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(tokens, "parse_json", never)
    monkeypatch.setattr(tokens, "_JWS", None)
    assert denied(forge(payload={"x": "y" * 10_000})) == "auth.malformed"


def test_a_low_order_or_foreign_signature_is_refused() -> None:
    message = forge().rsplit(".", 1)[0]
    for signature in (bytes(64), b"\x01" + bytes(63), OTHER.sign(message.encode())):
        assert denied(f"{message}.{b64(signature)}") == "auth.bad_signature"


def test_a_signature_plus_the_group_order_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    message = forge().rsplit(".", 1)[0]
    good = KEY.sign(message.encode())
    scalar = int.from_bytes(good[32:], "little") + order
    assert denied(f"{message}.{b64(good[:32] + scalar.to_bytes(32, 'little'))}") == (
        "auth.bad_signature"
    )


# Attacks on the claims, each under a good signature.


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "exp", "jti"])
def test_every_required_claim_is_required(name: str) -> None:
    assert denied(forge(payload=without(name))) == "auth.malformed"
    assert denied(forge(payload={**CLAIMS, name: None})) == "auth.malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE, "other"]},
        {"aud": ""},
        {"aud": {"x": AUDIENCE}},
        {"iss": [ISSUER]},
        {"sub": ["user:alice"]},
        {"sub": "alice"},
        {"sub": "user:a\nb"},
        {"jti": 5},
        {"jti": ""},
        {"exp": str(SECOND + 60)},
        {"exp": float(SECOND + 60)},
        {"exp": True},
        {"exp": [SECOND + 60]},
        {"exp": 1 << 40},
        {"exp": 10**400},
        {"iat": -1},
        {"iat": False},
        {"nbf": "0"},
        {"nbf": None},
        {"grants": {}},
        {"grants": [{"role": "operator", "models": "*"}]},
        {"grants": [{"role": "Root", "models": ["*"]}]},
        {"grants": None},
        {"scope": "admin"},
        {"role": "operator"},
    ],
)
def test_a_claim_of_another_type_or_name_is_refused(changes: dict[str, Any]) -> None:
    assert denied(forge(payload={**CLAIMS, **changes})) == "auth.malformed"


def test_a_claim_named_twice_is_refused() -> None:
    body = json.dumps(CLAIMS)
    for doubled in ('"sub":"user:root"', '"exp":99999999999', '"grants":[]'):
        assert denied(forge(payload=f"{body[:-1]},{doubled}}}".encode())) == "auth.malformed"


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"{", b'{"a":NaN}', b"\xff", b"[" * 3000])
def test_claims_that_are_no_object_are_refused(payload: bytes) -> None:
    assert denied(forge(payload=payload)) == "auth.malformed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "keepstone:other"}, "auth.wrong_issuer"),
        ({"aud": "keepstone:test:endpoint2"}, "auth.wrong_audience"),
        ({"exp": SECOND}, "auth.lifetime"),
        ({"exp": SECOND - 5}, "auth.lifetime"),
        ({"exp": SECOND + 3601}, "auth.lifetime"),
        ({"iat": SECOND - 100, "exp": SECOND}, "auth.expired"),
        ({"iat": SECOND + 1}, "auth.not_yet_valid"),
        ({"nbf": SECOND + 1}, "auth.not_yet_valid"),
        ({"iat": SECOND - 4000}, "auth.lifetime"),
    ],
)
def test_each_claim_is_held_to_its_rule(changes: dict[str, Any], code: str) -> None:
    assert denied(forge(payload={**CLAIMS, **changes})) == code


def test_the_longest_life_allowed_is_allowed_exactly() -> None:
    text = forge(payload={**CLAIMS, "exp": SECOND + 3600})
    assert verifier().verify(text, NOW).id == "user:alice"
    assert denied(text, by=verifier(max_lifetime_ms=HOUR_MS - 1)) == "auth.lifetime"


def test_the_wall_clock_is_never_asked() -> None:
    long_ago = 1_000_000_000_000
    text = token(now=long_ago)
    assert verifier().verify(text, long_ago).id == "user:alice"


# The cache.


def test_a_remembered_token_still_expires_and_still_begins() -> None:
    keys = verifier()
    text = token()
    assert keys.verify(text, NOW) is keys.verify(text, NOW + 1)
    assert denied(text, NOW + HOUR_MS, keys) == "auth.expired"
    assert denied(text, NOW - 5000, keys) == "auth.not_yet_valid"


def test_the_cache_is_bounded_and_drops_the_expired_first() -> None:
    keys = verifier(cache_size=3)
    brief = [token(lifetime_ms=1000) for _ in range(2)]
    lasting = token()
    for text in (*brief, lasting):
        keys.verify(text, NOW)
    later = NOW + 2000
    keys.verify(token(now=later), later)
    assert set(keys._cache) >= {lasting}
    assert not set(keys._cache) & set(brief)
    for _ in range(10):
        keys.verify(token(now=later), later)
    assert len(keys._cache) == 3


def test_strangers_cannot_get_into_the_cache() -> None:
    keys = verifier()
    for text in (token() + "x", forge(payload={**CLAIMS, "aud": "x"}), forge(b"{}")):
        denied(text, by=keys)
    denied(forge(payload={**CLAIMS, "nbf": SECOND + 1}), by=keys)
    assert not keys._cache


SHARED = verifier()


@given(st.one_of(st.text(max_size=120), st.binary(max_size=120)))
def test_no_input_does_anything_but_deny(presented: str | bytes) -> None:
    assert denied(presented, by=SHARED).startswith("auth.")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(CLAIMS)), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from([*sorted(CLAIMS), "role"]), JSON))
def test_signed_nonsense_is_denied_or_keeps_every_rule(changes: dict[str, Any]) -> None:
    claims = {**CLAIMS, **changes}
    with contextlib.suppress(DeniedError):
        principal = SHARED.verify(forge(payload=claims), NOW)
        assert principal.id == claims["sub"]
        assert claims["aud"] == AUDIENCE
        assert claims["iss"] == ISSUER
        assert claims["iat"] * 1000 <= NOW < claims["exp"] * 1000 <= claims["iat"] * 1000 + HOUR_MS


def test_keys_of_the_tests_are_what_they_seem() -> None:
    assert isinstance(KEY.private, ed25519.Ed25519PrivateKey)
