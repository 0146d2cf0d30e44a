"""What a scanner sees: bytes that do not move while it looks, and what it may still spend.

A view is a file, or a member somewhere inside one. A scanner that finds something inside hands
it to `inside`, which judges it as if it were a file of its own, under the same allowance.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding
from keepstone.errors import InputError, OperationalError
from keepstone.files import write_all
from keepstone.scan.allowance import MAX_DEPTH, Allowance
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.rules import finding, printable

# Up to this size a file is read into memory, which nobody else can change; larger ones are
# mapped, and looked at again at the end.
_IN_MEMORY = 32 << 20
_STEP = 16 << 20


@dataclass(frozen=True)
class View:
    """Bytes to judge. `path` names the file; `member` the place inside it, None for all of it.

    `judge` is how anything found inside is judged; `source` is the file's open descriptor where
    the view is the whole file. `allowed` are the names that pickles may use beyond those that
    ship.
    """

    path: str
    data: memoryview
    allowance: Allowance
    judge: Judge
    member: str | None = None
    depth: int = 0
    source: int | None = None
    allowed: tuple[Added, ...] = ()
    hashing: Future[Digest] | None = None

    @cached_property
    def sha256(self) -> Digest:
        """The digest of the bytes, computed once; for a large file begun when it was opened."""
        return Digest.of(self.data) if self.hashing is None else self.hashing.result()

    def release(self, start: int, end: int) -> None:
        """These bytes of a mapped file were read; its pages need not stay in memory."""
        if isinstance(self.data.obj, mmap.mmap) and self.source is not None:
            _release(self.data.obj, start, end)

    def finding(
        self, rule: str, message: str, offset: int | None = None, inside: str | None = None
    ) -> Finding:
        """What `rule` saw here, or in the part of it that `inside` names."""
        member = self.member if inside is None else self.under(inside)
        return finding(rule, message, self.path, offset, member)

    def unseen(self, reason: str, inside: str | None = None) -> Finding:
        """This, or the part of it that `inside` names, was not judged: why."""
        return self.finding("scan.not_evaluated", reason, None, inside)

    def under(self, name: str) -> str:
        """How reports name a part of this view."""
        return printable(name if self.member is None else f"{self.member} > {name}", 400)

    def nested(self, name: str, data: memoryview) -> View:
        """The part `data` of this view as a view of its own."""
        member, deeper = self.under(name), self.depth + 1
        return View(
            self.path, data, self.allowance, self.judge, member, deeper, allowed=self.allowed
        )

    def inside(self, name: str, data: memoryview) -> Iterator[Finding]:
        """Judge a part as if it were a file of its own."""
        part = self.nested(name, data)
        if part.depth > MAX_DEPTH:
            yield part.unseen("Containers are nested deeper than the limit.")
        else:
            yield from self.judge(part)

    @contextmanager
    def descriptor(self) -> Iterator[int]:
        """An open descriptor of a file that holds these bytes, for a child process."""
        if self.source is not None:
            yield self.source
            return
        made = os.memfd_create("keepstone-member", os.MFD_CLOEXEC)
        try:
            write_all(made, self.data)
            yield made
        finally:
            os.close(made)


# Judges a view, whatever it is: its findings, or none where it is clean. Never raises.
Judge = Callable[[View], Iterator[Finding]]
# Judges a view of one format. It may raise: what calls it then says that it was not evaluated.
Scanner = Callable[[View], Iterator[Finding]]


@contextmanager
def open_view(
    path: Path,
    shown: str,
    judge: Judge,
    allowed: tuple[Added, ...] = (),
    known: Digest | None = None,
) -> Iterator[View]:
    """Open a regular file for scanning.

    `known` is the digest that a large file has by the caller's word: it is not hashed again.
    Raises InputError `scan.unreadable` (also for what is not a regular file), OperationalError
    `scan.changed` where the file changed while it was scanned.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        # A look before the open: opening a device can itself do something.
        regular = stat.S_ISREG(path.stat().st_mode)
        descriptor = os.open(path, flags) if regular else -1
    except OSError as error:
        raise _unreadable(shown, error.strerror) from error
    if descriptor < 0:
        raise _unreadable(shown, "not a regular file")
    try:
        before = _state(descriptor, shown)
        with _content(descriptor, shown, before[0]) as data, _hashing(data, known) as hashing:
            yield View(
                shown, data, Allowance(), judge, None, 0, descriptor, allowed, hashing=hashing
            )
        if _state(descriptor, shown) != before:
            raise OperationalError(
                "scan.changed", f"{shown} changed while it was scanned.", "Scan it again."
            )
    finally:
        os.close(descriptor)


def _state(descriptor: int, shown: str) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(shown, "not a regular file")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def _content(descriptor: int, shown: str, size: int) -> Iterator[memoryview]:
    if size <= _IN_MEMORY:
        try:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(_IN_MEMORY + 1)
        except OSError as error:
            raise _unreadable(shown, error.strerror) from error
        yield memoryview(data)
        return
    # Never closed by hand: what a scanner still holds would forbid it.
    yield memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))


@contextmanager
def _hashing(data: memoryview, known: Digest | None) -> Iterator[Future[Digest] | None]:
    """Hash a mapped file on a thread of its own, while scanners look at it."""
    mapped = data.obj
    if not isinstance(mapped, mmap.mmap):
        yield None
        return
    if known is not None:
        told: Future[Digest] = Future()
        told.set_result(known)
        yield told
        return
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(_hash_mapped, mapped, stop)
        finally:
            # Nobody who still wants the digest leaves without it.
            stop.set()


def _hash_mapped(mapped: mmap.mmap, stop: threading.Event) -> Digest:
    state, size = hashlib.sha256(), len(mapped)
    with memoryview(mapped) as data:
        for at in range(0, size, _STEP):
            if stop.is_set():
                raise OperationalError("scan.changed", "The scan ended before its hash.")
            end = min(at + _STEP, size)
            state.update(data[at:end])
            _release(mapped, at, end)
    return Digest(state.hexdigest())


def _release(mapped: mmap.mmap, start: int, end: int) -> None:
    # Whole pages only; they stay in the page cache, and another thread finds them there.
    start -= start % mmap.PAGESIZE
    end -= end % mmap.PAGESIZE
    if end > start:
        mapped.madvise(mmap.MADV_DONTNEED, start, end - start)


def _unreadable(shown: str, why: str | None) -> InputError:
    return InputError("scan.unreadable", f"Cannot read {shown}: {why}.")
