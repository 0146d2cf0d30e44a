"""A suspect endpoint: asked as any client asks, and believed in nothing."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.contract.schema import DType, TensorSpec
from keepstone.core.ports import SystemClock
from keepstone.errors import InputError, KeepstoneError
from keepstone.identity.tls import create_ca, issue_leaf
from keepstone.lab.targets import classifier
from keepstone.lab.targets import remote as module
from keepstone.lab.targets.classifier import RemoteClassifier
from keepstone.lab.targets.endpoint import EndpointTarget
from keepstone.lab.targets.remote import Address, Remote

pytestmark = pytest.mark.loopback

METADATA = {
    "name": "m",
    "platform": "x",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [
        {"name": "p", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "label", "datatype": "INT64", "shape": [-1]},
    ],
}
X = TensorSpec("x", DType.FP32, (-1, 3))
HIDDEN = "hidden"
ROWS = np.arange(6, dtype=np.float64).reshape(2, 3)


def body(
    data: Any, shape: list[int] | None = None, name: str = "label", datatype: str = "INT64"
) -> bytes:
    tensor = {"name": name, "datatype": datatype, "shape": shape or [len(data)]}
    return json.dumps({"model_name": "m", "outputs": [tensor | {"data": data}]}).encode()


def reply(content: bytes, status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} S", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


class Server:
    """A TLS server that answers each request with the next of `answers`: bytes, or a function."""

    def __init__(self, root: Path) -> None:
        now = SystemClock().now_ms()
        authority = create_ca(["127.0.0.1"], now)
        leaf = issue_leaf(authority, ["127.0.0.1"], now)
        (root / "chain.pem").write_bytes(leaf.chain_pem)
        (root / "key.pem").write_bytes(leaf.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(root / "chain.pem", root / "key.pem")
        self.ca = authority.certificate_pem.decode()
        self.answers: list[bytes | Callable[[socket.socket], None]] = [
            reply(json.dumps(METADATA).encode())
        ]
        self.requests: list[bytes] = []
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self._answer(connection)
            except OSError:
                pass

    def _answer(self, connection: ssl.SSLSocket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, rest = received.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                while len(rest) < int(line.split(b":")[1]):
                    rest += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + rest)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def address(self, **given: Any) -> Address:
        settings = {"key": "ks-key", "trusted": self.ca} | given
        return Address.parse(f"https://127.0.0.1:{self.port}", "m", **settings)

    def target(
        self, *answers: bytes | Callable[[socket.socket], None], **given: Any
    ) -> EndpointTarget:
        target = EndpointTarget(self.address(), **{"seconds": 5.0} | given)
        self.answers = list(answers) or self.answers
        return target


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def code(action: Callable[..., object], *given: object, **named: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given, **named)
    return caught.value.code


def test_rows_go_out_in_the_protocol_and_labels_come_back(server: Server) -> None:
    target = server.target(reply(body([4, 7])))
    assert target.ask(ROWS) == ["4", "7"]
    head, _, sent = server.requests[-1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/m/infer HTTP/1.1")
    assert b"Authorization: Bearer ks-key" in head
    assert json.loads(sent) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [0, 1, 2, 3, 4, 5]}],
        "outputs": [{"name": "label"}],
    }
    assert "ks-key" not in repr(target.address) + target.address.shown


def test_a_model_whose_names_are_given_need_not_say_them(server: Server) -> None:
    server.answers = [reply(body([4, 7]))]
    target = EndpointTarget(server.address(), "label", "x", seconds=5.0)
    assert target.ask(ROWS) == ["4", "7"]
    assert len(server.requests) == 1


def test_scores_are_read_as_the_label_of_the_greatest(server: Server) -> None:
    target = server.target(reply(body([0.1, 0.9, 0.8, 0.2], [2, 2], "p", "FP32")), output="p")
    assert target.ask(ROWS) == ["1", "0"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"{", "target.bad_answer"),
        (b"[]", "target.bad_answer"),
        (b"\xff", "target.bad_answer"),
        (body([1, 2, 3]), "target.bad_answer"),
        (body([1]), "target.bad_answer"),
        (body([1, 2], [2, 9]), "target.bad_answer"),
        (body([1, 2], [-2]), "target.bad_answer"),
        (body([], [2, 0]), "target.bad_answer"),
        (body([1, 2], name="other"), "target.bad_answer"),
        (body("12"), "target.bad_answer"),
        (body([1, 2], datatype="FP33"), "target.bad_answer"),
        (
            b'{"outputs":[{"name":"label","datatype":"FP32","shape":[2],"data":[NaN,1]}]}',
            "target.bad_answer",
        ),
        (b'{"outputs":' + b"[" * 200_000, "target.bad_answer"),
        (body([None, 1]), "target.bad_answer"),
        (body([{"x": 1}, 1]), "target.bad_answer"),
        (body([10**400, True], datatype="FP32"), None),
        (body([True, "1"], datatype="FP64"), None),
    ],
)
def test_an_answer_of_another_form_is_an_error_and_no_answer(
    server: Server, content: bytes, found: str | None
) -> None:
    target = server.target(reply(content))
    if found is None:
        assert target.ask(ROWS) == [None, None]
    else:
        assert code(target.ask, ROWS) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (reply(b"", 301, "Location: https://127.0.0.1/"), "target.redirect"),
        (reply(b"", 403), "target.refused"),
        (reply(b"", 404), "target.refused"),
        (reply(b"", 500), "target.refused"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", "target.bad_answer"),
        (b"nonsense\r\n\r\n", "target.unreachable"),
        (b"", "target.unreachable"),
    ],
)
def test_what_is_no_answer_is_said_by_its_code(server: Server, answer: bytes, found: str) -> None:
    target = server.target(answer)
    assert code(target.ask, ROWS) == found
    # No second try, and nobody else was asked.
    assert len(server.requests) == 2


def test_a_throttled_target_is_waited_for_within_reason(server: Server) -> None:
    waits: list[float] = []
    busy = reply(b"", 429, "Retry-After: 2")
    target = server.target(busy, busy, reply(body([4, 7])), sleep=waits.append)
    assert target.ask(ROWS) == ["4", "7"]
    assert waits == [2, 2]
    server.answers = [reply(b"", 503, "Retry-After: 999999")]
    assert target.ask(ROWS) == [None, None]
    # Patience runs out over the whole check, not for each batch anew.
    assert sum(waits) <= 60


def test_a_body_without_end_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 1 << 16)
    sent = []

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            sent.append(connection.send(b" " * 65536))

    target = server.target(endless)
    assert code(target.ask, ROWS) == "target.too_large"
    assert sum(sent) < 64 << 20


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_a_byte_now_and_then_is_no_answer(server: Server, start: bytes) -> None:
    """Each byte comes in time for the socket; without a limit on the whole this never ends."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        while not stop.wait(0.05):
            connection.send(b"H")

    target = server.target(drip, seconds=0.4)
    began = time.monotonic()
    assert target.ask(ROWS) == [None, None]
    stop.set()
    assert time.monotonic() - began < 60


