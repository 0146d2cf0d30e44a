"""The tests themselves cannot reach a network, so a green run needs none."""

from __future__ import annotations

import asyncio
import socket
import warnings

import pytest
from pytest_socket import SocketBlockedError, SocketConnectBlockedError


def test_a_plain_test_opens_no_socket() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SocketBlockedError):
            socket.socket(socket.AF_INET)
        with pytest.raises(SocketBlockedError):
            socket.create_connection(("127.0.0.1", 9))


def test_a_plain_test_may_run_an_event_loop() -> None:
    async def answer() -> int:
        return 42

    assert asyncio.run(answer()) == 42


@pytest.mark.loopback
def test_the_marker_opens_loopback_and_nothing_else() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        socket.create_connection(listener.getsockname()).close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SocketConnectBlockedError):
            # RFC 5737: an address that is no machine's.
            socket.create_connection(("192.0.2.1", 9))
