"""The registry's door: who asks is known, paths are exact, transfers are whole or break off."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from keepstone.errors import DeniedError, InputError, OperationalError, VerificationError
from keepstone.gateway.audit import AuditTrail
from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.guards import Credentials
from keepstone.gateway.limits import Rate
from keepstone.gateway.registry import bridge
from keepstone.gateway.registry.app import (
    MAX_OF_ONE,
    MAX_TRANSFERS,
    RegistryGateway,
    RegistryOptions,
)
from keepstone.gateway.registry.routes import ROUTES, arguments, find
from keepstone.identity.apikeys import DAY_MS, ApiKeyRing
from keepstone.identity.principal import Grant, Principal
from keepstone.policy.engine import Authorizer, Engine
from keepstone.policy.parse import parse_policy, profile_text

pytestmark = pytest.mark.loopback
PLENTY = Rate(1e6, 1_000_000)
NOT_FOUND = InputError("registry.not_found", "There is nothing of that name that you may see.")


@dataclass
class FakeRegistry:
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    error: Exception | None = None
    content: bytes = b"model" * 100_000
    cut_at: int | None = None
    hold: threading.Event | None = None
    got: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def perform(
        self, who: Principal, operation: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        self.asked.append((who.id, operation, dict(arguments)))
        if self.error is not None:
            raise self.error
        return {"operation": operation}

    def push(self, who: Principal, model: str, read: Any) -> Mapping[str, Any]:
        self.asked.append((who.id, "push", {"model": model}))
        if self.error is not None:
            raise self.error
        state, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
        try:
            while count := read(buffer):
                state.update(buffer[:count])
        except OperationalError as error:
            self.ended.append(error.code)
            raise
        return {"sha256": state.hexdigest()}

    def pull(self, who: Principal, model: str, reference: str, reason: str, begin: Any) -> None:
        self.asked.append((who.id, "pull", {"model": model, "of": reference, "reason": reason}))
        if self.error is not None:
            raise self.error
        sink = begin(len(self.content))
        if self.hold is not None:
            self.hold.wait(20)
        end = len(self.content) if self.cut_at is None else self.cut_at
        try:
            for at in range(0, end, 65536):
                sink(memoryview(self.content)[at : min(at + 65536, end)])
        except OperationalError as error:
            self.ended.append(error.code)
            raise
        if self.cut_at is not None:
            raise VerificationError("seal.corrupt", "The sealed blob was changed.")


@dataclass
class Door:
    gateway: RegistryGateway
    registry: FakeRegistry
    key: str
    log: Any
    clock: Any
    ring: Any
    running: Any = None

    def mint(self, who: str) -> str:
        return str(
            self.ring.mint(who, [Grant("puller")], now=self.clock.now, lifetime_ms=DAY_MS)[0]
        )

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", raw: bool = False
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=20)
        headers = {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        sent = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.putrequest(method, path, skip_host=False, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if sent is not None:
            connection.putheader("Content-Length", str(len(sent)))
        connection.endheaders(sent)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data if raw else json.loads(data)


@pytest.fixture
def door(serve: Any, fake_log: Any, make: Callable[..., Any]) -> Callable[..., Door]:
    def open_door(*, address: Rate = PLENTY, principal: Rate = PLENTY, **limits: Any) -> Door:
        # The clock, periods and randomness of the endpoint's tests serve here as well.
        world = make()
        log = fake_log()
        ring = ApiKeyRing([], bytes(32))
        key, _ = ring.mint(
            "user:alice", [Grant("puller")], now=world.clock.now - 1000, lifetime_ms=DAY_MS
        )
        registry = FakeRegistry()
        gateway = RegistryGateway(
            registry,
            Credentials(ring),
            Authorizer(Engine(parse_policy(profile_text("local")))),
            AuditTrail(log, world.periods, world.clock, SimpleNamespace(token_bytes=bytes)),
            world.clock,
            RegistryOptions(address, principal, max_push_bytes=64 << 20),
        )
        found = Door(gateway, registry, key, log, world.clock, ring)
        found.running = serve(
            SimpleNamespace(gateway=gateway),
            limits=ConnectionLimits(body_in_pieces=True, **limits),
            grace_s=1,
        )
        return found

    return open_door


def test_requests_become_operations_of_whom_the_credential_names(door: Any) -> None:
    here = door()
    assert here.ask("GET", "/v1/models?limit=5") == (200, {"operation": "registry.list"})
    assert here.ask("GET", "/v1/models/fraud/versions/3")[0] == 200
    assert here.ask("PUT", "/v1/models/fraud/aliases/best", {"version": "3"})[0] == 200
    assert here.ask("POST", "/v1/models/fraud/stages/production", {"version": "3"})[0] == 200
    assert here.ask("DELETE", "/v1/models/fraud/aliases/best")[0] == 200
    assert here.registry.asked == [
        ("user:alice", "registry.list", {"limit": "5"}),
        ("user:alice", "registry.show", {"model": "fraud", "version": "3"}),
        ("user:alice", "registry.alias", {"model": "fraud", "alias": "best", "version": "3"}),
        (
            "user:alice",
            "registry.promote",
            {"model": "fraud", "stage": "production", "version": "3"},
        ),
        ("user:alice", "registry.remove_alias", {"model": "fraud", "alias": "best"}),
    ]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.operation}")
def test_nothing_answers_a_stranger(door: Any, route: Any) -> None:
    here = door()
    path = "/v1/models/fraud/versions/3/content"
    for one in ("/v1/models", path, "/v1/diff", "/v1/statements"):
        for key in (None, "ks_wrong", "a.b.c"):
            status, said = here.ask(route.method, one, key=key)
            assert (status, said["code"][:5]) == (401, "auth.")
    assert here.registry.asked == []


def test_only_liveness_needs_no_credential_and_metrics_need_their_grant(door: Any) -> None:
    here = door()
    assert here.ask("GET", "/v1/health/live", key=None) == (200, {"live": True})
    assert here.ask("GET", "/metrics")[1]["code"] == "policy.denied"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/fraud/versions/3/../../x/versions/3",
        "/v1/models/%66raud/versions/3",
        "/v1/models//versions/3",
        "/v1/models/fraud/versions/3/",
        "//v1/models",
        "/v1/models/Fraud/versions/3",
        "/v1/models/fr%C3%A4ud/versions/3",
        "/v1/models/" + "a" * 65,
        "/v1/models/fraud/versions/3%00",
        "/V1/models",
        "/v2/models/fraud/infer",
    ],
)
def test_a_path_of_another_form_means_nothing(door: Any, path: str) -> None:
    here = door()
    for method in ("GET", "POST"):
        assert here.ask(method, path)[1]["code"] == "route.unknown"
    assert here.registry.asked == []


def test_another_method_is_told_which_there_are(door: Any) -> None:
    here = door()
    assert here.ask("DELETE", "/v1/models")[1]["code"] == "route.method"
    assert find("POST", b"/v1/models/a/aliases/b") == frozenset({"PUT", "DELETE"})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models?limit=1&limit=2", None),
        ("GET", "/v1/models?everything=1", None),
        ("GET", "/v1/models?limit", None),
        ("GET", "/v1/models?after=" + "a" * 3000, None),
        ("PUT", "/v1/models/fraud/aliases/best", b"[]"),
        ("PUT", "/v1/models/fraud/aliases/best", b'{"version": "1", "version": "2"}'),
        ("PUT", "/v1/models/fraud/aliases/best", {"version": "1", "model": "other"}),
        ("PUT", "/v1/models/fraud/aliases/best?version=2", {"version": "1"}),
        ("PUT", "/v1/models/fraud/aliases/best", b"{"),
    ],
)
def test_what_cannot_be_read_is_refused(door: Any, method: str, path: str, body: Any) -> None:
    here = door()
    status, said = here.ask(method, path, body)
    assert (status, said["code"]) == (400, "request.malformed")
    assert here.registry.asked == []


def test_no_argument_overrides_the_path() -> None:
    route, parts = find("PUT", b"/v1/models/fraud/aliases/best")  # type: ignore[misc]
    assert arguments(route, parts, b"", b'{"version":"2"}') == {
        "model": "fraud",
        "alias": "best",
        "version": "2",
    }
    for route in ROUTES:
        # What the path names is never also taken from what comes with it.
        named = set(route.pattern.groupindex)
        assert not (route.takes - {"version"}) & named
        assert "version" not in route.takes or "version" not in named


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (NOT_FOUND, 404, True),
        (DeniedError("gate.denied", "It needs an approval."), 403, True),
        (DeniedError("policy.denied", "The policy does not allow this."), 403, True),
        (DeniedError("registry.quota", "The store is full."), 403, True),
        (VerificationError("seal.corrupt", "/secret/path changed"), 422, False),
        (OperationalError("disk.full", "/secret/path is full"), 503, False),
        (InputError("file.unreadable", "Cannot read /secret/path"), 400, False),
        (RuntimeError("/secret/path"), 500, False),
    ],
)
def test_errors_keep_their_code_and_tell_no_more_than_they_may(
    door: Any, error: Exception, status: int, told: bool
) -> None:
    here = door()
    here.registry.error = error
    for method, path in (
        ("GET", "/v1/models/fraud/versions/3"),
        ("GET", "/v1/models/fraud/versions/3/content"),
        ("POST", "/v1/models/fraud/versions"),
    ):
        answered, said = here.ask(method, path, b"" if method == "POST" else None)
        assert answered == status
        assert said["code"] == getattr(error, "code", "internal.error")
        assert ("detail" in said) is told
        assert "secret" not in json.dumps(said)


def test_a_large_push_goes_through_and_one_too_large_is_refused_at_once(door: Any) -> None:
    here = door()
    body = bytes(range(256)) * (32 << 10)
    status, said = here.ask("POST", "/v1/models/fraud/versions", body)
    assert (status, said) == (201, {"sha256": hashlib.sha256(body).hexdigest()})
    with socket.create_connection(("127.0.0.1", here.running.port), timeout=20) as client:
        client.sendall(
            b"POST /v1/models/fraud/versions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            + here.key.encode()
            + b"\r\ncontent-length: 999999999999\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
    assert here.ask("PUT", "/v1/models/a/aliases/b", bytes(70_000))[1]["code"] in (
        "request.too_large",
        "request.malformed",
    )


def test_a_push_that_stops_half_way_is_interrupted(door: Any) -> None:
    here = door()
    with socket.create_connection(("127.0.0.1", here.running.port), timeout=20) as client:
        client.sendall(
            b"POST /v1/models/fraud/versions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            + here.key.encode()
            + b"\r\ncontent-length: 1000000\r\n\r\n"
            + bytes(500_000)
        )
        time.sleep(0.3)
    _until(lambda: here.registry.ended)
    assert here.registry.ended == ["registry.interrupted"]


def test_a_pull_is_whole(door: Any) -> None:
    here = door()
    here.registry.content = bytes(range(256)) * (16 << 10)
    path = "/v1/models/fraud/versions/sha256:" + "a" * 64 + "/content?reason=to%20look"
    status, data = here.ask("GET", path, raw=True)
    assert (status, data) == (200, here.registry.content)
    assert here.registry.asked[0][2]["reason"] == "to look"


def test_a_pull_that_fails_on_its_way_never_passes_for_whole(door: Any) -> None:
    here = door()
    here.registry.content, here.registry.cut_at = bytes(8 << 20), 6 << 20
    connection = http.client.HTTPConnection("127.0.0.1", here.running.port, timeout=20)
    connection.request(
        "GET",
        "/v1/models/fraud/versions/1/content",
        headers={"Authorization": f"Bearer {here.key}"},
    )
    answer = connection.getresponse()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()


def test_a_client_that_leaves_lets_the_thread_go(door: Any) -> None:
    here = door()
    here.registry.content = bytes(64 << 20)
    with socket.create_connection(("127.0.0.1", here.running.port), timeout=20) as client:
        client.sendall(
            b"GET /v1/models/fraud/versions/1/content HTTP/1.1\r\nhost: x\r\n"
            b"authorization: Bearer " + here.key.encode() + b"\r\n\r\n"
        )
        assert client.recv(100)
    _until(lambda: here.registry.ended)
    assert here.registry.ended == ["registry.interrupted"]


def test_transfers_are_bounded_and_hold_up_nothing_else(door: Any) -> None:
    here = door()
    here.registry.hold = threading.Event()
    path = "/v1/models/fraud/versions/1/content"
    clients = []
    try:
        for number, key in enumerate((here.key, here.mint("user:bob")), 1):
            for _ in range(MAX_OF_ONE):
                clients.append(
                    socket.create_connection(("127.0.0.1", here.running.port), timeout=20)
                )
                head = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n"
                clients[-1].sendall(head.encode())
            _until(lambda many=number: len(here.registry.asked) == many * MAX_OF_ONE)
            # One's own share is used up, and others' is not.
            assert here.ask("GET", path, key=key)[1]["code"] == "server.busy"
        assert len(here.registry.asked) == MAX_TRANSFERS
        assert here.ask("GET", path, key=here.mint("user:eve"))[1]["code"] == "server.busy"
        assert here.ask("GET", "/v1/models")[0] == 200
    finally:
        here.registry.hold.set()
        for client in clients:
            client.close()


def test_a_push_that_crawls_is_cut_off(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PATIENCE_S", 0.5)
    here = door()
    with socket.create_connection(("127.0.0.1", here.running.port), timeout=20) as client:
        client.sendall(
            b"POST /v1/models/fraud/versions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            + here.key.encode()
            + b"\r\ncontent-length: 1000000\r\n\r\n"
        )
        for _ in range(50):
            if here.registry.ended:
                break
            client.sendall(b"x")
            time.sleep(0.1)
        assert b"registry.too_slow" in client.recv(4096)
    assert here.registry.ended == ["registry.too_slow"]


def test_stopping_lets_go_of_transfers(door: Any) -> None:
    here = door()
    here.registry.content = bytes(64 << 20)
    with socket.create_connection(("127.0.0.1", here.running.port), timeout=20) as client:
        client.sendall(
            b"GET /v1/models/fraud/versions/1/content HTTP/1.1\r\nhost: x\r\n"
            b"authorization: Bearer " + here.key.encode() + b"\r\n\r\n"
        )
        assert client.recv(12)
        here.running.stop()
    _until(lambda: here.registry.ended)
    assert here.registry.ended == ["registry.interrupted"]


def test_limits_hold_and_are_on_the_record(door: Any) -> None:
    here = door(principal=Rate(0.001, 2))
    codes = [here.ask("GET", "/v1/models")[1].get("code") for _ in range(4)]
    assert codes == [None, None, "limit.principal", "limit.principal"]
    here.running.stop()
    kinds = {(entry["reason"], entry["principal"]) for entry in here.log.entries("refusals")}
    assert ("limit.principal", "user:alice") in kinds


def _until(found: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not found() and time.monotonic() < deadline:
        time.sleep(0.02)
