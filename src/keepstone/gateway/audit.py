"""The audit trail: one ledger entry per prediction, and answers that wait for it.

strict  no answer to a verified principal leaves before its entry is durable.
group   an answer may leave before, while at most 1,000 entries are outstanding and the oldest
        of them for at most 10 ms; beyond that, requests wait a moment and are then refused.
        Answers that are ready while more requests come in leave together.

A refusal of a principal that got past its own limit is an entry like a prediction's. All other
refusals are counted (see refusals.py) and never wait for the disk. Only this file knows what an
entry's body looks like; only the event loop's thread calls it, save for the one method that the
ledger calls after each commit.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter_ns
from typing import Literal, Protocol

from keepstone.core.canonical import canonical
from keepstone.core.mac import Mac
from keepstone.core.ports import Clock, Randomness
from keepstone.errors import KeepstoneError, OperationalError
from keepstone.gateway.commitment import INPUT, OUTPUT, Period, Periods
from keepstone.gateway.exchange import Exchange
from keepstone.gateway.refusals import RefusalTally, Refused

Mode = Literal["strict", "group"]


class PendingEntry(Protocol):
    """An entry that has its place in the log but may not be durable yet."""

    @property
    def index(self) -> int: ...

    @property
    def entry_id(self) -> str: ...


class AuditLog(Protocol):
    """The ledger, as far as the gateway knows it."""

    def append(self, body: bytes, hold: bool = False) -> PendingEntry:
        """Give the entry its place, without waiting; with `hold`, commit it at `flush`.

        Raises OperationalError when it takes no entries.
        """
        ...

    def flush(self) -> None:
        """Start to commit what is held, without waiting."""
        ...

    def subscribe(
        self, callback: Callable[[int, KeepstoneError | None], None]
    ) -> Callable[[], None]:
        """Call `callback(durable size, error)` after each commit, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """`max_wait_s` bounds how long an answer waits for its entry, `patience_s` how long a request
    in group mode waits for room in the backlog before it is refused, `gather_s` how long an entry
    in group mode waits for others to share its commit, and `together_s` how long an answer does
    to leave with others."""

    mode: Mode = "strict"
    max_outstanding: int = 1000
    max_age_s: float = 0.010
    gather_s: float = 0.006
    together_s: float = 0.001
    patience_s: float = 0.25
    max_wait_s: float = 5.0


def _unavailable() -> OperationalError:
    return OperationalError(
        "audit.unavailable", "The audit trail cannot be written.", "See `keepstone doctor`."
    )


