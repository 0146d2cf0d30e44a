"""One thread that makes entries durable, many at a time.

Callers enqueue under a lock held for well under a microsecond and get their index at once.
The committer takes everything that waits, writes it as one commit, and only then tells: first
`durable` moves, then sleeping waiters wake, then subscribers hear of it, once per commit. A
commit that fails ends the committer: everything not durable fails, and so does every later
append. A ledger that resumes does so with a new committer, so an entry of the old one can
never be taken for one of the new that got its index.
"""

from __future__ import annotations

import contextlib
import threading
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from keepstone.errors import KeepstoneError, OperationalError
from keepstone.ledger.entry import INDEXED, EntryHead, entry_id, read_head
from keepstone.ledger.rows import write_error
from keepstone.ledger.sqlite import Batch, SqliteStore
from keepstone.ledger.tiles import Tail
from keepstone.ledger.tree import leaf_hash

MAX_BATCH_ENTRIES = 4096
MAX_BATCH_BYTES = 1 << 20
# Seconds: how long a commit waits for those who just got their answer, at most.
MAX_MOMENT = 0.002
# How many of those whose outcome is known are woken at once.
CALLERS = 2

Subscriber = Callable[[int, KeepstoneError | None], None]
_Queued = tuple[bytes, bytes, EntryHead]


class Pending:
    """An entry on its way to the disk. It is acknowledged only once `wait` returns."""

    __slots__ = ("_committer", "index", "leaf")

    def __init__(self, index: int, leaf: bytes, committer: Committer) -> None:
        self.index = index
        self.leaf = leaf
        self._committer = committer

    @property
    def entry_id(self) -> str:
        return entry_id(self.index, self.leaf)

    @property
    def durable(self) -> bool:
        """Whether the entry is on the disk. False says nothing about why not."""
        return self.index < self._committer.durable

    def wait(self, timeout: float | None = None) -> int:
        """Return the index once the entry is durable.

        Raises OperationalError: `ledger.disk_full` or `ledger.not_durable` if it never will be,
        `ledger.timeout` if it is not yet after `timeout` seconds.
        """
        if self.index >= self._committer.durable:
            self._committer.wait_for(self.index, timeout)
        return self.index


