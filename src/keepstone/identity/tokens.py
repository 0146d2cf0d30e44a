"""Short-lived access tokens: EdDSA JWTs (RFC 9068 profile), read as strictly as they are written.

PyJWT does the base64 and the signature. The claims are checked here, because PyJWT reads the
wall clock, takes a token without `exp`, and lets JSON name a claim twice; a decision here sees
one `now`, given by the caller.
"""

from __future__ import annotations

import re
import secrets
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt

from keepstone.core.canonical import parse_json
from keepstone.errors import DeniedError, InputError
from keepstone.identity.principal import (
    Grant,
    Principal,
    PrincipalKind,
    check_principal_id,
    grants_to_list,
    parse_grants,
)
from keepstone.identity.signing import Algorithm, SigningKey, VerifyingKey

TYPE = "at+jwt"
MAX_TOKEN_BYTES = 8192
HOUR_MS = 3_600_000
_SHAPE = re.compile(r"([A-Za-z0-9_-]{1,512})\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}\Z", re.ASCII)
_REQUIRED = {"iss", "aud", "sub", "iat", "exp", "jti"}
_OPTIONAL = {"nbf", "grants"}
_JWS = jwt.PyJWS(algorithms=["EdDSA"])


def _ed25519(key: VerifyingKey) -> VerifyingKey:
    if key.algorithm is not Algorithm.ED25519:
        raise InputError("key.unsupported", "Tokens are signed with Ed25519 keys only.")
    return key


def issue_token(
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    subject: str,
    grants: Iterable[Grant],
    lifetime_ms: int,
    now: int,
) -> str:
    """Return a token for `subject` that lives `lifetime_ms`, at most an hour.

    Whole seconds, as JWT counts: it never lives longer than asked. Raises InputError
    `token.lifetime`, `token.too_large`, `principal.invalid`, `key.unsupported`.
    """
    _ed25519(key.verifying)
    issued = now // 1000
    expires = issued + lifetime_ms // 1000
    if lifetime_ms > HOUR_MS or expires <= issued:
        raise InputError("token.lifetime", "A token lives between one second and one hour.")
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": check_principal_id(subject),
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "jti": secrets.token_urlsafe(12),
        "grants": grants_to_list(grants),
    }
    headers = {"typ": TYPE, "kid": key.key_id}
    token = jwt.encode(claims, key.private, algorithm="EdDSA", headers=headers)
    if len(token) > MAX_TOKEN_BYTES:
        raise InputError("token.too_large", "The grants do not fit into one token.")
    return token


@dataclass(frozen=True, slots=True)
class _Verified:
    """A verified token's principal and the time, in milliseconds, in which it holds."""

    principal: Principal
    begins: int
    ends: int