class AuditTrail:
    """Appends entries and tells when they are durable.

    `start` binds it to the running event loop; `stop` flushes and waits for what is outstanding.
    """

    def __init__(
        self,
        log: AuditLog,
        periods: Periods,
        clock: Clock,
        randomness: Randomness,
        options: AuditOptions | None = None,
    ) -> None:
        self.options = options or AuditOptions()
        self.strict = self.options.mode == "strict"
        self.refused = RefusalTally()
        self.lost_refusals = 0
        self._log = log
        self._periods = periods
        self._clock = clock
        # A nonce must only never repeat under one period's key: a random run, then a counter.
        self._run = randomness.token_bytes(16).hex()
        self._counter = 0
        self._period = Period("", b"", 0)
        self._period_name = '""'
        self._period_key = Mac(bytes(32))
        self._quoted = _Quoted()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._durable = 0
        self._next = 0
        self._held = False
        self._held_since = 0.0
        self._error: KeepstoneError | None = None
        self._waiters: deque[tuple[int, float, asyncio.Future[None]]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._came = 0
        # When each outstanding entry was appended, to the millisecond, oldest first.
        self._marks: deque[tuple[int, float]] = deque()

    # Appending

    def append(self, exchange: Exchange, decision: str, status: int, answer: bytes) -> PendingEntry:
        """Write the entry of one request; `answer` is empty where nothing was predicted.

        Raises OperationalError `audit.unavailable` if the log takes no entries.
        """
        now, principal, endpoint = exchange.now, exchange.principal, exchange.endpoint
        if now >= self._period.ends:
            self._enter_period(now)
        self._counter += 1
        nonce = f"{self._run}{self._counter:016x}"
        entry = Mac(self._period_key.digest(nonce.encode("ascii")))
        quote = self._quoted.__getitem__
        admission = "null" if exchange.admission is None else f'"{exchange.admission}"'
        out = f'"{entry.hexdigest(OUTPUT + answer)}"' if answer else "null"
        # RFC 8785 by hand: the members stand in order, and every string is hex or quoted.
        body = (
            f'{{"admission":{admission},"decision":"{decision}",'
            f'"in":"{entry.hexdigest(INPUT + exchange.body)}","in_bytes":{len(exchange.body)},'
            f'"key":{quote("" if principal is None else principal.key_id)},"kind":"prediction",'
            f'"model":{quote("" if endpoint is None else endpoint.name)},"nonce":"{nonce}",'
            f'"out":{out},"out_bytes":{len(answer)},"period":{self._period_name},'
            f'"principal":{quote("" if principal is None else principal.id)},'
            f'"status":{status},"t":{now},"us":{(perf_counter_ns() - exchange.started) // 1000}}}'
        ).encode("ascii")
        return self._append(body)

    def _append(self, body: bytes) -> PendingEntry:
        try:
            pending = self._log.append(body, True)
        except KeepstoneError as error:
            raise _unavailable() from error
        index = pending.index
        self._next = index + 1
        # A commit costs as much as several requests, so entries share one: in strict mode those
        # of one turn of the loop, in group mode those of some milliseconds.
        if self.strict:
            if not self._held and self._loop is not None:
                self._loop.call_soon(self._flush)
            self._held = True
            return pending
        now = monotonic()
        if not self._marks or now - self._marks[-1][1] >= 0.001:
            self._marks.append((index, now))
        if not self._held:
            self._held, self._held_since = True, now
            if self._loop is not None:
                self._loop.call_later(self.options.gather_s, self._flush)
        elif now - self._held_since >= self.options.gather_s:
            # A turn of the loop may be longer than that, and timers only run between turns.
            self._flush()
        return pending

    def _flush(self) -> None:
        if self._held:
            self._held = False
            self._log.flush()

    def refuse(self, reason: str, principal: str | None) -> None:
        """Count a refusal that does not wait: of a stranger, or below a principal's limit."""
        if self.refused.add(reason, principal):
            self._append_refused(Refused(reason, principal, 1))

    def _append_refused(self, refused: Refused) -> None:
        entry = {"kind": "refusals", "t": self._clock.now_ms(), **refused.fields()}
        try:
            self._append(canonical(entry))
        except OperationalError:
            # The answer is a refusal already; that it is not on record is what metrics say.
            self.lost_refusals += refused.count

    def _enter_period(self, now: int) -> None:
        self._period = self._periods.current(now)
        self._period_name = json.dumps(self._period.name, ensure_ascii=True)
        self._period_key = Mac(self._period.key)

    # Waiting

    def durable(self, pending: PendingEntry) -> asyncio.Future[None] | None:
        """What to await before an answer may leave, or None if it may leave now.

        The future fails with OperationalError `audit.unavailable` if the entry is lost, or is
        not durable in time.
        """
        index = pending.index
        if index < self._durable:
            return None
        assert self._loop is not None
        future = self._loop.create_future()
        self._waiters.append((index, monotonic(), future))
        # The committer moves `durable` before it looks for waiters, and we look after adding
        # ourselves: one of the two sees the other.
        if self._error is not None or index < self._durable:
            self._wake()
        return future

    def has_room(self) -> bool:
        """Whether group mode may answer ahead of the disk once more."""
        marks, durable = self._marks, self._durable
        while marks and marks[0][0] < durable:
            marks.popleft()
        if self._next - durable > self.options.max_outstanding:
            return False
        return not marks or monotonic() - marks[0][1] <= self.options.max_age_s

    async def wait_for_room(self) -> bool:
        """Wait until there is room again; False when patience ran out first."""
        assert self._loop is not None
        deadline = monotonic() + self.options.patience_s
        while not self.has_room():
            if monotonic() >= deadline:
                return False
            # One future for all who wait, settled by the next commit or when patience ends.
            room = self._room
            if room is None or room.done():
                room = self._room = self._loop.create_future()
                self._loop.call_later(self.options.patience_s, _settle, room)
            await room
        return True

    def leave(self) -> asyncio.Future[None]:
        """What an answer that does not wait for the disk awaits before it leaves.

        Answers sent one by one wake their clients one by one, and each of those comes back
        alone: that costs both sides more than a prediction does. So answers leave together, as
        soon as a turn of the loop brings no further one; a lone one leaves in the next turn.
        """
        self._came += 1
        if self._leaving is None:
            assert self._loop is not None
            self._leaving = self._loop.create_future()
            self._loop.call_soon(self._let_go, self._came, monotonic() + self.options.together_s)
        return self._leaving

    def _let_go(self, came: int, latest: float) -> None:
        assert self._loop is not None
        if self._came > came and monotonic() < latest:
            self._loop.call_soon(self._let_go, self._came, latest)
            return
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            _settle(leaving)

    @property
    def outstanding(self) -> int:
        """Entries that this trail appended and that are not durable yet."""
        return max(0, self._next - self._durable)

    # The loop and the ledger

    def start(self) -> None:
        """Bind to the running loop and listen to the ledger."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._log.subscribe(self._on_commit)
        self._on_tick()

    async def stop(self) -> None:
        """Record what is still counted, and wait until everything appended is durable.

        Raises OperationalError `audit.unavailable` if that cannot be reached.
        """
        assert self._loop is not None
        for refused in self.refused.close_window(monotonic(), force=True):
            self._append_refused(refused)
        self._log.flush()
        try:
            if self._next > self._durable:
                future = self._loop.create_future()
                self._waiters.append((self._next - 1, monotonic(), future))
                if self._error is not None or self._next <= self._durable:
                    self._wake()
                await future
        finally:
            if self._tick is not None:
                self._tick.cancel()
            if self._unsubscribe is not None:
                self._unsubscribe()

    def _on_commit(self, durable: int, error: KeepstoneError | None) -> None:
        """Called on the ledger's thread, once per commit: two stores and, if needed, one wake."""
        if durable > self._durable:
            self._durable = durable
        self._error = error
        room = self._room is not None and not self._room.done()
        if (error is not None or self._waiters or room) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        durable, waiters = self._durable, self._waiters
        while waiters and waiters[0][0] < durable:
            _settle(waiters.popleft()[2])
        if self._error is not None:
            # All that was on its way is lost; the log takes nothing more until it is resumed,
            # and then what it takes has a fate of its own.
            while waiters:
                _fail(waiters.popleft()[2])
            self._marks.clear()
            self._next = durable
            self._error = None
        if self._room is not None:
            _settle(self._room)

    def _on_tick(self) -> None:
        assert self._loop is not None
        now = monotonic()
        self._tick = self._loop.call_later(0.25, self._on_tick)
        while self._waiters and now - self._waiters[0][1] > self.options.max_wait_s:
            _fail(self._waiters.popleft()[2])
        for refused in self.refused.close_window(now):
            self._append_refused(refused)


class _Quoted(dict[str, str]):
    """JSON strings by what they say. Names of principals and keys come back again and again."""

    def __missing__(self, text: str) -> str:
        if len(self) >= 4096:
            self.clear()
        quoted = self[text] = json.dumps(text, ensure_ascii=True)
        return quoted


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(_unavailable())
