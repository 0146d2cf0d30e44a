"""One process owns a workspace, and the kernel, not a file, says which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keepstone.workspace.owner import own

HOLD = """
import sys
from pathlib import Path
from keepstone.workspace.layout import Layout
from keepstone.workspace.owner import own
with own(Layout(Path(sys.argv[1]))):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(home: Any) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the workspace."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.layout.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def test_a_second_owner_is_told_who_is_the_first(
    home: Any, other: subprocess.Popen[str], code: Callable[..., str]
) -> None:
    assert code(home.open().__enter__) == "workspace.owned/3"
    with pytest.raises(Exception, match=f"Process {other.pid} owns"):
        home.open().__enter__()


def test_readers_are_not_kept_out(home: Any, other: subprocess.Popen[str]) -> None:
    from keepstone.workspace.reading import read_workspace, verify_ledger_of

    with read_workspace(home.site) as view:
        assert view.policy.profile == "local"
    assert verify_ledger_of(home.site).errors == ()


def test_a_kill_frees_the_lock(home: Any, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    # The lock's file and what it says are still there, and mean nothing.
    assert home.layout.lock.read_text() == str(other.pid)
    with home.open() as workspace:
        assert home.layout.lock.read_text() == str(os.getpid())
        workspace.record_event("tested", {})


def test_an_owner_can_be_waited_for(home: Any, other: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match="owns"), own(home.layout, patience=0.1):
        pass
    assert time.monotonic() - began >= 0.1
    assert other.stdin is not None
    other.stdin.close()
    with own(home.layout, patience=10):
        pass


def test_the_lock_is_free_after_whatever_happened(home: Any) -> None:
    with pytest.raises(ZeroDivisionError), home.open():
        raise ZeroDivisionError
    with home.open(), pytest.raises(Exception, match="owns"), own(home.layout):
        pass


def test_a_lock_that_cannot_be_made_is_an_error_with_a_code(
    home: Any, code: Callable[..., str]
) -> None:
    home.layout.lock.unlink(missing_ok=True)
    home.layout.lock.mkdir()

    assert code(own(home.layout).__enter__) == "file.unwritable/3"
