"""The owner's door: for one user, bounded, and errors cross it as they are."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keepstone.errors import (
    DeniedError,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)
from keepstone.workspace import control
from keepstone.workspace.control import ControlServer, ask
from keepstone.workspace.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def _handle(operation: str, arguments: dict[str, Any], uid: int) -> dict[str, Any]:
    kinds = {kind.family: kind for kind in KeepstoneError.__subclasses__()}
    if operation in kinds:
        raise kinds[operation]("some.code", "A cause.", "A step.")
    if operation == "fault":
        raise ZeroDivisionError("ours")
    return {"operation": operation, **arguments}


@pytest.fixture
def server(layout: Layout) -> Iterator[ControlServer]:
    made = ControlServer(layout, _handle)
    yield made
    made.close()


def _connect(layout: Layout) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    while True:
        try:
            with control._socket_address(layout) as address:
                connection.connect(address)
            return connection
        except BlockingIOError:
            time.sleep(0.01)


def test_a_question_is_answered(layout: Layout, server: ControlServer) -> None:
    assert ask(layout, "echo", {"text": "é\n", "n": 3}) == {
        "operation": "echo",
        "text": "é\n",
        "n": 3,
    }


@pytest.mark.parametrize(
    "kind", [InputError, VerificationError, DeniedError, OperationalError], ids=lambda k: k.family
)
def test_an_error_crosses_as_it_is(
    layout: Layout, server: ControlServer, kind: type[KeepstoneError]
) -> None:
    with pytest.raises(kind) as caught:
        ask(layout, kind.family, {})
    assert type(caught.value) is kind
    assert caught.value.exit_code == kind.exit_code
    said = (caught.value.code, caught.value.cause, caught.value.next_step)
    assert said == ("some.code", "A cause.", "A step.")


def test_a_fault_of_the_owner_is_never_a_yes(layout: Layout, server: ControlServer) -> None:
    with pytest.raises(OperationalError) as caught:
        ask(layout, "fault", {})
    assert (caught.value.code, int(caught.value.exit_code)) == ("control.failed", 3)
    assert ask(layout, "still", {}) == {"operation": "still"}


def test_the_door_is_its_owners_alone(layout: Layout, server: ControlServer) -> None:
    assert stat.S_IMODE(layout.socket.stat().st_mode) == 0o600


def test_the_mode_of_other_files_is_left_alone(layout: Layout) -> None:
    before = os.umask(0o022)
    try:
        ControlServer(layout, _handle).close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


STRANGER = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(10)
connection.connect("/proc/self/fd/" + sys.argv[1] + "/control.sock")
print("at the door")
try:
    connection.sendall(b'{"operation": "echo", "arguments": {}}\\n')
    answer = connection.recv(100)
except (BrokenPipeError, ConnectionResetError):
    answer = b""
sys.exit(9 if answer else 0)
"""


def test_another_user_is_not_answered(layout: Layout) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    asked: list[str] = []

    def handle(operation: str, arguments: dict[str, Any], uid: int) -> dict[str, Any]:
        asked.append(operation)
        return {}

    server = ControlServer(layout, handle)
    # Were the folder and the socket open to all, there would still be the look at who asks.
    layout.root.chmod(0o711)
    layout.socket.chmod(0o666)
    folder = os.open(layout.root, os.O_PATH)
    try:
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, str(folder)],
            pass_fds=[folder],
            capture_output=True,
            check=False,
        )
    finally:
        os.close(folder)
        server.close()
    assert (done.returncode, done.stdout) == (0, b"at the door\n"), done.stderr
    assert asked == []


