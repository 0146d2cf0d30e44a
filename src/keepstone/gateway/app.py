"""The endpoint as an ASGI application: routes, the guards in order, predict, audit, answer.

Promise: nothing is predicted unless every guard let the request pass, no answer to a prediction
leaves before its entry has its place in the ledger (in strict mode: is durable there), and
whatever goes wrong is a refusal. Only liveness answers without a credential.

The path is matched byte for byte as it was sent: `%2e`, `//` and `..` match nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic, perf_counter_ns
from typing import Any

from keepstone.core.ports import Clock
from keepstone.errors import OperationalError
from keepstone.gateway import guards
from keepstone.gateway.audit import AuditTrail
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.exchange import Exchange
from keepstone.gateway.headers import TOO_LARGE, read_headers
from keepstone.gateway.limits import PrincipalBuckets, Rate, TokenBuckets
from keepstone.gateway.metrics import Gauges, Metrics
from keepstone.gateway.problem import PROBLEMS, Problem
from keepstone.gateway.reads import ALIVE, Answer, Reads
from keepstone.identity.principal import Principal

Scope = MutableMapping[str, Any]
# A body, and the length of its header where part of it is binary.
Computed = tuple[bytes, int | None]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# A prediction that takes longer than this is computed on a thread, so that it holds up nobody.
OFFLOAD_US = 2_000.0
MAX_OFFLOADED = 64

# Refusals of our own making: an entry each would feed the very backlog they report.
_TALLIED = frozenset({"audit.backlog", "audit.unavailable", "server.busy", "internal.error"})

_log = logging.getLogger("keepstone.gateway")
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Limits in force, and how this endpoint describes itself."""

    address: Rate
    principal: Rate
    max_body_bytes: int = 8 << 20
    url: str = "/"
    version: str = "0"
    threads: int = 2
    ledger_size: Callable[[], int] = field(default=lambda: 0)
    # A rate of its own for who has one.
    rate_of: Callable[[Principal], Rate | None] | None = None


