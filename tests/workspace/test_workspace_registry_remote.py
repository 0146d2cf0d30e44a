"""A registry on another machine that lies, stalls, or gives half: the client takes none of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import (
    DeniedError,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)
from keepstone.identity.principal import Principal, PrincipalKind
from keepstone.identity.signing import SigningKey
from keepstone.vault import carry
from keepstone.workspace.intake import Submission
from keepstone.workspace.registry import remote
from keepstone.workspace.registry.pushing import Push
from keepstone.workspace.registry.registry import Registry
from keepstone.workspace.registry.remote import RemoteRegistry
from keepstone.workspace.registry.served import ServedRegistry

LOCAL = Principal("local:owner", PrincipalKind.LOCAL, frozenset(), "local", "uid-0")


@dataclass
class Answers:
    """What an honest registry answered to pulls, and the clock it was asked at."""

    by_text: dict[str, bytes]
    gate_key: str
    clock: Any
    digest: Digest


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    from tests.workspace.conftest import Heard, Home  # type: ignore[import-not-found]

    home = Home(tmp_path_factory.mktemp("honest")).create()
    with home.open() as workspace:
        registry = Registry(workspace)
        for name, scale in (("fraud", 2.0), ("fraud", 3.0), ("churn", 4.0)):
            submission = Submission(home.model(f"{name}{scale}.onnx", scale), name)
            registry.push(LOCAL, Push(submission), Heard())
        registry.promote(LOCAL, "fraud@1", "staging")
        served = ServedRegistry(workspace)
        got: dict[str, bytes] = {}
        for text in ("fraud@1", "fraud@2", "churn@1", "fraud@staging"):
            name, _, of = text.partition("@")
            data = bytearray()
            served.pull(LOCAL, name, of, "", lambda length, data=data: data.extend)
            got[text] = bytes(data)
        version = workspace.book.catalogue().shelf("fraud").version(1)
        assert version is not None
        return Answers(got, workspace.keys.gate.verifying.key_id, home.clock, version.digest)


@contextmanager
def double(reply: Callable[[bytes], bytes | None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each request with the bytes that `reply` makes; None: with silence."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []
    ended = threading.Event()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                data = client.recv(65536)
                heard.append(data)
                answer = reply(data)
                if answer is None:
                    ended.wait(10)
                else:
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def http(body: bytes, status: str = "200 OK", length: int | None = None, extra: str = "") -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {size}\r\n{extra}\r\n".encode() + body


def pull(
    answers: Answers, body: bytes, target: Path, text: str = "fraud@1", **how: Any
) -> remote.Pulled:
    gate = how.pop("gate", answers.gate_key)
    clock = how.pop("clock", answers.clock)
    with double(lambda _: http(body, **how)) as (url, _):
        return RemoteRegistry(url, "key", gate_key=gate, clock=clock).pull(text, target)


pytestmark = pytest.mark.loopback


def test_what_an_honest_registry_gives_is_taken(answers: Answers, tmp_path: Path) -> None:
    for text, body in answers.by_text.items():
        pulled = pull(answers, body, tmp_path / text, text)
        assert pulled.admission is not None
        assert pulled.path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_and_leaves_nothing(
    answers: Answers, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    body = bytearray(answers.by_text["fraud@1"])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("flip")
    try:
        pulled = pull(answers, bytes(body), folder / "model")
    except KeepstoneError:
        assert list(folder.iterdir()) == []
    else:
        # Only what nothing rests on may differ: the version's size, a warning's text.
        honest = carry_body(answers.by_text["fraud@1"])
        assert pulled.path.read_bytes() == honest


def carry_body(answer: bytes) -> bytes:
    """The content of the one file that an honest answer carries."""
    head = int.from_bytes(answer[:4], "big")
    rest = answer[4 + head :]
    return rest[4 + int.from_bytes(rest[:4], "big") :]


@settings(max_examples=30)
@given(st.integers(0, 10_000))
@example(0)
@example(3)
def test_an_answer_that_ends_early_is_refused(
    answers: Answers, tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    body = answers.by_text["fraud@1"]
    folder = tmp_path_factory.mktemp("cut")
    for length in (None, len(body)):
        with pytest.raises(KeepstoneError):
            pull(answers, body[: min(cut, len(body) - 1)], folder / "model", length=length)
    with pytest.raises(KeepstoneError):
        pull(answers, body + b"x", folder / "model")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "given", "code"),
    [
        # Another version's bytes under this one's number, and another model's.
        ("fraud@1", "fraud@2", "registry.wrong_answer"),
        ("fraud@1", "churn@1", "registry.wrong_answer"),
        # What was admitted by number only stands in for no stage, and the other way round.
        ("fraud@staging", "fraud@1", "admission.wrong_endpoint"),
        ("fraud@staging", "fraud@2", "admission.wrong_endpoint"),
        ("fraud@1", "fraud@staging", "admission.wrong_endpoint"),
    ],
)
def test_a_swapped_version_is_refused(
    answers: Answers, tmp_path: Path, text: str, given: str, code: str
) -> None:
    with pytest.raises(VerificationError) as caught:
        pull(answers, answers.by_text[given], tmp_path / "model", text)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_head_of_one_version_before_the_bytes_of_another_is_refused(
    answers: Answers, tmp_path: Path
) -> None:
    first, second = answers.by_text["fraud@1"], answers.by_text["fraud@2"]
    cut = 4 + int.from_bytes(first[:4], "big")
    other = 4 + int.from_bytes(second[:4], "big")
    with pytest.raises(VerificationError) as caught:
        pull(answers, first[:cut] + second[other:], tmp_path / "model")
    assert caught.value.code == "carry.damaged"
    assert list(tmp_path.iterdir()) == []


def test_an_answer_from_before_is_refused_once_its_admission_ended(
    answers: Answers, tmp_path: Path
) -> None:
    class Later:
        def now_ms(self) -> int:
            return int(answers.clock.now_ms()) + 3_600_000

    with pytest.raises(VerificationError) as caught:
        pull(answers, answers.by_text["fraud@1"], tmp_path / "model", clock=Later())
    assert caught.value.code == "admission.expired"


def test_without_an_admission_nothing_is_taken(answers: Answers, tmp_path: Path) -> None:
    body = answers.by_text["fraud@1"]
    cut = 4 + int.from_bytes(body[:4], "big")
    head = json.loads(body[4:cut]) | {"admission": None}
    with pytest.raises(VerificationError) as caught:
        pull(answers, carry.head_bytes(head) + body[cut:], tmp_path / "model")
    assert caught.value.code == "registry.not_admitted"


def test_another_gates_word_is_not_this_ones(answers: Answers, tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        pull(answers, answers.by_text["fraud@1"], tmp_path / "model", gate="0" * 64)
    assert caught.value.code == "registry.wrong_gate"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", OperationalError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", OperationalError),
        (b"SSH-2.0-OpenSSH\r\n", OperationalError),
        (http(b"<html>", "502 Bad Gateway"), OperationalError),
        (http(b"[1]"), OperationalError),
        (http(b"[" * 100_000), OperationalError),
        (http(b'{"code":"gate.denied","detail":"no"}', "403 Forbidden"), DeniedError),
        (http(b'{"code":"registry.not_found"}', "404 Not Found"), InputError),
        (http(b'{"code":5,"detail":[1]}', "422 Unprocessable"), VerificationError),
        (http(b"{}", "302 Found", extra="location: http://127.0.0.1:1/\r\n"), OperationalError),
        (http(b"{}", "204 No Content"), OperationalError),
    ],
)
def test_answers_that_make_no_sense_are_coded(
    answer: bytes, kind: type[KeepstoneError], tmp_path: Path
) -> None:
    with double(lambda _: answer) as (url, heard):
        registry = RemoteRegistry(url, "key", gate_key="0" * 64)
        with pytest.raises(kind):
            registry.show("fraud@1")
        with pytest.raises(KeepstoneError):
            registry.pull("fraud@1", tmp_path / "model")
        # No second request: no redirect was followed, and none was tried again.
        assert len(heard) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote, "_READ_S", 0.3)
    with double(lambda _: None) as (url, _):
        registry = RemoteRegistry(url, "key", gate_key="0" * 64)
        with pytest.raises(OperationalError) as caught:
            registry.list()
    assert caught.value.code == "registry.unreachable"


@pytest.mark.parametrize(
    "url",
    [
        "http://registry.example",
        "ftp://127.0.0.1",
        "https://",
        "127.0.0.1:8444",
        "https://registry.example/path",
        "http://127.0.0.1.evil.example:80",
        "http://localhost.evil.example",
    ],
)
def test_no_credential_goes_out_in_the_clear_or_to_what_is_no_registry(url: str) -> None:
    with pytest.raises(InputError) as caught:
        RemoteRegistry(url, "key")
    assert caught.value.code == "registry.bad_url"
    assert "secret" not in repr(RemoteRegistry("https://registry.example", "secret"))


@pytest.mark.parametrize(
    "text", ["../x@1", "a@../../b", "a@1/content", "a@%2e%2e", "A@1", "a@", "", "a@b?c", "ä@1"]
)
def test_a_hostile_name_is_refused_before_it_is_sent(text: str, tmp_path: Path) -> None:
    with double(lambda _: http(b"{}")) as (url, heard):
        registry = RemoteRegistry(url, "key", gate_key="0" * 64)
        for ask in (
            registry.show,
            lambda text: registry.pull(text, tmp_path / "model"),
            lambda text: registry.promote(text, "production"),
        ):
            with pytest.raises(InputError):
                ask(text)
        assert heard == []


@pytest.mark.parametrize(
    "said",
    [
        {"model": "payments", "number": 1, "digest": "sha256:" + "e" * 64},
        {"model": "fraud", "number": 2, "digest": "sha256:" + "a" * 64},
        {"model": "fraud", "number": 1, "digest": "sha256:" + "b" * 64},
        {"model": "fraud", "number": "1", "digest": "sha256:" + "a" * 64},
        {"versions": []},
    ],
)
def test_nothing_is_signed_but_what_was_asked_about(said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    with double(lambda _: http(body)) as (url, heard):
        registry = RemoteRegistry(url, "key", gate_key="0" * 64)
        texts = ["fraud@1", "fraud@sha256:" + "a" * 64]
        wrong = (
            texts
            if said.get("model") != "fraud" or type(said["number"]) is not int
            else [texts[0] if said["number"] == 2 else texts[1]]
        )
        for text in wrong:
            for say in (registry.approve, registry.revoke):
                with pytest.raises(VerificationError) as caught:
                    say(text, SigningKey.generate(), "looked at it")
                assert caught.value.code == "registry.wrong_answer"
        # Nothing was sent but the questions.
        assert all(one.startswith(b"GET ") for one in heard)


def test_what_a_server_says_moves_no_cursor() -> None:
    said = {"code": "gate.denied", "detail": "no\x1b[2K\rok: admitted", "next_step": "\x1b]0;x\x07"}
    body = json.dumps(said).encode()
    with (
        double(lambda _: http(body, "403 Forbidden")) as (url, _),
        pytest.raises(DeniedError) as caught,
    ):
        RemoteRegistry(url, "key").show("fraud@1")
    assert (caught.value.cause + caught.value.next_step).isprintable()


def test_what_is_there_already_is_not_replaced(answers: Answers, tmp_path: Path) -> None:
    for name in ("file", "folder", "link"):
        target = tmp_path / name
        if name == "file":
            target.write_text("mine")
        elif name == "folder":
            target.mkdir()
        else:
            target.symlink_to("nowhere")
        with pytest.raises(InputError) as caught:
            pull(answers, answers.by_text["fraud@1"], target)
        assert caught.value.code == "target.exists"
    assert (tmp_path / "file").read_text() == "mine"
