"""The registry as an ASGI application: who asks, how often, what for; then the registry decides.

    every request    1 limit_address    2 authenticate    3 limit_principal    4 accept_headers

What a principal may do to which version is decided behind, with the version's own attributes in
hand, and every attempt is an entry there. Only liveness answers without a credential.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic, perf_counter_ns
from typing import Any

import msgspec

from keepstone.core.ports import Clock
from keepstone.errors import KeepstoneError
from keepstone.gateway import guards
from keepstone.gateway.audit import AuditTrail
from keepstone.gateway.exchange import Exchange
from keepstone.gateway.headers import read_headers
from keepstone.gateway.http_exchange import Message, Receive, Send
from keepstone.gateway.limits import PrincipalBuckets, Rate, TokenBuckets
from keepstone.gateway.metrics import CONTENT_TYPE, Gauges, Metrics
from keepstone.gateway.problem import PROBLEMS, Headers, Problem
from keepstone.gateway.reads import ALIVE, Answer
from keepstone.gateway.registry.bridge import Bridge
from keepstone.gateway.registry.port import Registry, Sink
from keepstone.gateway.registry.refusal import refusal
from keepstone.gateway.registry.routes import MAX_JSON, PUSH, Route, arguments, find
from keepstone.identity.principal import Principal

# Transfers hold a thread each for as long as they take; everything else takes moments.
MAX_TRANSFERS = 8
# Nobody holds all of them.
MAX_OF_ONE = 4
_THREADS = 4
ARTIFACT = b"application/vnd.keepstone.artifact"
_NO_STORE = (b"cache-control", b"no-store")
_log = logging.getLogger("keepstone.gateway")


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Limits in force. `max_push_bytes` bounds one push with all that comes beside the model."""

    address: Rate
    principal: Rate
    max_push_bytes: int
    ledger_size: Callable[[], int] = field(default=lambda: 0)
    # A rate of its own for who has one.
    rate_of: Callable[[Principal], Rate | None] | None = None


