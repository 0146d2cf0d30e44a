"""The registry's pages in the ledger: the state that follows from them, and how to add one.

The ledger is the registry's only truth. What is durable there happened, in its order; there is
nothing else to keep in step, and nothing else to tamper with.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keepstone.core.ports import Clock
from keepstone.core.subject import Subject
from keepstone.errors import OperationalError
from keepstone.ledger import EntryId, Kind, Ledger, LedgerReader, make_entry
from keepstone.ledger.tree import leaf_hash
from keepstone.vault.registry.catalogue import Catalogue, inconsistent
from keepstone.vault.registry.records import Record, record_body

_DURABLE_S = 20.0
# Longer than any change waits for its disk; a collection of very much may take longer.
_PATIENCE_S = 30.0
KEY = "registry"


def read_catalogue(reader: LedgerReader) -> Catalogue:
    """The catalogue of a ledger, read-only. Raises VerificationError `ledger.corrupt`."""
    return Catalogue().extended(reader.indexed_and_checked(KEY))


class Book:
    """Every registry record of an owned ledger. Any thread may read; `writing` orders writers.

    The records are read when somebody first asks: most commands never do.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._known: Catalogue | None = None
        # A write failed, and may yet turn out to be on the disk.
        self._in_doubt = False
        self._read_at = -1
        self._reading = threading.Lock()
        self._writing = threading.RLock()
        self._arriving: Counter[Subject] = Counter()

    def catalogue(self) -> Catalogue:
        """All that is durable. Raises OperationalError `registry.unreadable`."""
        with self._reading:
            size = self._ledger.durable_size
            # In doubt, only what became durable since can be what was doubted.
            if self._known is None or (self._in_doubt and size != self._read_at):
                self._known, self._read_at = read_catalogue(self._ledger.reader), size
            known = self._known
        return known.require_readable()

    @contextmanager
    def writing(self) -> Iterator[Catalogue]:
        """Hold back other writers for the block, which looks, decides and writes.

        Raises OperationalError `registry.busy` where another one takes too long.
        """
        if not self._writing.acquire(timeout=_PATIENCE_S):
            raise OperationalError(
                "registry.busy", "The registry is busy with another change.", "Try again."
            )
        try:
            yield self.catalogue()
        finally:
            self._writing.release()

    def write(self, record: Record) -> EntryId:
        """Make `record` durable and take it into the catalogue. Only inside `writing`.

        What does not fit is refused before it is written. Raises InputError
        `registry.inconsistent`, `registry.malformed`; OperationalError `ledger.*`.
        """
        before, in_doubt = self.catalogue(), self._in_doubt
        body = record_body(record, self._clock.now_ms())
        # Tried first: an entry that the fold refuses would end the registry for everybody.
        tried = before.extended([(self._ledger.durable_size, body)])
        if tried.fault is not None:
            raise inconsistent(tried.fault.cause)
        try:
            index = self._ledger.append(body).wait(_DURABLE_S)
        except BaseException:
            self._in_doubt = True
            raise
        with self._reading:
            # Entries are durable in order: what failed before is on the disk by now, or never.
            self._known = None if in_doubt else before.extended([(index, body)])
            self._in_doubt = False
        return EntryId.of(index, leaf_hash(body))

    def note(self, fields: Mapping[str, Any]) -> EntryId:
        """Record who asked for what, and how that was answered; durable on return."""
        body = make_entry(Kind.ACCESS, self._clock.now_ms(), fields)
        return EntryId.of(self._ledger.append(body).wait(_DURABLE_S), leaf_hash(body))

    @contextmanager
    def arriving(self, subject: Subject) -> Iterator[None]:
        """Say for the block that these bytes are on their way in: nothing collects them."""
        with self._writing:
            self._arriving[subject] += 1
        try:
            yield
        finally:
            with self._writing:
                self._arriving[subject] -= 1
                # A Counter keeps zeros.
                self._arriving += Counter()

    def arrivals(self, subject: Subject) -> int:
        """How many pushes of it are under way. Only inside `writing`."""
        return self._arriving[subject]
