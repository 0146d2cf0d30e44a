"""The server on loopback, spoken to byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time

import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.gateway.audit import AuditOptions
from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.server import listen, tls_context
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.identity.tls import create_ca, issue_leaf
from keepstone.ledger import EntryId, Ledger, LedgerReader

pytestmark = pytest.mark.loopback
NOW_MS = int(time.time() * 1000)


class Client:
    """A socket that reads HTTP answers."""

    def __init__(self, port, context=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)
        return self

    def read(self):
        """The next answer: status, headers, body."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split()[1]), headers, body

    def code(self):
        status, headers, body = self.read()
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status
        return problem["code"]

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def closed(self, within=5.0):
        """Whether the server closes, with nothing more to read."""
        self.socket.settimeout(within)
        try:
            return self.buffer + self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def request(world, body=None, *, path="/v2/models/double/infer", extra=b"", method=b"POST"):
    body = BODY if body is None else body
    return (
        b"%b %b HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n%b\r\n%b"
        % (method, path.encode(), world.key.encode(), len(body), extra, body)
    )


BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n"


@pytest.fixture
def world(make):
    return make(max_body=200_000)


def test_many_requests_on_one_connection(world, serve):
    with Client(serve(world).port) as client:
        for n in range(50):
            status, headers, body = client.send(request(world)).read()
            assert status == 200
            assert headers["keepstone-entry"].startswith(f"ks-{n}-")
            assert "connection" not in headers
            assert "server" not in headers
            assert headers["date"].endswith("GMT")
            assert json.loads(body)["outputs"][0]["data"] == [2.0, 4.0]


def test_pipelined_requests_are_answered_in_order(world, serve):
    with Client(serve(world).port) as client:
        bad = request(world, b"nope")
        client.send(request(world) + bad + LIVE + request(world) + bad)
        assert [client.read()[0] for _ in range(5)] == [200, 400, 200, 200, 400]


def test_too_many_pipelined_requests_end_the_connection(world, serve):
    with Client(serve(world).port) as client:
        client.send(request(world) * 100)
        statuses = []
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                statuses.append(client.read()[0])
        assert statuses[-1] == 400
        assert len(statuses) < 40


@pytest.mark.parametrize("step", [1, 7, 50])
def test_a_request_may_come_in_crumbs(world, serve, step):
    with Client(serve(world).port) as client:
        data = request(world)
        for at in range(0, len(data), step):
            client.send(data[at : at + step])
            time.sleep(0.0005)
        assert client.read()[0] == 200


