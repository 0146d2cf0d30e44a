"""The S3 store against a server that fails, lies, stops and crawls: a code each time, in time."""

from __future__ import annotations

import base64
import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from keepstone.core.digest import Digest
from keepstone.errors import KeepstoneError
from keepstone.vault.stores.address import S3Address
from keepstone.vault.stores.s3 import Patience, S3Store, open_s3
from tests.faulty import Asked, Faulty, Reply, faulty

pytestmark = pytest.mark.loopback
QUICK = Patience(connect_s=2, silence_s=0.7, answer_s=4.0, part_s=4.0, piece_s=1.0, attempts=2)
DIGEST = Digest.of(b"any")
Start = Callable[[Callable[[Asked], Reply]], tuple[Faulty, S3Store]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "the-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:

        def begin(answer: Callable[[Asked], Reply]) -> tuple[Faulty, S3Store]:
            server = stack.enter_context(faulty(answer))
            address = S3Address("bucket", "p", "eu-central-1", f"http://{server.host}")
            store = open_s3(address, QUICK)
            stack.callback(store.close)
            return server, store

        yield begin


def code_of(action: Callable[..., object], *given: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given)
    assert "the-secret" not in str(caught.value)
    return caught.value.code


def read(store: S3Store) -> bytes:
    with store.open(DIGEST, "a") as blob:
        return b"".join(iter(lambda: blob.read(1 << 16), b""))


def error(status: int, code: str) -> Reply:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return Reply(status, {"Content-Type": "application/xml"}, body)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (error(500, "InternalError"), "store.failed"),
        (error(503, "SlowDown"), "store.busy"),
        (error(429, "TooManyRequests"), "store.busy"),
        (error(403, "AccessDenied"), "store.denied"),
        (error(404, "NoSuchBucket"), "store.missing"),
        (error(404, "NoSuchKey"), "blob.missing"),
        (error(418, "Teapot"), "store.failed"),
        (Reply(500, body=b"<html>no XML</br>"), "store.failed"),
        (Reply(200, body=b"x" * 10, length=1000), "store.truncated"),
        (Reply(silent=True), "store.timeout"),
        (Reply(200, body=b"x" * 100, every=0.3), "store.timeout"),
        (Reply(200, body=b"x" * 100, every=0.3, drip_head=True), "store.timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_way_to_fail_has_a_code_and_an_end(start: Start, reply: Reply, code: str) -> None:
    server, store = start(lambda asked: reply)
    assert code_of(read, store) == code
    assert len(server.asked) <= QUICK.attempts


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_head_that_cannot_be_read(start: Start) -> None:
    _, store = start(lambda asked: Reply(200, {"Last-Modified": "never"}, b"x"))
    assert code_of(read, store) == "store.broken_answer"
    # botocore lets go of the connection without closing it: it must go within this test.
    gc.collect()


def test_a_server_that_is_not_there(start: Start) -> None:
    server, store = start(lambda asked: Reply())
    server.end()
    assert code_of(read, store) == "store.unreachable"


def test_a_busy_server_is_asked_again(start: Start) -> None:
    replies = [error(503, "SlowDown"), Reply(200, body=b"content")]
    _, store = start(lambda asked: replies.pop(0))
    assert read(store) == b"content"


def test_a_listing_that_is_none_is_refused(start: Start) -> None:
    for body in (b"<ListBucketResult><Contents>", b"\xff\xfe", b"{}"):
        _, store = start(lambda asked, body=body: Reply(200, body=body))
        assert code_of(list, store.addresses()) in ("store.broken_answer", "store.failed")


def test_pages_without_end_are_not_followed(start: Start) -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
    )
    server, store = start(lambda asked: Reply(200, body=body))
    assert code_of(list, store.addresses()) == "store.broken_answer"
    assert len(server.asked) == 2
    _, store = start(lambda asked: Reply(200, body=body.replace(b"again", b"")))
    assert code_of(list, store.addresses()) == "store.broken_answer"
    body = (
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>"
    )
    _, store = start(lambda asked: Reply(200, body=body))
    assert code_of(list, store.leftovers()) == "store.broken_answer"


class S3:
    """The few answers that a write needs; a test changes one of them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.marks: dict[str, str] = {}
        self.parts: dict[str, bytes] = {}
        self.aborted = 0

    def __call__(self, asked: Asked) -> Reply:
        split = urlsplit(asked.path)
        key, query = split.path, parse_qs(split.query, keep_blank_values=True)
        if "versioning" in query:
            xml = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            return Reply(body=xml.encode())
        match asked.method:
            case "HEAD":
                return self.head(key)
            case "POST" if "uploads" in query:
                self.marks[key] = asked.headers["x-amz-meta-keepstone-write"]
                xml = "<R><UploadId>u</UploadId></R>"
                return Reply(body=xml.encode())
            case "PUT" if "partNumber" in query:
                self.parts[query["partNumber"][0]] = asked.body
                return Reply(headers={"ETag": '"p"'})
            case "POST":
                whole = b"".join(self.parts[number] for number in sorted(self.parts))
                return self.done(key, whole, "<R><ETag>e</ETag></R>")
            case "PUT":
                self.marks[key] = asked.headers["x-amz-meta-keepstone-write"]
                return self.done(key, asked.body, "")
            case "DELETE":
                self.aborted += 1
                return Reply(204)
        raise AssertionError(asked)

    def head(self, key: str) -> Reply:
        if key not in self.objects:
            return Reply(404)
        mark = {"x-amz-meta-keepstone-write": self.marks[key], "x-amz-version-id": "v"}
        return Reply(headers={"ETag": '"e"', **mark}, length=len(self.objects[key]))

    def done(self, key: str, data: bytes, xml: str) -> Reply:
        self.objects[key] = data
        return Reply(headers={"x-amz-version-id": "v", "ETag": '"e"'}, body=xml.encode())


def write(store: S3Store, data: bytes = b"content") -> str | None:
    return store.write(DIGEST, "a", lambda sink: sink(memoryview(data))).pin


@pytest.mark.parametrize("size", [7, 3000])
def test_a_write_against_the_double(start: Start, size: int) -> None:
    server, store = start(S3())
    store.part = 1024
    assert write(store, bytes(size)) == "v"
    last = [a for a in server.asked if a.method in ("PUT", "POST")][-1]
    assert last.headers["if-none-match"] == "*"
    for asked in server.asked:
        if asked.method == "PUT":
            # What is held in memory is one part, however much is written.
            assert len(asked.body) <= store.part
            digest = base64.b64encode(hashlib.sha256(asked.body).digest()).decode()
            assert asked.headers["x-amz-checksum-sha256"] == digest
    assert write(store, bytes(size)) == "v"
    last = [a for a in server.asked if a.method in ("PUT", "POST")][-1]
    assert last.headers["if-match"] == '"e"'


@pytest.mark.parametrize("size", [7, 3000])
def test_a_write_whose_answer_is_lost_is_known_again(start: Start, size: int) -> None:
    """The first try lands, its answer does not; the second is a conflict with ourselves."""

    class Loses(S3):
        lost = False

        def done(self, key: str, data: bytes, xml: str) -> Reply:
            if self.lost:
                return error(412, "PreconditionFailed")
            self.lost = True
            super().done(key, data, xml)
            return error(500, "InternalError")

    _, store = start(Loses())
    store.part = 1024
    assert write(store, bytes(size)) == "v"


def test_a_conflict_with_somebody_else_is_no_success(start: Start) -> None:
    class Taken(S3):
        def done(self, key: str, data: bytes, xml: str) -> Reply:
            self.objects[key], self.marks[key] = data, "of somebody else"
            return error(412, "PreconditionFailed")

    for size in (7, 3000):
        server, store = start(Taken())
        store.part = 1024
        assert code_of(write, store, bytes(size)) == "store.conflict"
        assert [a.method for a in server.asked].count("DELETE") == (size == 3000)


@pytest.mark.parametrize(
    "reply",
    [error(500, "InternalError"), Reply(silent=True), error(503, "SlowDown")],
    ids=["error", "silence", "busy"],
)
def test_a_part_that_fails_ends_the_upload(start: Start, reply: Reply) -> None:
    class Fails(S3):
        def __call__(self, asked: Asked) -> Reply:
            return reply if "partNumber=2" in asked.path else super().__call__(asked)

    s3 = Fails()
    _, store = start(s3)
    store.part = 1024
    assert code_of(write, store, bytes(3000)) in ("store.failed", "store.timeout", "store.busy")
    assert s3.aborted == 1
    assert s3.objects == {}


def test_a_bucket_that_stores_something_else_is_found_out(start: Start) -> None:
    class Shorter(S3):
        def done(self, key: str, data: bytes, xml: str) -> Reply:
            return super().done(key, data[:-1], xml)

    _, store = start(Shorter())
    assert code_of(write, store) == "store.broken_answer"


@pytest.mark.parametrize("shown", [None, "GOVERNANCE", "COMPLIANCE"])
def test_a_lock_that_the_bucket_does_not_show_is_found_out(start: Start, shown: str | None) -> None:
    """None at all, another one, and one that ends too early."""

    class Unlocked(S3):
        def __call__(self, asked: Asked) -> Reply:
            query = parse_qs(urlsplit(asked.path).query, keep_blank_values=True)
            if "object-lock" in query:
                xml = "<O><ObjectLockEnabled>Enabled</ObjectLockEnabled></O>"
                return Reply(body=xml.encode())
            return Reply() if "retention" in query else super().__call__(asked)

        def head(self, key: str) -> Reply:
            reply = super().head(key)
            if shown is not None and reply.status == 200:
                reply.headers["x-amz-object-lock-mode"] = shown
                until = "2100-01-01T00:00:00Z" if shown == "GOVERNANCE" else "2020-01-01T00:00:00Z"
                reply.headers["x-amz-object-lock-retain-until-date"] = until
            return reply

    server, store = start(Unlocked())
    store.address = replace(store.address, lock="compliance", retain_days=30)
    assert code_of(write, store) == "store.not_locked"
    sent = [a for a in server.asked if a.method == "PUT" and "retention" not in a.path]
    assert [a.headers["x-amz-object-lock-mode"] for a in sent] == ["COMPLIANCE"]


def test_another_checksum_than_ours_is_found_out(start: Start) -> None:
    class Damages(S3):
        def __call__(self, asked: Asked) -> Reply:
            reply = super().__call__(asked)
            if "partNumber" in asked.path:
                reply.headers["x-amz-checksum-sha256"] = "A" * 43 + "="
            return reply

    s3 = Damages()
    _, store = start(s3)
    store.part = 1024
    assert code_of(write, store, bytes(3000)) == "store.broken_answer"
    assert s3.aborted == 1


def test_a_body_that_is_left_half_read_holds_nobody(start: Start) -> None:
    _, store = start(lambda asked: Reply(200, body=bytes(1 << 20), repeat=20))
    with store.open(DIGEST, "a") as blob:
        assert len(blob.read(1000)) == 1000