def test_who_is_neither_the_owner_nor_root_is_refused(
    layout: Layout, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as above without root: the peer is said to be somebody else."""
    monkeypatch.setattr(control.struct, "unpack", lambda *given: (1, os.geteuid() + 1, 1))
    with pytest.raises(OperationalError) as caught:
        ask(layout, "echo", {})
    assert caught.value.code == "control.broken"


def test_a_client_that_stalls_keeps_nobody_waiting(layout: Layout, server: ControlServer) -> None:
    stalled = [_connect(layout) for _ in range(20)]
    stalled[0].sendall(b'{"operation": ')
    began = time.monotonic()
    assert ask(layout, "revoke", {}) == {"operation": "revoke"}
    assert time.monotonic() - began < 2
    for connection in stalled:
        connection.close()


def test_a_handler_that_is_slow_keeps_nobody_else_waiting(layout: Layout) -> None:
    go = threading.Event()

    def handle(operation: str, arguments: dict[str, Any], uid: int) -> dict[str, Any]:
        if operation == "slow":
            assert go.wait(20)
        return {"did": operation}

    server = ControlServer(layout, handle)
    slow: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: slow.append(ask(layout, "slow", {})))
    thread.start()
    assert ask(layout, "quick", {}) == {"did": "quick"}
    assert slow == []
    go.set()
    thread.join()
    server.close()
    assert slow == [{"did": "slow"}]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b'{"operation": 7, "arguments": {}}',
        b'{"operation": "echo"}',
        b'{"operation": "echo", "arguments": []}',
        b'{"operation": "a", "operation": "b", "arguments": {}}',
        b'{"operation": "a", "arguments": {"n": NaN}}',
        b"\xff\xfe",
        b"GET / HTTP/1.1",
    ],
)
def test_what_is_no_request_gets_an_error(
    layout: Layout, server: ControlServer, line: bytes
) -> None:
    with _connect(layout) as connection:
        connection.sendall(line + b"\n")
        fault = json.loads(connection.makefile("rb").readline())["error"]
    assert fault["family"] == "input"
    assert fault["code"].startswith(("control.malformed", "json."))


def test_a_request_without_end_is_cut_off(layout: Layout, server: ControlServer) -> None:
    with _connect(layout) as connection:
        try:
            for _ in range(64):
                connection.sendall(b"x" * 65536)
        except OSError:
            pass
        else:
            pytest.fail("4 MiB were taken in")
    assert ask(layout, "still", {}) == {"operation": "still"}


def test_a_large_answer_arrives(layout: Layout) -> None:
    server = ControlServer(layout, lambda operation, arguments, uid: {"text": "x" * (5 << 20)})
    assert len(ask(layout, "much", {})["text"]) == 5 << 20
    server.close()


def test_nobody_at_the_door_is_said(layout: Layout, code: Callable[..., str]) -> None:
    assert code(ask, layout, "echo", {}) == "control.no_owner/3"


def test_a_socket_that_a_dead_owner_left_is_in_nobodys_way(
    layout: Layout, code: Callable[..., str]
) -> None:
    with socket.socket(socket.AF_UNIX) as left, control._socket_address(layout) as address:
        left.bind(address)
    assert layout.socket.is_socket()
    assert code(ask, layout, "echo", {}) == "control.no_owner/3"
    server = ControlServer(layout, _handle)
    assert ask(layout, "echo", {}) == {"operation": "echo"}
    server.close()
    assert not layout.socket.exists()


def test_a_queue_that_is_full_reads_as_nobody(layout: Layout, code: Callable[..., str]) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        with control._socket_address(layout) as address:
            busy.bind(address)
        busy.listen(0)
        waiting = []
        for _ in range(8):
            connection = socket.socket(socket.AF_UNIX)
            connection.setblocking(False)
            waiting.append(connection)
            try:
                with control._socket_address(layout) as address:
                    connection.connect(address)
            except BlockingIOError:
                break
        else:
            pytest.fail("the queue never filled up")
        # It waits on a socket with a time limit as long as that; see `ask`.
        assert code(ask, layout, "echo", {}) == "control.no_owner/3"
        for connection in waiting:
            connection.close()


def test_an_owner_that_dies_meanwhile_leaves_an_error(
    layout: Layout, code: Callable[..., str]
) -> None:
    with socket.socket(socket.AF_UNIX) as dying:
        with control._socket_address(layout) as address:
            dying.bind(address)
        dying.listen()

        def die() -> None:
            connection, _ = dying.accept()
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=die)
        thread.start()
        assert code(ask, layout, "echo", {}) == "control.broken/3"
        thread.join()


def test_a_workspace_may_lie_deeper_than_a_socket_address_is_long(tmp_path: Path) -> None:
    deep = Layout(tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8))
    deep.root.mkdir(parents=True)
    assert len(str(deep.socket)) > 107
    server = ControlServer(deep, _handle)
    assert ask(deep, "echo", {}) == {"operation": "echo"}
    server.close()