def test_a_chunked_body_is_read(world, serve):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (BODY[:9], BODY[9:])) + b"0\r\n"
    head = request(world, b"").replace(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n")
    with Client(serve(world).port) as client:
        assert client.send(head + chunks + b"\r\n").read()[0] == 200
        # A trailer is no header.
        status, _, _ = client.send(head + chunks + b"X-API-Key: other\r\n\r\n").read()
        assert status == 200
        assert client.send(request(world)).read()[0] == 200


def test_a_client_that_waits_is_told_to_continue(world, serve):
    data = request(world, extra=b"Expect: 100-continue\r\n")
    with Client(serve(world).port) as client:
        client.send(data[: -len(BODY)])
        assert client.read()[0] == 100
        assert client.send(BODY).read()[0] == 200
    with Client(serve(world).port) as client:
        # Nobody is asked for a body that would be refused anyway.
        head = data[: -len(BODY)].replace(world.key.encode(), b"ks_wrong")
        assert client.send(head).read()[0] == 401
        assert client.closed()


def test_head_and_http_1_0_and_close(world, serve):
    port = serve(world).port
    with Client(port) as client:
        client.send(LIVE.replace(b"GET", b"HEAD"))
        time.sleep(0.1)
        answer = client.socket.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.endswith(b"\r\n\r\n")
    with Client(port) as client:
        assert client.send(LIVE.replace(b"1.1", b"1.0")).read()[0] == 200
        assert client.closed()
    with Client(port) as client:
        client.send(LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        _, headers, _ = client.read()
        assert headers["connection"] == "close"
        assert client.closed()


def test_a_query_is_not_part_of_the_path(world, serve):
    with Client(serve(world).port) as client:
        assert client.send(request(world, path="/v2/models/double/infer?a=%2e")).read()[0] == 200
        assert client.send(request(world, path="/v2/../v2/models/double/infer")).code() == (
            "route.unknown"
        )
        assert client.send(request(world, path="//v2/models/double/infer")).code() == (
            "route.unknown"
        )
        assert client.send(request(world, path="/%2e%2e/v2/models/double/infer")).code() == (
            "route.unknown"
        )


# Smuggling: whatever two readers could frame differently is not framed at all.

SMUGGLES = {
    "two lengths": b"Content-Length: 5\r\n",
    "a length beside chunks": b"Transfer-Encoding: chunked\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n",
    "chunked, then something": b"Transfer-Encoding: chunked, identity\r\n",
    "a folded header": b"X: a\r\n b\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a bare CR": b"X: a\rTransfer-Encoding: chunked\r\n",
    "a NUL": b"X: a\x00b\r\n",
    "a header without a name": b": x\r\n",
    "a line without a colon": b"oops\r\n",
    "an upgrade": b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    "an upgrade to HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
}


@pytest.mark.parametrize("what", SMUGGLES)
def test_ambiguous_framing_is_refused_and_ends_the_connection(world, serve, what):
    with Client(serve(world).port) as client:
        client.send(request(world, extra=SMUGGLES[what]) + LIVE)
        assert client.code() == "request.bad_http"
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read()
        assert world.runtime.calls == 0


@pytest.mark.parametrize(
    "length", [b"-1", b"+70", b"0x46", b"70abc", b"7 0", b"70, 70", b"99999999999999999999999"]
)
def test_an_odd_length_is_refused(world, serve, length):
    with Client(serve(world).port) as client:
        client.send(request(world).replace(b"Content-Length: 70", b"Content-Length: " + length))
        assert client.code() in ("request.bad_http", "request.too_large")
        assert world.runtime.calls == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT t:443 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /\x7f\x80 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused(world, serve, data):
    with Client(serve(world).port) as client:
        client.send(data)
        assert client.read()[0] in (400, 401)
        assert client.closed()


def test_a_chunked_body_that_breaks_is_incomplete(world, serve):
    head = request(world, b"").replace(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n")
    with Client(serve(world).port) as client:
        client.send(head)
        time.sleep(0.1)
        assert client.send(b"zz\r\n").code() == "request.incomplete"
        assert client.closed()


# Sizes


@pytest.mark.parametrize(
    "extra",
    [
        b"X: " + b"a" * 20_000 + b"\r\n",
        b"".join(b"X%d: a\r\n" % n for n in range(100)),
        b"".join(b"X%d: %b\r\n" % (n, b"a" * 500) for n in range(50)),
    ],
)
@pytest.mark.parametrize("step", [1_000, 1_000_000])
def test_headers_are_bounded(world, serve, extra, step):
    with Client(serve(world).port) as client:
        data = request(world, extra=extra)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(data), step):
                client.send(data[at : at + step])
                time.sleep(0.001)
        assert client.code() == "request.headers_too_large"
        assert world.runtime.calls == 0


def test_a_header_that_never_ends_is_cut_off(world, serve):
    with Client(serve(world).port) as client:
        client.send(b"GET /" + b"a" * 20_000)
        assert client.code() == "request.headers_too_large"


def test_a_large_body_is_refused_before_it_is_sent(world, serve):
    with Client(serve(world).port) as client:
        head = request(world).replace(b"Content-Length: 70", b"Content-Length: 99999999")
        status, headers, _ = client.send(head[: -len(BODY)]).read()
        assert status == 413
        assert headers["connection"] == "close"


def test_a_client_that_keeps_sending_still_gets_its_answer(world, serve):
    with Client(serve(world).port) as client:
        head = request(world).replace(b"Content-Length: 70", b"Content-Length: 9999999")
        client.send(head[: -len(BODY)])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(20):
                client.send(b"x" * 65536)
        assert client.code() == "request.too_large"


def test_a_large_chunked_body_is_refused_as_it_comes(world, serve):
    head = request(world, b"").replace(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n")
    with Client(serve(world).port) as client:
        client.send(head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(40):
                client.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert client.code() == "request.too_large"


def test_a_body_as_large_as_allowed_is_read(make, serve, body):
    world = make(max_body=4_000_000)
    rows = [[1.25, 2.5]] * 100_000
    with Client(serve(world).port) as client:
        status, _, answer = client.send(request(world, body(rows))).read()
        assert status == 200
        assert json.loads(answer)["outputs"][0]["shape"] == [100_000, 2]


# Time

QUICK = ConnectionLimits(header_s=0.4, body_s=0.4, idle_s=0.4, write_s=0.4, handshake_s=0.4)


def test_slow_headers_are_cut_off(world, serve):
    with Client(serve(world, limits=QUICK).port) as client:
        began = time.monotonic()
        client.send(b"POST /v2/models/double/infer HTTP/1.1\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for n in range(40):
                client.send(b"X%d: a\r\n" % n)
                time.sleep(0.1)
                if select_readable(client.socket):
                    break
        assert client.code() == "request.timeout"
        assert time.monotonic() - began < 3


def test_a_slow_body_is_cut_off(world, serve):
    with Client(serve(world, limits=QUICK).port) as client:
        client.send(request(world)[:-20])
        assert client.code() == "request.incomplete"
        assert client.closed()
        assert world.runtime.calls == 0


def test_silence_is_closed(world, serve):
    port = serve(world, limits=QUICK).port
    with Client(port) as client:
        assert client.closed()
    with Client(port) as client:
        assert client.send(LIVE).read()[0] == 200
        assert client.closed()


def test_a_client_that_does_not_read_is_dropped(make, serve, body):
    world = make(max_body=4_000_000)
    running = serve(world, limits=QUICK)
    sent = request(world, body([[1.25, 2.5]] * 50_000))
    with Client(running.port) as client:
        client.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                client.send(sent)
        deadline = time.monotonic() + 10
        while running.server.connections.total and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.server.connections.total == 0


def select_readable(sock):
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        sock.settimeout(10)


# Connections


def test_an_address_may_hold_only_so_many(world, serve):
    running = serve(world, limits=ConnectionLimits(per_address=3))
    clients = [Client(running.port) for _ in range(3)]
    try:
        for client in clients:
            assert client.send(LIVE).read()[0] == 200
        with Client(running.port) as refused:
            assert refused.closed()
        assert running.server.connections.refused >= 1
    finally:
        for client in clients:
            client.socket.close()
    deadline = time.monotonic() + 5
    while running.server.connections.total and time.monotonic() < deadline:
        time.sleep(0.01)
    with Client(running.port) as again:
        assert again.send(LIVE).read()[0] == 200


def test_the_server_holds_only_so_many(world, serve):
    running = serve(world, limits=ConnectionLimits(total=2))
    with Client(running.port) as one, Client(running.port) as two:
        assert one.send(LIVE).read()[0] == two.send(LIVE).read()[0] == 200
        with Client(running.port) as refused:
            assert refused.closed()


# TLS


@pytest.fixture
def tls():
    authority = create_ca([], NOW_MS)
    leaf = issue_leaf(authority, ["localhost", "127.0.0.1"], NOW_MS)
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    return tls_context(leaf.chain_pem, leaf.key_pem), context


def test_tls_serves_and_is_modern(world, serve, tls):
    server, trusting = tls
    running = serve(world, tls=server)
    with Client(running.port, trusting) as client:
        assert client.socket.version() == "TLSv1.3"
        assert client.send(request(world)).read()[0] == 200
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        Client(running.port, old)
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(running.port, ssl.create_default_context())


def test_a_handshake_that_never_comes_counts_and_ends(world, serve, tls):
    server, trusting = tls
    limits = ConnectionLimits(per_address=2, handshake_s=0.5)
    running = serve(world, tls=server, limits=limits)
    with Client(running.port) as one, Client(running.port) as two:
        time.sleep(0.1)
        assert running.server.connections.total == 2
        with Client(running.port) as three:
            assert three.closed()
        assert one.closed()
        assert two.closed()
    deadline = time.monotonic() + 5
    while running.server.connections.total and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.server.connections.total == 0
    with Client(running.port, trusting) as client:
        assert client.send(request(world)).read()[0] == 200


def test_plain_http_to_a_tls_port_is_closed(world, serve, tls):
    with Client(serve(world, tls=tls[0]).port) as client:
        client.send(LIVE)
        client.socket.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert not client.socket.recv(100).startswith(b"HTTP")


def test_a_certificate_can_be_renewed_while_serving(world, serve, tls):
    running = serve(world, tls=tls[0])
    with Client(running.port, tls[1]) as before:
        authority = create_ca([], NOW_MS)
        leaf = issue_leaf(authority, ["localhost"], NOW_MS)
        running.server.tls = tls_context(leaf.chain_pem, leaf.key_pem)
        context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
        with Client(running.port, context) as after:
            assert before.send(LIVE).read()[0] == after.send(LIVE).read()[0] == 200


def test_what_is_no_certificate_is_refused(tls):
    with pytest.raises(InputError) as caught:
        tls_context(b"nope", b"nope")
    assert caught.value.code == "tls.malformed"


# Listening and stopping


def test_a_port_in_use_is_named():
    taken = listen("127.0.0.1", 0)
    port = taken[0].getsockname()[1]
    with taken[0], pytest.raises(OperationalError) as caught:
        listen("127.0.0.1", port)
    assert caught.value.code == "server.port_in_use"
    assert str(port) in caught.value.cause


def test_an_address_that_is_not_ours_is_named():
    with pytest.raises(OperationalError) as caught:
        listen("192.0.2.1", 0)
    assert caught.value.code == "server.cannot_listen"


def test_stopping_answers_what_is_under_way_and_closes_the_idle(world, serve):
    world.endpoint.typical_us = 1e6
    world.runtime.wait = 0.4
    running = serve(world)
    with Client(running.port) as idle, Client(running.port) as busy:
        assert idle.send(LIVE).read()[0] == 200
        busy.send(request(world))
        time.sleep(0.1)
        running.server.stop()
        status, headers, _ = busy.read()
        assert status == 200
        assert headers["connection"] == "close"
        assert idle.closed()
    running.stop()
    assert running.failure == []
    with pytest.raises(ConnectionRefusedError):
        Client(running.port)


@pytest.mark.parametrize("mode", ["strict", "group"])
def test_stopping_under_load_loses_nothing_that_was_acknowledged(make, serve, tmp_path, mode):
    path, origin = tmp_path / "l.db", "keepstone.test/gateway"
    key = SigningKey.generate(Algorithm.ED25519)
    ledger = Ledger.create(path, origin=origin, key=key)
    world = make(log=ledger, audit=AuditOptions(mode=mode))
    running = serve(world)
    acknowledged: list[str] = []

    def work():
        with contextlib.suppress(EOFError, OSError), Client(running.port) as client:
            while True:
                status, headers, _ = client.send(request(world)).read()
                assert status in (200, 503)
                if status == 200:
                    acknowledged.append(headers["keepstone-entry"])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    time.sleep(0.5)
    running.stop()
    for each in threads:
        each.join(10)
    assert running.failure == []
    # Whatever the process does after this, what was acknowledged is on the disk.
    with LedgerReader.open(path) as reader:
        assert len(acknowledged) > 20
        for text in acknowledged:
            entry = EntryId.parse(text)
            entry.check(reader.body(entry.index))
    ledger.close()


def test_a_record_that_cannot_be_completed_is_an_error(make, serve, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=AuditOptions(mode="group", max_age_s=60))
    running = serve(world)
    with Client(running.port) as client:
        assert client.send(request(world)).read()[0] == 200
    running.server.stop()
    time.sleep(0.3)
    log.fail()
    running.stop()
    assert [error.code for error in running.failure] == ["audit.unavailable"]


def test_withdrawn_from_another_thread_stops_at_once(world, serve):
    running = serve(world)
    with Client(running.port) as client:
        assert client.send(request(world)).read()[0] == 200
        world.endpoint.withdraw(revoked=True)
        assert client.send(request(world)).code() == "model.revoked"