class TokenVerifier:
    """Verifies tokens of one issuer for one audience, by a fixed set of Ed25519 keys.

    Verified tokens are remembered until they expire, at most `cache_size` of them; only a token
    that a known key signed gets in, so strangers cannot fill the cache. A verifier with other
    keys is another verifier: nothing remembered outlives its keys.
    """

    def __init__(
        self,
        keys: Iterable[VerifyingKey],
        issuer: str,
        audience: str,
        max_lifetime_ms: int = HOUR_MS,
        *,
        cache_size: int = 4096,
    ) -> None:
        if not issuer or not audience:
            raise InputError("token.no_issuer", "A verifier needs an issuer and an audience.")
        self._keys = {key.key_id: _ed25519(key) for key in keys}
        self._issuer = issuer
        self._audience = audience
        self._max_lifetime_ms = max_lifetime_ms
        self._cache_size = max(1, cache_size)
        self._change = threading.Lock()
        self._cache: dict[str, _Verified] = {}

    def verify(self, token: str | bytes, now: int) -> Principal:
        """Return the principal that the token names.

        (1) At most 8 KiB of ASCII, three base64url parts, 64 bytes of signature (RFC 7515 3.1).
        (2) Header: exactly alg, typ and kid (RFC 8725 3.1, 3.11): EdDSA, at+jwt, a known key.
        (3) The signature is that key's (RFC 7515 5.2).
        (4) Claims: every required one once, of its type, nothing unknown (RFC 9068 2.2).
        (5) Issuer and audience are ours (RFC 8725 3.8, 3.9).
        (6) Time: issued and begun by `now`, not expired, no longer life than allowed.

        Raises DeniedError: `auth.missing`, `auth.malformed`, `auth.unknown_key`,
        `auth.bad_signature`, `auth.wrong_issuer`, `auth.wrong_audience`, `auth.lifetime`,
        `auth.not_yet_valid`, `auth.expired`.
        """
        text = token.decode("latin-1") if isinstance(token, bytes) else token
        known = self._cache.get(text)
        if known is not None:
            _check_time(known, now)
            return known.principal
        verified = self._verify_anew(text)
        _check_time(verified, now)
        self._remember(text, verified, now)
        return verified.principal

    def _verify_anew(self, text: str) -> _Verified:
        # (1) Size before any parsing.
        if not text:
            raise DeniedError("auth.missing", "No token was given.")
        if len(text) > MAX_TOKEN_BYTES:
            raise _malformed("the token is too large")
        shape = _SHAPE.match(text)
        if shape is None:
            raise _malformed("it is not three base64url parts")
        key = self._key_of(shape.group(1))
        # (3) PyJWT is told the algorithm and the key; neither comes from the token.
        try:
            decoded = _JWS.decode_complete(text, key=key.public, algorithms=["EdDSA"])
        except jwt.InvalidSignatureError as error:
            raise DeniedError("auth.bad_signature", "The token's signature is wrong.") from error
        except jwt.PyJWTError as error:
            raise _malformed("its encoding is not canonical") from error
        return self._read_claims(decoded["payload"], key)

    def _key_of(self, encoded_header: str) -> VerifyingKey:
        # (2) A header with anything else in it (crit, b64, jwk, jku, x5c) is refused whole.
        try:
            padded = encoded_header + "=" * (-len(encoded_header) % 4)
            header = parse_json(urlsafe_b64decode(padded), limit=512)
        except (ValueError, InputError) as error:
            raise _malformed("its header is not JSON") from error
        if not isinstance(header, dict) or header.keys() != {"alg", "typ", "kid"}:
            raise _malformed("its header does not hold exactly alg, typ and kid")
        if header["alg"] != "EdDSA" or header["typ"] != TYPE:
            raise _malformed("it is not an EdDSA access token")
        kid = header["kid"]
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise DeniedError("auth.unknown_key", "No key of ours signed the token.")
        return key

    def _read_claims(self, payload: bytes, key: VerifyingKey) -> _Verified:
        # (4)
        try:
            claims = parse_json(payload, limit=MAX_TOKEN_BYTES)
        except InputError as error:
            raise _malformed("its claims are not JSON") from error
        if not isinstance(claims, dict) or not _REQUIRED <= claims.keys() <= _REQUIRED | _OPTIONAL:
            raise _malformed("a claim is missing or unknown")
        for name in ("iss", "aud", "sub", "jti"):
            if not isinstance(claims[name], str) or not claims[name]:
                raise _malformed(f"its {name} is not text")
        issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
        begins = max(issued, _seconds(claims, "nbf")) if "nbf" in claims else issued
        try:
            grants = parse_grants(claims.get("grants", []))
            subject = check_principal_id(claims["sub"])
        except InputError as error:
            raise _malformed("its subject or grants are not valid") from error
        # (5)
        if claims["iss"] != self._issuer:
            raise DeniedError("auth.wrong_issuer", "The token was issued by someone else.")
        if claims["aud"] != self._audience:
            raise DeniedError("auth.wrong_audience", "The token is meant for someone else.")
        # (6) The life of a token is a property of the token; the rest depends on `now`.
        if expires <= issued or expires - issued > self._max_lifetime_ms:
            raise DeniedError("auth.lifetime", "The token claims a longer life than is allowed.")
        attributes = {"jti": claims["jti"][:64]}
        principal = Principal(subject, PrincipalKind.TOKEN, grants, "token", key.key_id, attributes)
        return _Verified(principal, begins, expires)

    def _remember(self, text: str, verified: _Verified, now: int) -> None:
        with self._change:
            if len(self._cache) >= self._cache_size:
                self._cache = {k: kept for k, kept in self._cache.items() if now < kept.ends}
            while len(self._cache) >= self._cache_size:
                del self._cache[next(iter(self._cache))]
            self._cache[text] = verified


def _check_time(verified: _Verified, now: int) -> None:
    if now < verified.begins:
        raise DeniedError("auth.not_yet_valid", "The token is not valid yet.")
    if now >= verified.ends:
        raise DeniedError(
            "auth.expired", "The token has expired.", "Get a new one: keepstone token."
        )


def _seconds(claims: dict[str, Any], name: str) -> int:
    value = claims[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
        raise _malformed(f"its {name} is not a whole number of seconds")
    return value * 1000


def _malformed(why: str) -> DeniedError:
    return DeniedError("auth.malformed", f"The token cannot be used: {why}.")