def test_a_stranger_certificate_is_not_asked(server: Server) -> None:
    assert code(EndpointTarget, server.address(trusted=None)) == "target.unreachable"
    assert server.requests == []
    assert code(EndpointTarget, server.address(trusted="not a certificate")) == "target.bad_ca"


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": "x"},
        {"inputs": [{"name": "x", "datatype": "FP33", "shape": [-1, 3]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", 3]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1 << 50]}]},
        {"outputs": None},
    ],
)
def test_metadata_that_says_nothing_useful_is_refused(server: Server, change: Any) -> None:
    server.answers = [reply(json.dumps(METADATA | change).encode())]
    assert code(EndpointTarget, server.address()) == "target.bad_answer"


def test_what_cannot_be_fingerprinted_is_said(server: Server) -> None:
    assert code(EndpointTarget, server.address(), "nothing") == "fingerprint.no_output"
    target = server.target()
    assert code(target.ask, np.zeros((2, 4))) == "fingerprint.other_inputs"


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "https://",
        "host",
        "https://user:secret@host",
        "https://host/?q",
        "https://host/#f",
        "https://host:99999",
        "https://ho\rst",
        "file:///etc/passwd",
        "https://[::1",
    ],
)
def test_an_address_is_https_and_nothing_more(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Address.parse(url, "m")
    assert caught.value.code == "target.bad_url"


def test_a_key_cannot_smuggle_a_header() -> None:
    for key in ("a\r\nX: y", "a b", "\u00e9"):
        assert code(Address.parse, "https://host", "m", key) == "target.bad_key"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:{}@h/", "https://h"),
        ("https://{}@h/", "https://h"),
        ("https://h/?key={}", "https://h"),
        ("https://h/{}#{}", "https://h"),
        ("http://[::1]:80/{}", "http://::1"),
        ("https://u:{}#x@h", "..."),
        ("https://{}?x@h", "..."),
        ("http://{}/x@h", "..."),
        ("https://h:{}", "..."),
        ("{}:x@h", "..."),
        ("{}", "..."),
        ("https://[{}", "..."),
    ],
)
def test_an_address_that_is_refused_is_not_repeated(url: str, shown: str) -> None:
    url = url.replace("{}", HIDDEN)
    with pytest.raises(InputError) as caught:
        Address.parse(url, "m")
    assert HIDDEN not in f"{caught.value} {caught.value.cause} {caught.value.next_step}"
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)).replace(url, "")
    assert repr(shown) in caught.value.cause


