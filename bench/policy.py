"""One decision and one authentication, each beside the plain way to do the same.

The peer of a decision is cedarpy given the policies as text, which is how its documentation
begins. The peer of an authentication is PyJWT's own `decode` of an equal token. Rounds of the two
sides alternate, so that a busy moment hits both.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import cedarpy
import jwt
from jwt.types import Options

from keepstone.identity.apikeys import ApiKeyRing
from keepstone.identity.principal import Grant, Principal, PrincipalKind
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.identity.tokens import HOUR_MS, TokenVerifier, issue_token
from keepstone.policy.compile import SCHEMA_TEXT
from keepstone.policy.engine import Authorizer, Engine
from keepstone.policy.parse import parse_policy, profile_text

ROUNDS = 9
GRANTS = (Grant("caller", ("digits",)),)
ISSUER, AUDIENCE = "keepstone:bench", "keepstone:bench:endpoint"


def _each(call: Callable[[], object], count: int) -> float:
    """Microseconds for each of `count` calls, in one loop: for what is too short to time alone."""
    loop = range(count)
    started = time.perf_counter_ns()
    for _ in loop:
        call()
    return (time.perf_counter_ns() - started) / count / 1000


def _beside(
    ours: Callable[[], object], theirs: Callable[[], object], count: int, their_count: int
) -> tuple[float, float]:
    pairs = [(_each(ours, count), _each(theirs, their_count)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return mine, other


def _p99(call: Callable[[], object], count: int) -> float:
    """The 99th percentile of single calls, in microseconds: the median over rounds."""
    found = []
    for _ in range(ROUNDS):
        took = []
        for _ in range(count):
            started = time.perf_counter_ns()
            call()
            took.append(time.perf_counter_ns() - started)
        found.append(statistics.quantiles(took, n=100)[98] / 1000)
    return statistics.median(found)


def _row(
    name: str, ours: float, peer: str, peer_value: float, target: str, most: float
) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "peer_value": peer_value,
        "unit": "us",
        "ratio": ours / peer_value,
        "target": target,
        "met": ours <= most,
    }


def _decisions() -> list[dict[str, Any]]:
    engine = Engine(parse_policy(profile_text("production")))
    authorizer = Authorizer(engine)
    principal = Principal(
        "user:bench", PrincipalKind.API_KEY, frozenset(GRANTS), "api_key", "abcdefghijkl"
    )
    request = {
        "principal": {"type": "Principal", "id": "user:bench"},
        "action": {"type": "Action", "id": "model.predict"},
        "resource": {"type": "Model", "id": "digits"},
        "context": {
            "method": "api_key",
            "roles": ["caller"],
        },
    }

    def uncached() -> bool:
        return engine.decide(principal, "model.predict", "digits").allowed

    def cached() -> bool:
        return authorizer.decide(principal, "model.predict", "digits").allowed

    def text() -> bool:
        return cedarpy.is_authorized(request, engine.compiled.text, [], SCHEMA_TEXT).allowed

    if not (uncached() and cached() and text()):
        raise RuntimeError("the two sides disagree on the decision")
    plain, theirs = _beside(uncached, text, 400, 60)
    quick, theirs_again = _beside(cached, text, 50_000, 60)
    peer = "cedarpy text"
    return [
        _row("policy.decision", plain, peer, theirs, "<= 200 us", 200),
        _row("policy.decision.p99", _p99(uncached, 1000), peer, _p99(text, 100), "<= 200 us", 200),
        _row("policy.decision.cached", quick, peer, theirs_again, "<= 1 us", 1),
    ]


def _authentications() -> list[dict[str, Any]]:
    now = time.time_ns() // 1_000_000
    ring = ApiKeyRing([], bytes(32))
    secret, _ = ring.mint("user:bench", GRANTS, now=now, lifetime_ms=HOUR_MS)
    key = SigningKey.generate(Algorithm.ED25519)
    token = issue_token(
        key,
        issuer=ISSUER,
        audience=AUDIENCE,
        subject="user:bench",
        grants=GRANTS,
        lifetime_ms=HOUR_MS,
        now=now,
    )
    verifier = TokenVerifier([key.verifying], ISSUER, AUDIENCE)
    required: Options = {"require": ["exp", "iss", "aud", "sub", "iat", "jti"]}

    def by_key() -> object:
        return ring.authenticate(secret, now)

    def by_token() -> object:
        return verifier.verify(token, now)

    def by_new_token() -> object:
        return TokenVerifier([key.verifying], ISSUER, AUDIENCE).verify(token, now)

    def pyjwt() -> object:
        return jwt.decode(
            token,
            key.verifying.public,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options=required,
        )

    peer = "pyjwt"
    own, theirs = _beside(by_key, pyjwt, 20_000, 200)
    cached, theirs_cached = _beside(by_token, pyjwt, 50_000, 200)
    fresh, theirs_fresh = _beside(by_new_token, pyjwt, 200, 200)
    return [
        _row("auth.apikey", own, peer, theirs, "<= .1 x", 0.1 * theirs),
        _row("auth.apikey.p99", _p99(by_key, 5000), peer, _p99(pyjwt, 300), "<= 500 us", 500),
        _row("auth.jwt", fresh, peer, theirs_fresh, "<= 500 us", 500),
        _row("auth.jwt.cached", cached, peer, theirs_cached, "<= 1 us", 1),
    ]


def rows() -> list[dict[str, Any]]:
    """Medians of alternating rounds, and the 99th percentile of single calls."""
    gc.collect()
    gc.disable()
    try:
        return [*_decisions(), *_authentications()]
    finally:
        gc.enable()