class Committer:
    """Owns the queue and the right edge of the tree from one open of the store to its end."""

    def __init__(
        self, store: SqliteStore, tail: Tail, newest: int, subscribers: list[Subscriber]
    ) -> None:
        self._store = store
        self._subscribers = subscribers
        self._mutex = threading.Lock()
        self._wake = allocate_lock()
        self._wake.acquire()
        self._idle = False
        self._due = False
        self._closing = False
        self._company = 0
        self._moment = 0.0
        self._waiters: list[tuple[int, LockType]] = []
        self._called: deque[LockType] = deque()
        self._queue: list[_Queued] = []
        self._queued_at = 0.0
        self._taken_at: float | None = None
        self._next = tail.size
        self.newest = newest
        self.tail = tail
        self.durable = tail.size
        self.error: KeepstoneError | None = None
        self._thread = threading.Thread(target=self._run, name="keepstone-ledger", daemon=True)
        self._thread.start()

    def append(self, body: bytes, hold: bool = False) -> Pending:
        """Enqueue one entry and assign its index. Never blocks on the disk.

        With `hold` it goes to the disk with the next entry that is not held, or at `flush`.
        """
        head = read_head(body)
        leaf = leaf_hash(body)
        with self._mutex:
            if self.error is not None or self._closing:
                raise self._refusal()
            index = self._next
            self._next = index + 1
            if not self._queue:
                self._queued_at = monotonic()
            self._queue.append((body, leaf, head))
            if not hold:
                self._begin()
        return Pending(index, leaf, self)

    def flush(self) -> None:
        """Commit what is held, as soon as the commit under way is done. Never blocks."""
        with self._mutex:
            if self._queue:
                self._begin()

    def _begin(self) -> None:
        """Let the thread take the queue. The caller holds the mutex."""
        self._due = True
        if self._idle and (len(self._queue) >= self._company or self._closing):
            self._idle = False
            self._wake.release()

    def _refusal(self) -> KeepstoneError:
        if self.error is None:
            return OperationalError("ledger.closed", "The ledger is closed.", "Open it again.")
        return OperationalError(
            "ledger.stopped",
            f"The ledger stopped taking entries: {self.error.cause}",
            self.error.next_step,
        )

    @property
    def outstanding(self) -> int:
        """Entries appended and not durable; 0 once stopped, when nothing is on its way."""
        return 0 if self.error is not None else self._next - self.durable

    @property
    def oldest_outstanding_ms(self) -> float:
        """How long the oldest entry that is not durable has been on its way."""
        with self._mutex:
            if not self.outstanding:
                return 0.0
            since = self._queued_at if self._taken_at is None else self._taken_at
            return (monotonic() - since) * 1000.0

    def wait_for(self, index: int, timeout: float | None) -> None:
        """Block until entry `index` is durable; see `Pending.wait`."""
        gate = allocate_lock()
        gate.acquire()
        with self._mutex:
            if index < self.durable:
                return
            if self.error is None:
                self._waiters.append((index, gate))
                self._begin()
            else:
                raise _again(self.error)
        try:
            answered = gate.acquire(timeout=-1 if timeout is None else timeout)
        except BaseException:
            self._withdraw(index, gate)
            raise
        if answered:
            self._call_next()
        else:
            self._withdraw(index, gate)
        if index < self.durable:
            return
        if self.error is not None:
            raise _again(self.error)
        raise OperationalError(
            "ledger.timeout",
            f"Entry {index} is not durable after {timeout} seconds.",
            "Wait longer, and look at the disk's load.",
        )

    def _call_next(self) -> None:
        """Wake the next of those whose outcome is known; everybody woken wakes one more.

        Waking all at once would set them against each other for the interpreter's lock, and cost
        about as much again as the commit.
        """
        with contextlib.suppress(IndexError):
            self._called.popleft().release()

    def _withdraw(self, index: int, gate: LockType) -> None:
        """Stop waiting. Whoever was called already must still call the next."""
        with self._mutex:
            if (index, gate) in self._waiters:
                self._waiters.remove((index, gate))
                return
        try:
            self._called.remove(gate)
        except ValueError:
            self._call_next()

    def close(self) -> None:
        """Make everything appended durable, then end the thread. Later appends are refused."""
        with self._mutex:
            self._closing = True
            self._begin()
        self._thread.join()

    def _run(self) -> None:
        while self._take_turn():
            pass

    def _take_turn(self) -> bool:
        """Commit all that is due, or sleep until something is. False ends the thread."""
        self._linger()
        with self._mutex:
            queue: list[_Queued] = []
            if self._queue and self._due:
                queue, self._queue = self._queue, queue
                self._taken_at = self._queued_at
            elif self._closing:
                return False
            else:
                self._idle, self._company = True, 0
            self._due = self._closing
        if not queue:
            self._wake.acquire()
            return True
        done = all(self._commit(chunk) for chunk in _chunks(queue))
        self._taken_at = None
        return done

    def _linger(self) -> None:
        """Give writers just acknowledged a moment to come back, so that one sync serves all.

        Without it, writers that each wait for their own entry fall into two halves that take
        turns, and each pays for the other's sync. Ends as soon as all of them are there, and
        lasts no longer than the sync that it may save.
        """
        with self._mutex:
            if len(self._queue) >= self._company or self._closing:
                return
            self._idle = True
        if self._wake.acquire(timeout=self._moment):
            return
        with self._mutex:
            if self._idle:
                self._idle = False
            else:
                self._wake.acquire()

    def _commit(self, chunk: Sequence[_Queued]) -> bool:
        try:
            bodies, leaves, heads = zip(*chunk, strict=True)
            first = self.durable
            newest = max(self.newest, max(head.t for head in heads))
            keys = [
                (key, number)
                for number, head in enumerate(heads, first)
                if head.kind in INDEXED
                for key in head.keys
            ]
            tail, tiles = self.tail.extended(leaves)
            began = monotonic()
            self._store.commit(Batch(first, bodies, newest, tiles, keys))
            self._moment = min(monotonic() - began, MAX_MOMENT)
        except Exception as error:  # noqa: BLE001 - a thread's edge: any failure must stop it
            self._publish(self.tail, self.newest, write_error(error))
            return False
        self._publish(tail, newest, None)
        return True

    def _publish(self, tail: Tail, newest: int, error: KeepstoneError | None) -> None:
        """Tell the outcome of a commit: the state first, then waiters, then subscribers."""
        with self._mutex:
            self.tail, self.newest, self.error = tail, newest, error
            self.durable = durable = tail.size
            waiters, self._waiters = self._waiters, []
            for index, gate in waiters:
                if index < durable or error is not None:
                    self._called.append(gate)
                else:
                    self._waiters.append((index, gate))
            self._company = len(waiters) - len(self._waiters) + len(self._queue)
        for _ in range(CALLERS):
            self._call_next()
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(durable, error)
            except Exception as failure:  # noqa: BLE001 - a thread's edge
                # A subscriber that died (its event loop closed) must not end durability for
                # all the others: it is dropped, and the failure is reported as a thread's is.
                self._subscribers.remove(subscriber)
                threading.excepthook(
                    threading.ExceptHookArgs(
                        (type(failure), failure, failure.__traceback__, threading.current_thread())
                    )
                )


def _chunks(queue: list[_Queued]) -> Iterator[list[_Queued]]:
    """Cut the queue into what one commit may hold: by count, and by bytes."""
    chunk: list[_Queued] = []
    total = 0
    for item in queue:
        total += len(item[0])
        if chunk and (total > MAX_BATCH_BYTES or len(chunk) >= MAX_BATCH_ENTRIES):
            yield chunk
            chunk, total = [], len(item[0])
        chunk.append(item)
    yield chunk


def _again(error: KeepstoneError) -> KeepstoneError:
    """A fresh exception for each waiter: raising one object in many threads mixes tracebacks."""
    return type(error)(error.code, error.cause, error.next_step)
