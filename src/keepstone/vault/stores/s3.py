"""Sealed blobs in S3, or what speaks as it: one object each, in a bucket that keeps every version.

Promise: a blob appears with its last request or not at all; a second writer of the same blob is
refused, not silently replaced; each part is held to its SHA-256; every call ends. A bucket that
is not versioned is not used. With a lock, each version is written under it. S3 sees ciphertext,
digests and names, and no key.

    <prefix>/blobs/<digest>/<name>.sealed

Credentials come from AWS's own chain and nowhere else. Tried against moto, which proves neither
that a lock holds nor that versions last: that is AWS's word.

Source: Amazon S3 API, multipart uploads, conditional writes, versioning, Object Lock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.ports import Clock, SystemClock
from keepstone.errors import OperationalError
from keepstone.vault.overlap import Sink
from keepstone.vault.stores.address import S3Address
from keepstone.vault.stores.patience import PIECE, Ahead, within
from keepstone.vault.stores.port import (
    Fact,
    Held,
    Leftover,
    Stream,
    Written,
    blob_path,
    missing,
    parse_blob_path,
)
from keepstone.vault.stores.s3errors import AbsentError, broken, s3_errors, timed_out, truncated
from keepstone.vault.stores.s3sending import MARK, Sending

# S3 takes 10,000 parts: enough for any artifact that staging takes, in memory that stays flat.
PART = 32 << 20
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each step may take, in seconds, and how often one is tried."""

    connect_s: float = 5.0
    silence_s: float = 20.0
    # A whole answer, with every try of it; a part that is sent; 1 MiB of a body.
    answer_s: float = 90.0
    part_s: float = 600.0
    piece_s: float = 60.0
    attempts: int = 3