def test_time_outs_cost_patience_and_then_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], []

    def late(*_: object) -> None:
        asked.append(1)
        now[0] += 30
        raise module.NotNowError(0.0)

    monkeypatch.setattr(Remote, "_once", late)
    remote = Remote(
        Address.parse("https://h", "m"), patience=100, sleep=lambda _: None, clock=lambda: now[0]
    )
    for _ in range(1000):
        assert remote.infer(X, ROWS, ["label"]) is None
    assert remote.exhausted
    assert remote.waited_s == now[0] == 120
    assert len(asked) == remote.refusals == 4


def test_a_server_that_never_answers_is_left_alone(server: Server) -> None:
    stop = threading.Event()

    def hang(_: socket.socket) -> None:
        stop.wait(5)

    target = server.target(hang, seconds=0.3, patience=0.2)
    assert target.ask(ROWS) == [None, None]
    began, requests = time.monotonic(), len(server.requests)
    for _ in range(100):
        assert target.ask(ROWS) == [None, None]
    stop.set()
    assert time.monotonic() - began < 5
    assert len(server.requests) == requests


# Attacked


def attacked(server: Server, metadata: Any, *answers: bytes, **given: Any) -> RemoteClassifier:
    server.answers = [reply(json.dumps(METADATA | metadata).encode()), *answers]
    settings = {"low": 0.0, "high": 9.0, "seconds": 5.0} | given
    return RemoteClassifier(server.address(), np.array([0, 1]), **settings)


ONLY_LABELS = {"outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}]}


def test_labels_that_belong_to_no_row_are_no_answer(server: Server) -> None:
    with attacked(server, ONLY_LABELS, reply(body([[1], [0]], [2, 1]))) as target:
        assert target.predict(ROWS).labels.tolist() == [1, 0]
        for content in (
            body([[[0, 1]], [[1, 0]]], [2]),
            body([[0, 1], [1, 0]], [2, 2]),
            body([0, 1, 1, 0], [2, 2]),
            body([[0, 1], [1]], [2]),
            body([[0, 1]], [2]),
            body([[0, 1, 1], [0]], [2, 2]),
            body([0, [1]], [2]),
            body([[0], "1"], [2]),
            body([None, 1]),
            body([{"x": 1}, 1]),
        ):
            server.answers = [reply(content)]
            assert code(target.predict, ROWS) == "target.bad_answer"


def test_metadata_that_would_fill_the_memory_is_refused(server: Server) -> None:
    wide = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2**31 - 1]}]}
    many = {"outputs": [{"name": "p", "datatype": "FP32", "shape": [-1, 2**31 - 1]}]}
    tracemalloc.start()
    try:
        assert code(attacked, server, wide) == "target.unsupported"
        assert code(attacked, server, many) == "target.bad_labels"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_right_answers_that_come_slowly_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], []
    answer = {"name": "label", "datatype": "INT64", "shape": [len(ROWS)], "data": [0] * len(ROWS)}

    def slowly(*_: object) -> object:
        asked.append(now[0])
        now[0] += 29
        return {"outputs": [answer]}

    monkeypatch.setattr(Remote, "_once", slowly)
    remote = Remote(Address.parse("https://h", "m"), in_all=100, clock=lambda: now[0])
    found = [remote.infer(X, ROWS, ["label"]) for _ in range(50)]
    assert asked == [0, 29, 58, 87]
    assert [one is not None for one in found] == [True] * 4 + [False] * 46
    assert remote.exhausted


def test_wide_rows_go_out_a_few_at_a_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "_VALUES", 4)
    with attacked(server, ONLY_LABELS, reply(body([1]))) as target:
        assert target.predict(ROWS).labels.tolist() == [1, 1]
    assert len(server.requests) == 3
