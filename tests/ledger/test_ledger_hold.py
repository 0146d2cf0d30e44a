"""Those who wait: entries held for company, writers who share a sync, and nobody forgotten."""

from __future__ import annotations

import os
import signal
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable

import pytest

from keepstone.errors import OperationalError
from keepstone.ledger import Ledger, Pending
from keepstone.ledger import committer as committer_module
from keepstone.ledger.sqlite import Batch, SqliteStore

Body = Callable[[int], bytes]


def settled(ledger: Ledger) -> int:
    """The durable size once the committer had every chance to go on."""
    time.sleep(0.05)
    return ledger.durable_size


def test_what_is_held_waits_for_a_flush(ledger: Ledger, body: Body) -> None:
    held = [ledger.append(body(n), hold=True) for n in range(3)]
    assert settled(ledger) == 0
    assert ledger.outstanding == 3
    ledger.flush()
    assert [each.wait(5) for each in held] == [0, 1, 2]


def test_it_goes_with_the_next_that_is_not_held(ledger: Ledger, body: Body) -> None:
    commits: list[int] = []
    ledger.subscribe(lambda size, error: commits.append(size))
    ledger.append(body(0), hold=True)
    ledger.append(body(1)).wait(5)
    assert ledger.durable_size == 2
    assert commits == [2]


def test_whoever_waits_is_not_held_up(ledger: Ledger, body: Body) -> None:
    assert ledger.append(body(0), hold=True).wait(5) == 0


def test_closing_makes_what_is_held_durable(ledger: Ledger, body: Body) -> None:
    pending = ledger.append(body(0), hold=True)
    ledger.close()
    assert pending.durable


def test_a_flush_of_nothing_commits_nothing(ledger: Ledger, body: Body) -> None:
    ledger.flush()
    ledger.append(body(0), hold=True)
    assert settled(ledger) == 0


def test_no_held_entry_is_forgotten_among_many_flushes(ledger: Ledger, body: Body) -> None:
    def work() -> None:
        for n in range(200):
            ledger.append(body(n), hold=True)
            if n % 7 == 0:
                ledger.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    ledger.flush()
    deadline = time.monotonic() + 10
    while ledger.durable_size < 800 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert ledger.durable_size == 800


@pytest.fixture
def slow_commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each commit takes 40 ms; the list gets its number of entries."""
    commits: list[int] = []
    real = SqliteStore.commit

    def commit(store: SqliteStore, batch: Batch) -> None:
        time.sleep(0.04)
        real(store, batch)
        commits.append(len(batch.bodies))

    monkeypatch.setattr(SqliteStore, "commit", commit)
    return commits


def write(ledger: Ledger, body: Body, writers: int, count: int) -> None:
    def work() -> None:
        for n in range(count):
            ledger.append(body(n)).wait(20)

    threads = [threading.Thread(target=work) for _ in range(writers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def test_writers_that_wait_share_one_commit(
    ledger: Ledger, body: Body, slow_commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "MAX_MOMENT", 5.0)
    write(ledger, body, writers=8, count=6)
    # Taking turns would be two commits a round: the first round's stragglers, and the rest.
    assert sum(slow_commits) == 48
    assert len(slow_commits) <= 9, slow_commits


def test_a_moment_is_bounded_when_nobody_comes_back(
    ledger: Ledger, body: Body, slow_commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ledger.append(body(0)), ledger.append(body(1))
    first.wait(5)
    second.wait(5)
    began = time.monotonic()
    write(ledger, body, writers=1, count=5)
    assert time.monotonic() - began < 2
    assert slow_commits[-5:] == [1] * 5
    monkeypatch.setattr(committer_module, "MAX_MOMENT", 60.0)
    threading.Timer(0.01, ledger.append, (body(9),)).start()
    ledger.append(body(8)).wait(5)
    ledger.close()
    assert time.monotonic() - began < 5, "nor is closing held up"


# Waking one another: whoever stops waiting must not take the others' turn along


def test_impatient_writers_strand_nobody(ledger: Ledger, body: Body) -> None:
    waited: list[int] = []

    def patient(pending: Pending) -> int:
        return pending.wait(60)

    def impatient(pending: Pending) -> int:
        while True:
            try:
                return pending.wait(0.0005)
            except OperationalError as error:
                if error.code != "ledger.timeout":
                    raise

    def work(wait: Callable[[Pending], int]) -> None:
        for n in range(30):
            waited.append(wait(ledger.append(body(n))))

    threads = [
        threading.Thread(target=work, args=((patient, impatient)[n % 2],)) for n in range(40)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert sorted(waited) == list(range(1200))


def test_a_wait_that_is_interrupted_strands_nobody(
    ledger: Ledger, body: Body, slow_commits: list[int]
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        others = [threading.Thread(target=ledger.append(body(n)).wait) for n in range(6)]
        for each in others:
            each.start()
        pending = ledger.append(body(6))
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interrupted):
            pending.wait(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    for each in others:
        each.join(10)
        assert not each.is_alive()
    assert pending.wait(10) == 6


def test_leaving_after_being_called_passes_the_call_on(ledger: Ledger) -> None:
    committer = ledger._committer
    mine, other = allocate_lock(), allocate_lock()
    mine.acquire()
    other.acquire()
    # In the row and not called yet: somebody else's call still reaches the other.
    committer._called.extend((mine, other))
    committer._withdraw(0, mine)
    assert list(committer._called) == [other]
    assert other.locked()
    # Called already: the next one is mine to call.
    committer._withdraw(0, mine)
    assert not committer._called
    assert not other.locked()
