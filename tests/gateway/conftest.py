"""One small gateway: a model that doubles its input, fake ledger and clock, real keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import uvloop

from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec
from keepstone.core.digest import Digest
from keepstone.errors import KeepstoneError, OperationalError
from keepstone.gateway.app import Gateway, GatewayOptions
from keepstone.gateway.audit import AuditOptions, AuditTrail
from keepstone.gateway.commitment import Period
from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.guards import Credentials
from keepstone.gateway.limits import Rate
from keepstone.gateway.server import Server, listen
from keepstone.identity.apikeys import DAY_MS, ApiKeyRing
from keepstone.identity.principal import Grant
from keepstone.policy.engine import Authorizer, Engine
from keepstone.policy.parse import parse_policy, profile_text

NOW = 1_795_000_000_000
ADMISSION = Digest.of(b"admission")
PERIOD_KEY = bytes(range(32))
CONTRACT = ModelContract(
    (TensorSpec("x", DType.FP32, (ANY, 2), -100.0, 100.0, ("a", "b")),),
    (TensorSpec("y", DType.FP32, (ANY, 2)),),
)
PLENTY = Rate(1e6, 1_000_000)


@dataclass
class FakeClock:
    now: int = NOW

    def now_ms(self) -> int:
        return self.now


class FakeRandomness:
    def token_bytes(self, count: int) -> bytes:
        return bytes(count)


@dataclass
class FakePeriods:
    length: int = DAY_MS
    asked: list[int] = field(default_factory=list)

    def current(self, now: int) -> Period:
        self.asked.append(now)
        return Period(f"p{now // self.length}", PERIOD_KEY, (now // self.length + 1) * self.length)


@dataclass
class FakePending:
    index: int

    @property
    def entry_id(self) -> str:
        return f"ks-{self.index}-{self.index:016x}"


class FakeLog:
    """A ledger in memory. `auto` commits at once on flush; else `commit` and `fail` are called."""

    def __init__(self, *, auto: bool = True) -> None:
        self.auto = auto
        self.bodies: list[bytes] = []
        self.durable = 0
        self.stopped = False
        self.subscribers: list[Callable[[int, KeepstoneError | None], None]] = []

    def append(self, body: bytes, hold: bool = False) -> FakePending:
        if self.stopped:
            raise OperationalError("ledger.stopped", "It stopped.")
        self.bodies.append(body)
        return FakePending(len(self.bodies) - 1)

    def flush(self) -> None:
        if self.auto:
            self.commit()

    def commit(self, size: int | None = None) -> None:
        self.durable = len(self.bodies) if size is None else size
        for each in self.subscribers:
            each(self.durable, None)

    def fail(self) -> None:
        self.stopped = True
        del self.bodies[self.durable :]
        for each in self.subscribers:
            each(self.durable, OperationalError("ledger.not_durable", "It failed."))

    def subscribe(
        self, callback: Callable[[int, KeepstoneError | None], None]
    ) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def entries(self, kind: str = "prediction") -> list[dict[str, Any]]:
        return [e for e in map(json.loads, self.bodies) if e["kind"] == kind]


@dataclass
class Doubler:
    """y = 2 x; or whatever `answer` is set to, after `wait` seconds, or an error."""

    answer: Any = None
    wait: float = 0.0
    error: Exception | None = None
    calls: int = 0

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.wait:
            time.sleep(self.wait)
        if self.error is not None:
            raise self.error
        return {"y": inputs["x"] * 2} if self.answer is None else {"y": self.answer}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["type"] == f"urn:keepstone:problem:{problem['code']}"
        return str(problem["code"])


@dataclass
class World:
    """The gateway and all that a test may want to turn."""

    gateway: Gateway
    endpoint: Endpoint
    runtime: Doubler
    log: Any
    clock: FakeClock
    ring: ApiKeyRing
    key: str
    authorizer: Authorizer
    periods: FakePeriods

    def mint(self, role: str, model: str = "double", principal: str = "user:other") -> str:
        return self.ring.mint(
            principal, [Grant(role, (model,))], now=self.clock.now, lifetime_ms=DAY_MS
        )[0]

    async def ask(
        self,
        path: str = "/v2/models/double/infer",
        body: bytes | None = None,
        *,
        method: str = "POST",
        key: str | None = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        address: str = "192.0.2.1",
        chunks: list[bytes] | None = None,
    ) -> Reply:
        body = GOOD if body is None else body
        parts = [body] if chunks is None else chunks
        sent = list(headers)
        if key is not None:
            sent.append((b"authorization", b"Bearer " + (key or self.key).encode()))
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode("latin-1"),
            "path": path,
            "headers": sent,
            "client": (address, 1234),
        }
        answer: list[Any] = []
        queue = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
            for i, part in enumerate(parts)
        ]

        async def receive() -> Any:
            return queue.pop(0) if queue else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            answer.append(message)

        await self.gateway(scope, receive, send)
        start, end = answer
        found = {k.decode(): v.decode() for k, v in start["headers"]}
        return Reply(start["status"], found, end["body"])


def infer_body(rows: Any = ((1.0, 2.0),), **members: Any) -> bytes:
    data = np.asarray(rows, np.float64)
    tensor = {"name": "x", "datatype": "FP32", "shape": data.shape, "data": data.ravel().tolist()}
    return json.dumps({"inputs": [tensor], **members}).encode()


GOOD = infer_body()


def build(
    *,
    log: Any = None,
    audit: AuditOptions | None = None,
    address: Rate = PLENTY,
    principal: Rate = PLENTY,
    max_body: int = 1 << 20,
    names: tuple[str, ...] = ("double",),
    rate_of: Any = None,
) -> World:
    log = FakeLog() if log is None else log
    clock, runtime, periods = FakeClock(), Doubler(), FakePeriods()
    endpoints = [Endpoint(name, CONTRACT, runtime) for name in names]
    for each in endpoints:
        each.admit(ADMISSION, NOW + DAY_MS)
    ring = ApiKeyRing([], bytes(32))
    key, _ = ring.mint(
        "user:alice", [Grant("caller", names)], now=NOW - 1000, lifetime_ms=2 * DAY_MS
    )
    authorizer = Authorizer(Engine(parse_policy(profile_text("local"))))
    trail = AuditTrail(log, periods, clock, FakeRandomness(), audit or AuditOptions())
    gateway = Gateway(
        endpoints,
        Credentials(ring),
        authorizer,
        trail,
        clock,
        GatewayOptions(address, principal, max_body, url="https://t", version="9", rate_of=rate_of),
    )
    return World(gateway, endpoints[0], runtime, log, clock, ring, key, authorizer, periods)


@pytest.fixture
def make() -> Callable[..., World]:
    return build


@pytest.fixture
def body() -> Callable[..., bytes]:
    return infer_body


@pytest.fixture
def fake_log() -> type[FakeLog]:
    return FakeLog


@pytest.fixture
def run() -> Callable[..., Any]:
    """`run(world, coroutine function)` on a loop with the gateway started, and stopped after."""

    def inside(world: World, test: Callable[[], Any], *, stop: bool = True) -> Any:
        async def main() -> Any:
            await world.gateway.start()
            try:
                return await asyncio.wait_for(test(), 20)
            finally:
                if stop:
                    await world.gateway.stop()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())

    return inside


@dataclass
class Running:
    """A server on loopback, in a thread of its own."""

    port: int
    server: Server
    thread: threading.Thread
    failure: list[BaseException]

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """`serve(world, limits=..., tls=...)` starts a real server; it is stopped after the test."""
    started: list[Running] = []

    def start(
        world: World,
        *,
        limits: ConnectionLimits | None = None,
        tls: Any = None,
        grace_s: int = 10,
    ) -> Running:
        ready = threading.Event()
        failure: list[BaseException] = []
        sockets = listen("127.0.0.1", 0)
        server = Server(
            world.gateway,
            sockets,
            tls=tls,
            limits=limits,
            on_ready=lambda _: ready.set(),
            grace_s=grace_s,
        )

        def target() -> None:
            try:
                server.run()
            except BaseException as error:  # handed to the test
                failure.append(error)

        port = sockets[0].getsockname()[1]
        thread = threading.Thread(target=target)
        thread.start()
        assert ready.wait(10)
        started.append(Running(port, server, thread, failure))
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(RuntimeError):
            each.stop()