def open_s3(address: S3Address, patience: Patience | None = None) -> S3Store:
    """The store at `address`; nothing is asked of it yet.

    Raises OperationalError `extra.aws`, `store.no_credentials`, `store.broken_answer`.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise OperationalError(
            "extra.aws",
            "Models in S3 need the extra `aws`, which is not installed.",
            "pip install 'keepstone[aws]'",
        ) from error
    patience = patience or Patience()
    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.silence_s,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
        s3={"addressing_style": "path" if address.endpoint else "auto"},
        # Ours are sent with each part; others than S3 do not take what a client adds by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with s3_errors(str(address)):
        # A session of its own: the shared one keeps the first credentials that it ever found.
        client = boto3.session.Session().client(
            "s3", region_name=address.region, endpoint_url=address.endpoint, config=config
        )
    return S3Store(address, client, patience)


class S3Store:
    """Blobs under a prefix of a bucket. Any thread may use it."""

    def __init__(
        self,
        address: S3Address,
        client: Any,
        patience: Patience,
        *,
        part: int = PART,
        clock: Clock | None = None,
    ) -> None:
        self.address = address
        self.part = part
        self._client = client
        self._patience = patience
        self._clock = clock or SystemClock()
        self._usable = False

    def __repr__(self) -> str:
        return f"S3Store({self.place!r})"

    @property
    def place(self) -> str:
        return str(self.address)

    def key(self, digest: Digest, name: str) -> str:
        return f"{self._below}{blob_path(digest, name)}"

    @property
    def _below(self) -> str:
        return f"{self.address.prefix}/" if self.address.prefix else ""

    # The port

    def write(self, digest: Digest, name: str, fill: Callable[[Sink], object]) -> Written:
        """The new version is seen with the last request, or not at all.

        (1) The bucket keeps versions, and locks them where that is asked for.
        (2) What is sent becomes the object only if nobody wrote it since this began.
        (3) What the bucket then says of it is looked at: its size, its version and its lock.

        Raises OperationalError `store.*`, and whatever `fill` raises.
        """
        # (1)
        self.require_usable()
        key = self.key(digest, name)
        # (2)
        before = self.look(key)
        sending = Sending(self, key, before.etag if before else None)
        try:
            fill(sending.take)
            sending.finish()
        except BaseException:
            sending.give_up()
            raise
        # (3)
        found = self.look(key, sending.version)
        if found is None or found.size != sending.size or found.mark != sending.mark:
            raise broken(self.place, "what was written is not what is there")
        self._lock(key, sending.version, found)
        return Written(sending.size, sending.version)

    @contextmanager
    def open(self, digest: Digest, name: str, pin: str | None = None) -> Iterator[Stream]:
        """Open the newest version, or the version `pin`. Raises `blob.missing`, `store.*`."""
        pinned: dict[str, Any] = {} if pin is None else {"VersionId": pin}
        try:
            got = self.call("get_object", Key=self.key(digest, name), **pinned)
        except AbsentError as error:
            raise missing(digest, name) from error
        size = got.get("ContentLength")
        if not isinstance(size, int) or pin not in (None, got.get("VersionId")):
            got["Body"].close()
            raise broken(self.place, "it does not say how long the object is, or which version")
        pieces = self._pieces(got["Body"], size)
        with Ahead(pieces, self._patience.piece_s, lambda: timed_out(self.place)) as stream:
            yield stream

    def _pieces(self, body: Any, size: int) -> Generator[bytes, None, None]:
        try:
            left = size
            while left:
                with s3_errors(self.place):
                    piece = body.read(min(PIECE, left))
                if not piece:
                    raise truncated(self.place)
                left -= len(piece)
                yield piece
        finally:
            body.close()

    def has(self, digest: Digest, name: str) -> bool:
        return self.look(self.key(digest, name)) is not None

    def delete(self, digest: Digest, name: str) -> None:
        """Put a delete marker over the blob; its versions stay, as the bucket's rules say.

        One that is locked is not touched: OperationalError `store.locked`.
        """
        self.require_usable()
        key = self.key(digest, name)
        found = self.look(key)
        if found is None:
            return
        if found.held or found.locked_until > self._clock.now_ms():
            raise OperationalError(
                "store.locked",
                f"The blob {name!r} ({digest.short}) is locked in {self.place}.",
                "Delete it when its lock has ended.",
            )
        self.call("delete_object", Key=key)

    def addresses(self) -> Iterator[Held]:
        given: dict[str, Any] = {}
        while True:
            page = self.call("list_objects_v2", Prefix=f"{self._below}blobs/", **given)
            for item in page.get("Contents", []):
                address = parse_blob_path(str(item["Key"]).removeprefix(self._below))
                if address is not None:
                    yield Held(*address, int(item["Size"]))
            if not page.get("IsTruncated"):
                return
            given = self._further(given, ContinuationToken=page.get("NextContinuationToken"))

    def leftovers(self) -> Iterator[Leftover]:
        """Multipart uploads that were begun and neither completed nor given up."""
        given: dict[str, Any] = {}
        while True:
            page = self.call("list_multipart_uploads", Prefix=f"{self._below}blobs/", **given)
            for item in page.get("Uploads", []):
                since = int(item["Initiated"].timestamp() * 1000)
                yield Leftover(str(item["Key"]), since, str(item["UploadId"]))
            if not page.get("IsTruncated"):
                return
            given = self._further(
                given,
                KeyMarker=page.get("NextKeyMarker"),
                UploadIdMarker=page.get("NextUploadIdMarker"),
            )

    def remove(self, leftover: Leftover) -> None:
        # One that is gone is no error.
        with suppress(AbsentError):
            self.call("abort_multipart_upload", Key=leftover.place, UploadId=leftover.mark)

    def require_usable(self) -> None:
        """Raises OperationalError `store.not_versioned`, `store.no_lock`, and as reaching it."""
        if self._usable:
            return
        if self.call("get_bucket_versioning").get("Status") != "Enabled":
            raise OperationalError(
                "store.not_versioned",
                f"The bucket of {self.place} does not keep versions: what is overwritten is lost.",
                f"aws s3api put-bucket-versioning --bucket {self.address.bucket}"
                " --versioning-configuration Status=Enabled",
            )
        if self.address.lock is not None and not self._locks():
            raise OperationalError(
                "store.no_lock",
                f"The bucket of {self.place} has no Object Lock.",
                "Make a bucket with Object Lock, or leave out `lock` and `retain`.",
            )
        self._usable = True

    def examine(self) -> Iterator[Fact]:
        self.require_usable()
        yield Fact("ok", f"{self.place} is reached, and keeps every version")
        if self.address.lock is None:
            yield Fact(
                "ok", "blobs are not locked: who may delete versions there can remove a model"
            )
        else:
            yield Fact(
                "ok",
                f"each version is locked for {self.address.retain_days} days"
                f" ({self.address.lock}); that it holds is the bucket's word",
            )

    def close(self) -> None:
        self._client.close()

    # S3 itself

    def call(self, method: str, *, seconds: float | None = None, **given: Any) -> dict[str, Any]:
        """One call about the bucket, with an end to it. Raises `store.*`, AbsentError."""

        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = getattr(self._client, method)(
                Bucket=self.address.bucket, **given
            )
            return answer

        with s3_errors(self.place):
            return within(seconds or self._patience.answer_s, ask, _let_go)

    def send(self, method: str, **given: Any) -> dict[str, Any]:
        """A call that carries a part."""
        return self.call(method, seconds=self._patience.part_s, **given)

    def look(self, key: str, version: str | None = None) -> Seen | None:
        """What the bucket says of an object, or None where there is none."""
        pinned: dict[str, Any] = {} if version is None else {"VersionId": version}
        try:
            return Seen.of(self.call("head_object", Key=key, **pinned))
        except AbsentError:
            return None

    def locking(self) -> dict[str, Any]:
        """The settings of each write that lock it."""
        if self.address.lock is None:
            return {}
        until = datetime.fromtimestamp(self._clock.now_ms() // 1000, UTC)
        return {
            "ObjectLockMode": self.address.lock.upper(),
            "ObjectLockRetainUntilDate": until + timedelta(days=self.address.retain_days or 0),
        }

    def _further(self, given: dict[str, Any], **marks: str | None) -> dict[str, Any]:
        """Where the next page begins. The same page again would go on for ever."""
        found = {name: mark for name, mark in marks.items() if mark}
        if not found or found == given:
            # Half a listing must not read as a whole one.
            raise broken(self.place, "its listing has no end")
        return found

    def _locks(self) -> bool:
        try:
            answer = self.call("get_object_lock_configuration")
        except OperationalError as error:
            # S3 answers 404 with a code of its own where there never was a lock.
            if error.code != "store.failed":
                raise
            return False
        settings = answer.get("ObjectLockConfiguration", {})
        return bool(settings.get("ObjectLockEnabled") == "Enabled")

    def _lock(self, key: str, version: str, found: Seen) -> None:
        """See that the version is locked as it was asked for; ask once more where it is not."""
        if self._is_locked(found):
            return
        settings = self.locking()
        retention = {
            "Mode": settings["ObjectLockMode"],
            "RetainUntilDate": settings["ObjectLockRetainUntilDate"],
        }
        # Some that speak as S3 do not take a lock together with an upload in parts.
        self.call("put_object_retention", Key=key, VersionId=version, Retention=retention)
        again = self.look(key, version)
        if again is None or not self._is_locked(again):
            raise OperationalError(
                "store.not_locked",
                f"The blob was written to {self.place}, and the bucket does not show its lock.",
                "Permit s3:PutObjectRetention and s3:GetObjectRetention, then do it again.",
            )

    def _is_locked(self, found: Seen) -> bool:
        if self.address.lock is None:
            return True
        least = self._clock.now_ms() + ((self.address.retain_days or 0) - 1) * _DAY_MS
        return found.lock == self.address.lock.upper() and found.locked_until >= least


@dataclass(frozen=True, slots=True)
class Seen:
    """What a bucket says of one version of an object."""

    etag: str
    size: int
    mark: str | None
    lock: str | None
    locked_until: int
    held: bool

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Seen:
        until = answer.get("ObjectLockRetainUntilDate")
        return cls(
            str(answer.get("ETag", "")),
            int(answer.get("ContentLength", -1)),
            answer.get("Metadata", {}).get(MARK),
            answer.get("ObjectLockMode"),
            int(until.timestamp() * 1000) if until is not None else 0,
            answer.get("ObjectLockLegalHoldStatus") == "ON",
        )


def _let_go(late: dict[str, Any]) -> None:
    if "Body" in late:
        late["Body"].close()
