"""Every check between a request and a model, in order. Each is a function of one exchange.

    before the body is read        1 limit_address     too many from this address?
                                   2 authenticate      who is it?
                                   3 authorise         may they do this to that model?
                                   4 require_admission is the model admitted now?
                                   5 limit_principal   too many by this principal?
                                   6 accept_headers    are size and encoding acceptable?
    after it                       7 validate          is it what the model's contract says?

A guard returns None to let the exchange pass or the problem to answer with. It fails closed: an
exception is answered as an internal error and nothing is served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from keepstone.contract.protocol import InferRequest
from keepstone.errors import DeniedError, InputError
from keepstone.gateway.exchange import Exchange
from keepstone.gateway.limits import PrincipalBuckets, TokenBuckets
from keepstone.gateway.problem import (
    PROBLEMS,
    Problem,
    authentication_problem,
    limit_problem,
    request_problem,
)
from keepstone.identity.principal import Principal

Guard = Callable[[Exchange], Problem | None]


class Authenticator(Protocol):
    """Tells whose credential was presented."""

    def authenticate(self, presented: bytes, now: int) -> Principal:
        """Return the principal, or raise DeniedError `auth.*`. Constant time in the secret."""
        ...


class TokenVerifier(Protocol):
    def verify(self, token: bytes, now: int) -> Principal: ...


class Decision(Protocol):
    @property
    def allowed(self) -> bool: ...


class Authorizer(Protocol):
    """Decides by policy; see `keepstone.policy.engine.Authorizer`."""

    def decide(self, principal: Principal, action: str, model: str | None = None) -> Decision: ...


@dataclass(slots=True)
class Credentials:
    """API keys and tokens behind one door. A missing verifier refuses that kind of credential."""

    keys: Authenticator
    tokens: TokenVerifier | None = None

    def authenticate(self, presented: bytes, now: int) -> Principal:
        if presented.startswith(b"ks_") or self.tokens is None:
            return self.keys.authenticate(presented, now)
        return self.tokens.verify(presented, now)


def limit_address(buckets: TokenBuckets) -> Guard:
    """1: a bucket per IPv4 address or per IPv6 /64, which is what one customer is given."""

    def guard(exchange: Exchange) -> Problem | None:
        address = exchange.address
        if ":" in address:
            address = _network(address)
        wait = buckets.take(address, exchange.ticks)
        return limit_problem("limit.address", wait) if wait else None

    return guard


def authenticate(authenticator: Authenticator) -> Guard:
    """2: the one credential of the request. Never says whether a key id exists."""

    def guard(exchange: Exchange) -> Problem | None:
        presented = exchange.credential
        if presented is None:
            return PROBLEMS["auth.missing"]
        if isinstance(presented, Problem):
            return presented
        try:
            exchange.principal = authenticator.authenticate(presented, exchange.now)
        except DeniedError as error:
            return authentication_problem(error.code)
        return None

    return guard


def authorise(authorizer: Authorizer) -> Guard:
    """3: the policy on (principal, action, model). An exchange without an action needs none."""

    def guard(exchange: Exchange) -> Problem | None:
        principal, action = exchange.principal, exchange.action
        if action is None:
            return None
        if principal is None:
            return PROBLEMS["policy.denied"]
        endpoint = exchange.endpoint
        model = None if endpoint is None else endpoint.name
        allowed = authorizer.decide(principal, action, model).allowed
        return None if allowed is True else PROBLEMS["policy.denied"]

    return guard


def require_admission(exchange: Exchange) -> Problem | None:
    """4: the model's admission at `now`; a withdrawn or expired one stops serving here."""
    endpoint = exchange.endpoint
    if endpoint is None:
        return PROBLEMS["model.not_admitted"]
    exchange.admission = endpoint.admitted(exchange.now)
    return None if exchange.admission is not None else PROBLEMS[endpoint.refusal]


def limit_principal(buckets: PrincipalBuckets) -> Guard:
    """5: a bucket per principal, whatever key or address it comes with."""

    def guard(exchange: Exchange) -> Problem | None:
        principal = exchange.principal
        if principal is None:
            return PROBLEMS["policy.denied"]
        wait = buckets.take(principal, exchange.ticks)
        if wait:
            return limit_problem("limit.principal", wait)
        exchange.cleared = True
        return None

    return guard


def accept_headers(exchange: Exchange) -> Problem | None:
    """6: what the headers say of the body, before a byte of it is read."""
    return exchange.flaw


def validate(exchange: Exchange) -> Problem | None:
    """7: the body against the model's contract: JSON or binary, names, types, shapes, ranges."""
    endpoint = exchange.endpoint
    if endpoint is None:
        return PROBLEMS["route.unknown"]
    try:
        if exchange.plain:
            exchange.request = InferRequest(endpoint.codec.decode_predict(exchange.body))
        else:
            exchange.request = endpoint.codec.decode_infer(exchange.body, exchange.header_length)
    except InputError as error:
        return request_problem(error)
    return None


def _network(address: str) -> str:
    packed = IPv6Address(address.partition("%")[0])
    mapped = packed.ipv4_mapped
    return str(mapped) if mapped is not None else packed.exploded[:19]
