"""One blob on its way into S3: whole if it is small, else in parts; seen with the last request."""

from __future__ import annotations

import base64
import hashlib
import secrets
from contextlib import suppress
from typing import Any, Protocol

from keepstone.errors import KeepstoneError, OperationalError
from keepstone.vault.stores.s3errors import broken

MARK = "keepstone-write"


class Bucket(Protocol):
    """What sending needs of the store."""

    part: int

    @property
    def place(self) -> str: ...

    def call(self, method: str, **given: Any) -> dict[str, Any]: ...

    def send(self, method: str, **given: Any) -> dict[str, Any]: ...

    def locking(self) -> dict[str, Any]: ...


class Sending:
    """One object on its way: as a whole where it is small, else in parts of one size."""

    def __init__(self, store: Bucket, key: str, etag: str | None) -> None:
        self._store = store
        self._key = key
        self._only_if = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        self._buffer = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._upload: str | None = None
        self.size = 0
        self.version = ""
        # By it an object is known again whose answer was lost on its way.
        self.mark = secrets.token_hex(16)

    def take(self, data: memoryview) -> None:
        self.size += len(data)
        while data:
            room = self._store.part - len(self._buffer)
            self._buffer += data[:room]
            data = data[room:]
            if len(self._buffer) == self._store.part:
                self._part()

    def finish(self) -> None:
        settings = {"Metadata": {MARK: self.mark}, **self._store.locking()}
        try:
            if self._upload is None:
                answer = self._store.send(
                    "put_object",
                    Key=self._key,
                    Body=bytes(self._buffer),
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=_sha256(self._buffer),
                    **self._only_if,
                    **settings,
                )
            else:
                if self._buffer:
                    self._part()
                answer = self._store.send(
                    "complete_multipart_upload",
                    Key=self._key,
                    UploadId=self._upload,
                    MultipartUpload={"Parts": self._parts},
                    **self._only_if,
                )
        except OperationalError:
            # A try whose answer was lost makes the next one a conflict with ourselves.
            if not self._landed():
                raise
        else:
            self.version = str(answer.get("VersionId"))
        self._upload = None

    def give_up(self) -> None:
        """Have S3 forget the parts; what stays is listed as a leftover."""
        if self._upload is not None:
            with suppress(KeepstoneError):
                self._store.call("abort_multipart_upload", Key=self._key, UploadId=self._upload)

    def _part(self) -> None:
        store = self._store
        if self._upload is None:
            begun = store.call(
                "create_multipart_upload",
                Key=self._key,
                ChecksumAlgorithm="SHA256",
                Metadata={MARK: self.mark},
                **store.locking(),
            )
            self._upload = str(begun["UploadId"])
        number, checksum = len(self._parts) + 1, _sha256(self._buffer)
        answer = store.send(
            "upload_part",
            Key=self._key,
            UploadId=self._upload,
            PartNumber=number,
            Body=bytes(self._buffer),
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum,
        )
        if answer.get("ChecksumSHA256", checksum) != checksum:
            raise broken(store.place, "a part has another checksum than what was sent")
        self._parts.append(
            {"PartNumber": number, "ETag": str(answer["ETag"]), "ChecksumSHA256": checksum}
        )
        self._buffer.clear()

    def _landed(self) -> bool:
        try:
            found = self._store.call("head_object", Key=self._key)
        except KeepstoneError:
            return False
        self.version = str(found.get("VersionId"))
        return bool(found.get("Metadata", {}).get(MARK) == self.mark)


def _sha256(data: bytes | bytearray) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
