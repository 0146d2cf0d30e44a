"""Bring a database folder up to date: beside it, checked whole, and then swapped in one step.

Whatever fails, and whenever the process is killed, the folder is the old one or the new one. A
second update at the same time is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from keepstone.core.canonical import canonical
from keepstone.core.ports import Clock, SystemClock, rfc3339
from keepstone.errors import InputError, OperationalError
from keepstone.files import storage_errors, sync_directory, write_atomic
from keepstone.scan.packages.osv.coverage import MAX_AHEAD_MS
from keepstone.scan.vulndb.archive import ArchiveLimits, check_archive
from keepstone.scan.vulndb.download import FetchLimits, Known, check_url, fetch
from keepstone.scan.vulndb.exchange import put_in_place
from keepstone.scan.vulndb.record import (
    ARCHIVE,
    FILE,
    DatabaseRecord,
    Part,
    check_ecosystem,
    read_record,
)
from keepstone.scan.vulndb.verify import database_digest, is_whole

OSV = "https://osv-vulnerabilities.storage.googleapis.com"

# Called with each ecosystem, and with what became of it.
Observer = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """Where the archives come from, and the most they may cost."""

    base: str = OSV
    insecure_http: bool = False
    fetching: FetchLimits = field(default_factory=FetchLimits)
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)


def update(
    folder: Path,
    ecosystems: Sequence[str] = (),
    options: UpdateOptions | None = None,
    *,
    clock: Clock | None = None,
    observer: Observer | None = None,
) -> DatabaseRecord:
    """Fetch the ecosystems named, and those that are there already, and return the new record.

    (1) The lock: one update of a folder at a time.
    (2) What is there is whole, and ours, or nothing is there.
    (3) Each archive is fetched where the server has another one, and checked: whole, and no
        older. Else the one that is there is kept, if it still has its digest.
    (4) The record is written beside the data, all of it is made durable, and the folders are
        swapped.

    Raises InputError `vulndb.nothing_named`, `vulndb.ecosystem`, `vulndb.not_ours`;
    OperationalError `vulndb.busy`, `vulndb.older`, and as `fetch`, `check_archive`, `put_in_place`.
    """
    options, clock = options or UpdateOptions(), clock or SystemClock()
    check_url(options.base, options.insecure_http)
    folder = folder.resolve()
    wanted = {check_ecosystem(name) for name in ecosystems}
    # (1)
    with _alone(folder):
        # (2)
        before = _what_is_there(folder)
        names = sorted(wanted | {part.ecosystem for part in before})
        if not names:
            raise InputError(
                "vulndb.nothing_named",
                "No ecosystem is named, and the folder holds none.",
                "Say which, for example --ecosystem PyPI.",
            )
        with _staging(folder) as staging:
            job = _Update(folder, staging, options, clock, {one.ecosystem: one for one in before})
            # (3)
            parts = []
            for name in names:
                part, told = job.bring(name)
                parts.append(part)
                if observer is not None:
                    observer(name, told)
            # (4)
            record = DatabaseRecord(database_digest(staging, clock.now_ms()), tuple(parts))
            write_atomic(staging / FILE, canonical(record.to_dict()), mode=0o644)
            put_in_place(staging, folder)
            return record


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock beside the folder. It ends with the process, however that ends."""
    lock = folder.parent / f".{folder.name}.lock"
    with storage_errors(lock):
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OperationalError(
                "vulndb.busy",
                f"Another process is updating {folder}.",
                "Wait until it is done, and try again.",
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, gone afterwards; what a killed update left goes first.

    The lock is held: nobody else's can be in use.
    """
    staging = folder.parent / f".{folder.name}.staging"
    with storage_errors(staging):
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(mode=0o755)
    try:
        yield staging
    finally:
        # After the swap, the old folder lies here.
        shutil.rmtree(staging, ignore_errors=True)


def _what_is_there(folder: Path) -> tuple[Part, ...]:
    if not folder.exists():
        return ()
    if folder.is_dir() and not any(folder.iterdir()):
        return ()
    try:
        return read_record(folder).parts
    except InputError as error:
        if error.code == "vulndb.newer_version":
            raise
        raise InputError(
            "vulndb.not_ours",
            f"{folder} is there and is no database of ours: {error.cause}",
            "Give another folder, or remove this one. It was left as it is.",
        ) from error


@dataclass(frozen=True, slots=True)
class _Update:
    """One update under way."""

    folder: Path
    staging: Path
    options: UpdateOptions
    clock: Clock
    before: dict[str, Part]

    def bring(self, ecosystem: str) -> tuple[Part, str]:
        """The part as it now is, its archive in the staging folder, and what became of it."""
        target = self.staging / ecosystem / ARCHIVE
        source = f"{self.options.base.rstrip('/')}/{quote(ecosystem)}/{ARCHIVE}"
        with storage_errors(target):
            target.parent.mkdir(mode=0o755)
        known = self._known(ecosystem, source)
        now = self.clock.now_ms()
        fetched = fetch(
            source,
            target,
            known=None if known is None else Known(known.etag, known.last_modified),
            limits=self.options.fetching,
            insecure_http=self.options.insecure_http,
        )
        if fetched is None:
            assert known is not None
            with storage_errors(target):
                shutil.copyfile(self.folder / ecosystem / ARCHIVE, target)
            part, told = replace(known, checked=now), "not changed"
        else:
            found = check_archive(target, now, self.options.archive)
            self._check_newer(ecosystem, found.newest)
            part = Part(
                ecosystem=ecosystem,
                source=source,
                sha256=fetched.sha256,
                size=fetched.size,
                records=found.records,
                newest=found.newest,
                fetched=now,
                checked=now,
                etag=fetched.called.etag,
                last_modified=fetched.called.last_modified,
            )
            told = f"{found.records} records"
        _make_durable(target)
        return part, told

    def _check_newer(self, ecosystem: str, newest: int) -> None:
        """A mirror that goes back in time hides what was found since."""
        part = self.before.get(ecosystem)
        if part is None or part.newest is None:
            return
        # A time that is still to come was taken by an older build, and holds nobody back.
        if newest < part.newest <= self.clock.now_ms() + MAX_AHEAD_MS:
            raise OperationalError(
                "vulndb.older",
                f"The data for {ecosystem} ends at {rfc3339(newest)}, and what is there at"
                f" {rfc3339(part.newest)}.",
                "Look at the server. To go back all the same, remove the folder first.",
            )

    def _known(self, ecosystem: str, source: str) -> Part | None:
        """What is there, if it came from there and is whole: else it is fetched anew."""
        part = self.before.get(ecosystem)
        if part is None or part.source != source or not is_whole(self.folder, part):
            return None
        return part


def _make_durable(path: Path) -> None:
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)