class Gateway:
    """Serves `endpoints` to whom `authenticator` knows and `authorizer` lets, on the record.

    An ASGI application. `start` and `stop` belong to a running event loop; a server that speaks
    the lifespan protocol calls them through it.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        authenticator: guards.Authenticator,
        authorizer: guards.Authorizer,
        audit: AuditTrail,
        clock: Clock,
        options: GatewayOptions,
    ) -> None:
        self.audit = audit
        self.metrics = Metrics()
        self.options = options
        self._clock = clock
        addresses = TokenBuckets(options.address)
        principals = PrincipalBuckets(options.principal, options.rate_of)
        self.metrics.gauges.append(lambda: self._gauges(addresses, principals))
        self.metrics.expiries = lambda: {each.name: each.expires for each in endpoints}

        self._before_body: tuple[guards.Guard, ...] = (
            guards.limit_address(addresses),
            guards.authenticate(authenticator),
            guards.authorise(authorizer),
            guards.require_admission,
            guards.limit_principal(principals),
            guards.accept_headers,
        )
        self._after_body: tuple[guards.Guard, ...] = (guards.validate,)
        # Reads never predict: they need no admission, and have no body.
        self._before_read: tuple[guards.Guard, ...] = self._before_body[:2]
        self._before_reply: tuple[guards.Guard, ...] = (self._before_body[2], self._before_body[4])

        self._predicts: dict[bytes, tuple[Endpoint, bool]] = {}
        for endpoint in endpoints:
            base = f"/v2/models/{endpoint.name}".encode("ascii")
            self._predicts[base + b"/infer"] = (endpoint, False)
            self._predicts[base + b"/versions/1/infer"] = (endpoint, False)
        if len(endpoints) == 1:
            self._predicts[b"/predict"] = (endpoints[0], True)
        # A server may run these without a task of their own: they rarely wait.
        self.hot = frozenset(self._predicts)
        self._reads = Reads(endpoints, authorizer, self.metrics, options.url, options.version)
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="keepstone-predict")
        self._offloaded = 0

    def _gauges(self, addresses: TokenBuckets, principals: PrincipalBuckets) -> Mapping[str, float]:
        return {
            "keepstone_audit_outstanding": self.audit.outstanding,
            "keepstone_audit_lost_refusals": self.audit.lost_refusals,
            "keepstone_limited_addresses": len(addresses),
            "keepstone_limited_principals": len(principals),
            "keepstone_ledger_size": self.options.ledger_size(),
        }

    @property
    def gauges(self) -> list[Gauges]:
        """What else is read where metrics are shown."""
        return self.metrics.gauges

    async def start(self) -> None:
        """Begin to audit. Raises what subscribing to the log raises."""
        self.audit.start()

    async def stop(self) -> None:
        """Wait until all that was appended is durable. Raises `audit.unavailable` if not."""
        try:
            await self.audit.stop()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"this application does not speak {scope['type']}")
        client = scope["client"]
        exchange = Exchange(
            client[0] if client else "", self._clock.now_ms(), monotonic(), perf_counter_ns()
        )
        read_headers(exchange, scope["headers"], self.options.max_body_bytes)
        try:
            route = self._predicts.get(scope["raw_path"])
            if route is None or scope["method"] != "POST":
                status, headers, body = await self._read(exchange, scope)
            else:
                endpoint, exchange.plain = route
                exchange.endpoint, exchange.action = endpoint, "model.predict"
                status, headers, body = await self._predict(exchange, endpoint, receive)
        except Exception:  # the process edge: whatever it was, it is a refusal  # noqa: BLE001
            _log.exception("a request failed")
            status, headers, body = await self._refuse(exchange, PROBLEMS["internal.error"])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # Predicting

    async def _predict(self, exchange: Exchange, endpoint: Endpoint, receive: Receive) -> Answer:
        for guard in self._before_body:
            problem = guard(exchange)
            if problem is not None:
                return await self._refuse(exchange, problem)
        problem = await self._read_body(exchange, receive)
        if problem is not None:
            return await self._refuse(exchange, problem)
        for guard in self._after_body:
            problem = guard(exchange)
            if problem is not None:
                return await self._refuse(exchange, problem)
        audit = self.audit
        if not audit.strict and not audit.has_room() and not await audit.wait_for_room():
            return await self._refuse(exchange, PROBLEMS["audit.backlog"])
        if endpoint.typical_us < OFFLOAD_US:
            computed = self._compute(exchange, endpoint)
        else:
            computed = await self._compute_elsewhere(exchange, endpoint)
        if isinstance(computed, Problem):
            return await self._refuse(exchange, computed)
        body, header_length = computed
        try:
            pending = audit.append(exchange, "served", 200, body)
            if audit.strict:
                durable = audit.durable(pending)
                if durable is not None:
                    await durable
            else:
                await audit.leave()
        except OperationalError:
            return await self._refuse(exchange, PROBLEMS["audit.unavailable"])
        self.metrics.served(endpoint.name, (perf_counter_ns() - exchange.started) // 1000)
        headers = [
            _JSON if header_length is None else _BINARY,
            (b"content-length", b"%d" % len(body)),
            (b"keepstone-entry", pending.entry_id.encode("ascii")),
        ]
        if header_length is not None:
            headers.append((b"inference-header-content-length", b"%d" % header_length))
        return 200, headers, body

    async def _read_body(self, exchange: Exchange, receive: Receive) -> Problem | None:
        limit = self.options.max_body_bytes
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            chunks, size = [body], len(body)
            while size <= limit and message.get("more_body", False):
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
            body = b"".join(chunks)
        if message["type"] == "http.disconnect":
            return PROBLEMS["request.incomplete"]
        if len(body) > limit:
            return TOO_LARGE
        exchange.body = body
        return None

    def _compute(self, exchange: Exchange, endpoint: Endpoint) -> Computed | Problem:
        request = exchange.request
        if request is None:
            return PROBLEMS["internal.error"]
        try:
            began = perf_counter_ns()
            outputs = endpoint.runtime.predict(request.inputs)
            # Capped: one hiccup of the machine does not make a model slow.
            took = min((perf_counter_ns() - began) / 1e3, 2 * OFFLOAD_US)
            endpoint.typical_us += (took - endpoint.typical_us) / 16
            if exchange.plain:
                return endpoint.codec.encode_predict(outputs), None
            return endpoint.codec.encode_infer(request, outputs)
        except OperationalError as error:
            return PROBLEMS.get(error.code, PROBLEMS["model.failed"])
        except Exception:  # a runtime's own errors are of any type  # noqa: BLE001
            _log.exception("model %s failed", endpoint.name)
            return PROBLEMS["model.failed"]

    async def _compute_elsewhere(
        self, exchange: Exchange, endpoint: Endpoint
    ) -> Computed | Problem:
        """Compute on a thread, so that a slow model holds up nobody's request but its own."""
        if self._offloaded >= MAX_OFFLOADED:
            return PROBLEMS["server.busy"]
        self._offloaded += 1
        try:
            loop = asyncio.get_running_loop()
            computed = await loop.run_in_executor(self._pool, self._compute, exchange, endpoint)
        finally:
            self._offloaded -= 1
        # The model may have been withdrawn meanwhile; what was computed is then void.
        exchange.admission = endpoint.admitted(self._clock.now_ms())
        return computed if exchange.admission is not None else PROBLEMS[endpoint.refusal]

    # Refusing

    async def _refuse(self, exchange: Exchange, problem: Problem) -> Answer:
        """Answer with `problem`, on the record as the audit trail's promises say."""
        endpoint, principal = exchange.endpoint, exchange.principal
        self.metrics.refused("" if endpoint is None else endpoint.name, problem.code)
        own_entry = exchange.cleared and endpoint is not None
        if principal is None or not own_entry or problem.code in _TALLIED:
            self.audit.refuse(problem.code, None if principal is None else principal.id)
            return problem.status, problem.headers, problem.body
        try:
            pending = self.audit.append(exchange, f"denied:{problem.code}", problem.status, b"")
            if self.audit.strict:
                durable = self.audit.durable(pending)
                if durable is not None:
                    await durable
        except OperationalError:
            problem = PROBLEMS["audit.unavailable"]
            return problem.status, problem.headers, problem.body
        headers = [*problem.headers, (b"keepstone-entry", pending.entry_id.encode("ascii"))]
        return problem.status, headers, problem.body

    # Everything that is not a prediction

    async def _read(self, exchange: Exchange, scope: Scope) -> Answer:
        path, method = scope["raw_path"], scope["method"]
        if path == b"/v2/health/live" and method == "GET":
            problem = self._before_read[0](exchange)
            return ALIVE if problem is None else await self._refuse(exchange, problem)
        for guard in self._before_read:
            problem = guard(exchange)
            if problem is not None:
                return await self._refuse(exchange, problem)
        read = self._reads.routes.get(path)
        if read is None or method != "GET":
            return await self._refuse(exchange, self._no_route(path, read is not None))
        exchange.action, exchange.endpoint = read.action, read.endpoint
        for guard in self._before_reply:
            problem = guard(exchange)
            if problem is not None:
                return await self._refuse(exchange, problem)
        answer = read.reply(exchange)
        return await self._refuse(exchange, answer) if isinstance(answer, Problem) else answer

    def _no_route(self, path: bytes, is_read: bool) -> Problem:
        if is_read:
            return PROBLEMS["route.method"].with_headers((b"allow", b"GET"))
        if path in self._predicts:
            return PROBLEMS["route.method"].with_headers((b"allow", b"POST"))
        return PROBLEMS["route.unknown"]

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})
