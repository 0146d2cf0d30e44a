"""Entries that wait for company: held, not lost, and never held against who waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from keepstone.ledger import Ledger
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