class RegistryGateway:
    """Hands what `authenticator` knows the asker of to `registry`, and its answers back.

    An ASGI application. `start` and `stop` belong to a running event loop.
    """

    def __init__(
        self,
        registry: Registry,
        authenticator: guards.Authenticator,
        authorizer: guards.Authorizer,
        audit: AuditTrail,
        clock: Clock,
        options: RegistryOptions,
    ) -> None:
        self.audit = audit
        self.options = options
        self.hot: frozenset[bytes] = frozenset()
        self._metrics = Metrics()
        self._registry = registry
        self._authorizer = authorizer
        self._clock = clock
        addresses = TokenBuckets(options.address)
        principals = PrincipalBuckets(options.principal, options.rate_of)
        self.gauges.append(lambda: self._counts(addresses, principals))
        self._guards: tuple[guards.Guard, ...] = (
            guards.limit_address(addresses),
            guards.authenticate(authenticator),
            guards.limit_principal(principals),
            guards.accept_headers,
        )
        self._moments = ThreadPoolExecutor(_THREADS, thread_name_prefix="keepstone-registry")
        self._transfers = ThreadPoolExecutor(MAX_TRANSFERS, thread_name_prefix="keepstone-transfer")
        # Transfers under way, and whose they are.
        self._bridges: dict[Bridge, str] = {}

    @property
    def gauges(self) -> list[Gauges]:
        """What is read where metrics are shown."""
        return self._metrics.gauges

    def _counts(self, addresses: TokenBuckets, principals: PrincipalBuckets) -> Mapping[str, float]:
        return {
            "keepstone_registry_transfers": len(self._bridges),
            "keepstone_audit_lost_refusals": self.audit.lost_refusals,
            "keepstone_limited_addresses": len(addresses),
            "keepstone_limited_principals": len(principals),
            "keepstone_ledger_size": self.options.ledger_size(),
        }

    async def start(self) -> None:
        """Begin to audit. Raises what subscribing to the log raises."""
        self.audit.start()

    async def stop(self) -> None:
        """End every transfer, and wait until all that was refused is on the record."""
        for bridge in tuple(self._bridges):
            bridge.abort()
        try:
            await self.audit.stop()
        finally:
            for pool in (self._moments, self._transfers):
                pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive, send)
        except ConnectionError:
            # An answer had begun: only a connection that breaks off says that it is not whole.
            raise
        except Exception:  # the process edge: whatever it was, it is a refusal  # noqa: BLE001
            _log.exception("a request to the registry failed")
            answer = self._refuse(PROBLEMS["internal.error"], None)
        if answer is None:
            return
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> Answer | None:
        """The answer to send, or None where it went out in pieces already."""
        client = scope["client"]
        exchange = Exchange(
            client[0] if client else "", self._clock.now_ms(), monotonic(), perf_counter_ns()
        )
        method, path = scope["method"], scope["raw_path"]
        found = find(method, path)
        is_push = isinstance(found, tuple) and found[0].operation == PUSH
        limit = self.options.max_push_bytes if is_push else MAX_JSON
        read_headers(exchange, scope["headers"], limit)
        alive = path == b"/v1/health/live" and method == "GET"
        for guard in self._guards[:1] if alive else self._guards:
            problem = guard(exchange)
            if problem is not None:
                return self._refuse(problem, exchange.principal)
        if alive:
            return ALIVE
        who = exchange.principal
        assert who is not None
        if path == b"/metrics" and method == "GET":
            return self._scrape(who)
        if not isinstance(found, tuple):
            return self._refuse(_no_route(found), who)
        route, parts = found
        if route.is_transfer:
            return await self._transfer(who, route, parts, scope, Bridge(_loop(), receive, send))
        body = await _read(receive) if route.has_body else b""
        if isinstance(body, Problem):
            return self._refuse(body, who)
        return await self._perform(who, route, parts, scope["query_string"], body)

    # What takes moments

    async def _perform(
        self, who: Principal, route: Route, parts: Mapping[str, str], query: bytes, body: bytes
    ) -> Answer:
        def work() -> Mapping[str, Any]:
            given = arguments(route, parts, query, body)
            return self._registry.perform(who, route.operation, given)

        try:
            done = await _loop().run_in_executor(self._moments, work)
        except KeepstoneError as error:
            return self._refuse(refusal(error), who)
        return _json(done)

    # What takes as long as an artifact is large

    async def _transfer(
        self,
        who: Principal,
        route: Route,
        parts: Mapping[str, str],
        scope: Message,
        bridge: Bridge,
    ) -> Answer | None:
        theirs = sum(owner == who.id for owner in self._bridges.values())
        if len(self._bridges) >= MAX_TRANSFERS or theirs >= MAX_OF_ONE:
            return self._refuse(PROBLEMS["server.busy"], who)
        work = self._push if route.operation == PUSH else self._pull
        self._bridges[bridge] = who.id
        try:
            given = arguments(route, parts, scope["query_string"], b"")
            return await _loop().run_in_executor(self._transfers, work, who, given, bridge)
        except asyncio.CancelledError:
            # The server stops; the thread would wait for a client whom nobody serves any more.
            bridge.abort()
            raise
        except KeepstoneError as error:
            if bridge.begun:
                _log.warning("a transfer was cut off: %s", error)
                raise ConnectionAbortedError from error
            return self._refuse(refusal(error), who)
        finally:
            del self._bridges[bridge]

    def _push(self, who: Principal, given: Mapping[str, str], bridge: Bridge) -> Answer | None:
        return _json(self._registry.push(who, given["model"], bridge.readinto), 201)

    def _pull(self, who: Principal, given: Mapping[str, str], bridge: Bridge) -> Answer | None:
        def begin(length: int) -> Sink:
            bridge.begin(200, [(b"content-type", ARTIFACT), _NO_STORE], length)
            return bridge.write

        reason = given.get("reason", "")
        self._registry.pull(who, given["model"], given["version"], reason, begin)
        bridge.end()
        return None

    # Refusing, and the rest

    def _refuse(self, problem: Problem, who: Principal | None) -> Answer:
        """Answer with `problem`. What the registry itself refused is on its record already."""
        self._metrics.refused("", problem.code)
        if who is None or problem.code.startswith(("limit.", "server.", "route.", "request.")):
            self.audit.refuse(problem.code, None if who is None else who.id)
        return problem.status, problem.headers, problem.body

    def _scrape(self, who: Principal) -> Answer:
        if self._authorizer.decide(who, "metrics.read").allowed is not True:
            self.audit.refuse("policy.denied", who.id)
            return self._refuse(PROBLEMS["policy.denied"], who)
        return _reply(200, self._metrics.text(), CONTENT_TYPE)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _no_route(methods: frozenset[str]) -> Problem:
    if not methods:
        return PROBLEMS["route.unknown"]
    allowed = ", ".join(sorted(methods)).encode("ascii")
    return PROBLEMS["route.method"].with_headers((b"allow", allowed))


async def _read(receive: Receive) -> bytes | Problem:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return PROBLEMS["request.incomplete"]
        body += message.get("body", b"")
        if len(body) > MAX_JSON:
            return PROBLEMS["request.too_large"].with_headers((b"connection", b"close"))
        if not message.get("more_body", False):
            return bytes(body)


def _json(value: Mapping[str, Any], status: int = 200) -> Answer:
    return _reply(status, msgspec.json.encode(value), b"application/json")


def _reply(status: int, body: bytes, kind: bytes) -> Answer:
    headers: Headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode("ascii")),
        _NO_STORE,
    ]
    return status, headers, body
