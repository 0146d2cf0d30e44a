"""The ledger, as its one owner holds it: append, read, prove, checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from keepstone.core.ports import Clock, SystemClock
from keepstone.errors import KeepstoneError, VerificationError
from keepstone.identity.signing import SigningKey
from keepstone.ledger.checkpoint import (
    Checkpoint,
    check_origin,
    parse_checkpoint,
    sign_checkpoint,
)
from keepstone.ledger.committer import Committer, Pending, Subscriber
from keepstone.ledger.proof import EntryProof
from keepstone.ledger.reader import LedgerReader
from keepstone.ledger.rows import corrupt
from keepstone.ledger.sqlite import SqliteStore, create_file


class Ledger:
    """An append-only log of entries in one file, owned by this process.

    Promises: an acknowledged entry (`Pending.wait` returned, or a subscriber was told a durable
    size beyond its index) survives a crash and a power cut. After a failed sync or on a full
    disk the ledger stops acknowledging and says so, until it is opened anew or `resume`d. It
    never signs two checkpoints that contradict each other. Thread-safe.

    One process owns a ledger; the workspace's lock sees to that. A second writer that got past
    it is refused by the store, never merged.
    """

    def __init__(self, path: Path, origin: str, key: SigningKey, clock: Clock) -> None:
        self.path = path
        self.origin = check_origin(origin)
        self._key = key
        self._clock = clock
        self._subscribers: list[Subscriber] = []
        self._lifecycle = threading.Lock()
        self._closed = False
        self._start()

    @classmethod
    def create(
        cls, path: Path, *, origin: str, key: SigningKey, clock: Clock | None = None
    ) -> Ledger:
        """Make an empty ledger at `path` (mode 0600) and open it. Raises `ledger.exists`."""
        create_file(path, check_origin(origin))
        return cls(path, origin, key, clock or SystemClock())

    @classmethod
    def open(
        cls, path: Path, *, origin: str, key: SigningKey, clock: Clock | None = None
    ) -> Ledger:
        """Open the ledger at `path` to append to it.

        `key` (Ed25519) signs checkpoints. Checks that the stored hashes lead to the newest
        stored checkpoint; `verify_ledger` checks all. Raises InputError `ledger.missing` or
        `ledger.newer_version`, VerificationError `ledger.corrupt` or `ledger.wrong_origin`,
        OperationalError `ledger.unreadable`.
        """
        return cls(path, origin, key, clock or SystemClock())

    def _start(self) -> None:
        store = SqliteStore(self.path)
        try:
            reader = LedgerReader(store.rows)
            if reader.origin != self.origin:
                raise VerificationError(
                    "ledger.wrong_origin",
                    f"The ledger at {self.path} is {reader.origin}, not {self.origin}.",
                    "Open it with the workspace it belongs to.",
                )
            tail = reader.tail()
            _check_newest_checkpoint(reader)
            newest = reader.newest_time()
        except BaseException:
            store.close()
            raise
        self._store = store
        self.reader = reader
        self._committer = Committer(store, tail, newest, self._subscribers)

    # Appending

    def append(self, body: bytes, hold: bool = False) -> Pending:
        """Enqueue one entry (see `ledger.entry`); its index is assigned at once.

        Never waits for the disk: nothing is acknowledged until `Pending.wait` returns or a
        subscriber hears of a durable size beyond the index. With `hold` the entry waits for
        company: it is committed with the next one that is not held, at `flush`, or when somebody
        waits for it. Raises InputError `entry.*`, OperationalError `ledger.stopped` or
        `ledger.closed`.
        """
        return self._committer.append(body, hold)

    def flush(self) -> None:
        """Start to commit what is held. Never waits for the disk."""
        self._committer.flush()

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback(durable_size, error)` after each commit; returns what undoes that.

        It runs on the committer's thread and must return at once (an event loop passes on to
        `call_soon_threadsafe`). Without an error, every entry with an index below
        `durable_size` is durable. With one, everything outstanding failed, and after a
        `resume` the indexes from `durable_size` on are given out again.
        """
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    @property
    def durable_size(self) -> int:
        """The number of entries that are on the disk."""
        return self._committer.durable

    @property
    def outstanding(self) -> int:
        """The number of entries appended and not durable yet."""
        return self._committer.outstanding

    @property
    def oldest_outstanding_ms(self) -> float:
        """How long the oldest entry that is not durable has been on its way, 0 if none is."""
        return self._committer.oldest_outstanding_ms

    @property
    def stopped(self) -> KeepstoneError | None:
        """Why the ledger takes no more entries, or None while it does."""
        return self._committer.error

    # Checkpoints

    def head(self) -> Checkpoint:
        """Size and root of all that is durable now, unsigned. Costs some 100 us."""
        tail = self._committer.tail
        return Checkpoint(self.origin, tail.size, tail.root())

    def checkpoint(self) -> str:
        """The signed checkpoint of all that is durable now; stored before it is returned.

        Waits for the disk unless this head is stored already. Raises `ledger.disk_full` or
        `ledger.not_durable`.
        """
        head = self.head()
        note = sign_checkpoint(head, self._key)
        stored = self._store.rows.checkpoint(head.size)
        # Ed25519 signs deterministically: the same head under the same key is the same note.
        if stored is None or stored != (head.size, note):
            self._store.put_checkpoint(head.size, note, self._clock.now_ms())
        return note

    def prove(self, index: int, size: int | None = None) -> EntryProof:
        """The proof of entry `index` under a signed checkpoint.

        By default under the newest stored checkpoint, and if that does not reach the entry,
        under a new one; with `size`, under the checkpoint of exactly that many entries. Raises
        InputError `ledger.no_such_entry`.
        """
        if size is not None:
            root = self.reader.root_at(size)
            note = sign_checkpoint(Checkpoint(self.origin, size, root), self._key)
            return self.reader.prove_under(index, size, note)
        stored = self._store.rows.checkpoint(self.durable_size)
        if stored is not None and stored[0] > index:
            return self.reader.prove_under(index, *stored)
        self.body(index)
        note = self.checkpoint()
        return self.reader.prove_under(index, parse_checkpoint(note).size, note)

    # Reading what is durable

    def body(self, index: int) -> bytes:
        """The body of durable entry `index`. Raises InputError `ledger.no_such_entry`."""
        return self.reader.body(index)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Each durable `(index, body)` from `start` to before `stop`, in order."""
        return self.reader.entries(start, stop)

    def indexed(self, key: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Each durable `(index, body)` under a key (`statement`, `event`, `registry`), in order."""
        return self.reader.indexed(key, start)

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """The RFC 6962 proof that the tree of `old` entries is a prefix of that of `new`."""
        return self.reader.consistency(old, new)

    def newest_time(self) -> int:
        """The latest time (ms) of any durable entry, 0 in an empty ledger."""
        return self._committer.newest

    # Ending and resuming

    def resume(self) -> None:
        """Take entries again after a stop, once its cause is mended; else does nothing.

        What failed stays failed: its indexes go to new entries. (An unacknowledged entry may
        turn out to be on the disk after all; it then keeps its index.) Raises what `open` does,
        and stays stopped.
        """
        with self._lifecycle:
            if self._committer.error is None or self._closed:
                return
            self._committer.close()
            # The new store opens before the old one closes: a resume that fails leaves what is
            # durable readable, and the shared index of the log never forgets a failed commit.
            old = self._store
            self._start()
            old.close()

    def close(self) -> None:
        """Make everything durable, store a checkpoint of it, and let go of the file.

        A second close does nothing.
        """
        with self._lifecycle:
            if self._closed:
                return
            self._closed = True
            self._committer.close()
            try:
                if self._committer.error is None and self.durable_size:
                    self.checkpoint()
            finally:
                self._store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check_newest_checkpoint(reader: LedgerReader) -> None:
    """Refuse to build on a tree that contradicts what was signed."""
    newest = reader.rows.checkpoint()
    if newest is None:
        return
    size, note = newest
    if size > reader.size():
        raise corrupt(f"The ledger has {reader.size()} entries, and a checkpoint of {size}.")
    if parse_checkpoint(note).root != reader.root_at(size):
        raise corrupt(f"The ledger's entries do not lead to its checkpoint of {size} entries.")
