"""The registry client against a registry that lies, stops, crawls, floods and steals."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.identity.tls import create_ca, issue_leaf
from keepstone.vault.stores.oci.challenge import parse_challenges
from keepstone.vault.stores.oci.logins import Login, find_logins, login_for, parse_logins
from keepstone.vault.stores.oci.manifest import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    parse_descriptor,
    parse_manifest,
)
from keepstone.vault.stores.oci.reference import Reference
from keepstone.vault.stores.oci.registry import Registry
from keepstone.vault.stores.oci.request import Limits
from tests.faulty import Asked, Faulty, Reply, faulty

QUICK = Limits(
    connect_s=2,
    silence_s=0.7,
    answer_s=1.0,
    upload_s=1.0,
    grace_s=0.3,
    slowest=1000,
    manifest_bytes=100_000,
    listing_bytes=100_000,
    tags=2000,
    pause_s=0.01,
)
LOGIN = Login("ci", "the-secret-of-the-login")
BLOB = b"the content of a blob"
EMPTY = {
    "schemaVersion": 2,
    "mediaType": IMAGE_MANIFEST,
    "config": {"mediaType": "a/b", "digest": str(Digest.of(b"{}")), "size": 2},
    "layers": [],
}
Start = Callable[[Callable[[Asked], Reply]], tuple[Faulty, Reference, Registry]]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(answer)`: a server, a reference to it, and a client that has a login for it."""
    with ExitStack() as stack:

        def begin(answer: Callable[[Asked], Reply]) -> tuple[Faulty, Reference, Registry]:
            server = stack.enter_context(faulty(answer))
            client = stack.enter_context(Registry({server.host: LOGIN}, QUICK))
            return server, Reference.parse(f"{server.host}/team/thing:v1"), client

        yield begin


def code_of(action: Callable[..., object], *given: object, **named: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given, **named)
    assert "secret" not in f"{caught.value} {caught.value.cause}"
    return caught.value.code


def nowhere(piece: bytes) -> None:
    """A sink."""


def manifest(document: Any = EMPTY, kind: str = IMAGE_MANIFEST, **headers: str) -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Reply(200, {"Content-Type": kind, **headers}, body)


pytestmark = pytest.mark.loopback


# It lies


def test_a_blob_with_another_content_is_refused(start: Start) -> None:
    _, reference, client = start(lambda asked: Reply(body=b"something quite different"))
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere) == "oci.wrong_digest"


@pytest.mark.parametrize("size", [len(BLOB) - 1, len(BLOB) + 1, 0])
def test_a_blob_of_another_size_is_refused(start: Start, size: int) -> None:
    _, reference, client = start(lambda asked: Reply(body=BLOB))
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere, size=size) == "oci.wrong_size"


def test_a_size_that_nobody_told_is_counted(start: Start) -> None:
    chunked = b"15\r\n" + BLOB + b"\r\n0\r\n\r\n"

    def answer(asked: Asked) -> Reply:
        return Reply(200, {"Transfer-Encoding": "chunked"}, chunked)

    server, reference, client = start(answer)
    server._say = _without_length(server)  # type: ignore[method-assign]
    found: list[bytes] = []
    assert client.blob(reference, Digest.of(BLOB), found.append, size=len(BLOB)) == len(BLOB)
    assert b"".join(found) == BLOB
    digest = Digest.of(BLOB)
    assert code_of(client.blob, reference, digest, nowhere, size=5) == "oci.wrong_size"
    assert code_of(client.blob, reference, digest, nowhere, limit=5) == "oci.too_large"


def _without_length(server: Faulty) -> Callable[..., None]:
    def say(connection: Any, asked: Asked, reply: Reply) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        head += "Connection: close\r\n"
        connection.sendall(f"HTTP/1.1 200 Said\r\n{head}\r\n".encode() + reply.body)

    return say


def test_a_manifest_with_another_digest_is_refused(start: Start) -> None:
    _, reference, client = start(lambda asked: manifest())
    assert code_of(client.manifest, reference.at(Digest.of(b"other"))) == "oci.wrong_digest"
    told = str(Digest.of(b"other"))
    _, reference, client = start(lambda asked: manifest(**{"Docker-Content-Digest": told}))
    assert code_of(client.manifest, reference) == "oci.wrong_digest"


@pytest.mark.parametrize(
    "reply",
    [
        manifest(b"<html>"),
        manifest([]),
        manifest(b'{"schemaVersion":2,"schemaVersion":2}'),
        manifest({"schemaVersion": 1}),
        manifest({**EMPTY, "mediaType": IMAGE_INDEX}),
        manifest({**EMPTY, "manifests": []}),
        manifest(kind=IMAGE_INDEX),
        manifest(kind="text/html"),
        manifest({**EMPTY, "layers": [{"mediaType": "a", "digest": "sha256:00", "size": 1}]}),
        manifest({**EMPTY, "layers": [{**EMPTY["config"], "size": -1}]}),  # type: ignore[dict-item]
        manifest({**EMPTY, "layers": [{**EMPTY["config"], "size": True}]}),  # type: ignore[dict-item]
        manifest({**EMPTY, "annotations": {"a": 1}}),
        manifest(b"[" * 90_000),
        manifest(**{"Content-Encoding": "gzip"}),
    ],
)
def test_a_manifest_that_is_none_is_refused(start: Start, reply: Reply) -> None:
    _, reference, client = start(lambda asked: reply)
    assert code_of(client.manifest, reference) == "oci.malformed"


def test_tags_that_are_none_are_refused(start: Start) -> None:
    for tags in (["../x"], [1], "v1", ["a" * 129], ["é"]):
        body = json.dumps({"tags": tags}).encode()
        _, reference, client = start(lambda asked, body=body: Reply(body=body))
        assert code_of(client.tags, reference) == "oci.malformed"
    _, reference, client = start(lambda asked: Reply(body=b'{"tags":null}'))
    assert client.tags(reference) == []


# It does not end


def test_a_manifest_without_end_is_cut_off(start: Start) -> None:
    # A gigabyte, of which a few hundred kilobytes at most are taken.
    for length in (1 << 30, None):
        _, reference, client = start(
            lambda asked, length=length: Reply(
                200, {"Content-Type": IMAGE_MANIFEST}, b" " * 65536, length, repeat=16384
            )
        )
        assert code_of(client.manifest, reference) == "oci.too_large"
    # What says beforehand that it is too much is not begun.
    taken: list[bytes] = []
    _, reference, client = start(lambda asked: Reply(body=bytes(1 << 20)))
    digest = Digest.of(BLOB)
    assert code_of(client.blob, reference, digest, taken.append, limit=1 << 19) == "oci.too_large"
    assert taken == []


def test_pages_without_end_are_not_followed(start: Start) -> None:
    count = 0

    def answer(asked: Asked) -> Reply:
        nonlocal count
        count += 1
        tags = [f"t{count}-{number}" for number in range(1000)]
        link = f'</v2/team/thing/tags/list?n=1000&last={count}>; rel="next"'
        return Reply(200, {"Link": link}, json.dumps({"tags": tags}).encode())

    _, reference, client = start(answer)
    assert code_of(client.tags, reference) == "oci.too_large"
    # The same page for ever, and a page of another repository.
    link = '</v2/team/thing/tags/list?n=1000&last=x>; rel="next"'
    _, reference, client = start(lambda asked: Reply(200, {"Link": link}, b'{"tags":["a"]}'))
    assert code_of(client.tags, reference) == "oci.malformed"
    link = '</v2/secret/thing/tags/list?n=1000>; rel="next"'
    _, reference, client = start(lambda asked: Reply(200, {"Link": link}, b'{"tags":["a"]}'))
    assert code_of(client.tags, reference) == "oci.malformed"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(silent=True),
        Reply(body=BLOB, every=0.2, drip_head=True),
        Reply(body=BLOB, every=0.2),
    ],
    ids=["silent", "head by the byte", "body by the byte"],
)
def test_a_registry_that_crawls_is_given_up(start: Start, reply: Reply) -> None:
    _, reference, client = start(lambda asked: reply)
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere) == "oci.timeout"


def test_a_blob_that_is_cut_off_is_said_to_be(start: Start) -> None:
    _, reference, client = start(lambda asked: Reply(body=BLOB, length=1000))
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere) == "oci.truncated"


def test_a_busy_registry_is_asked_again_and_not_for_ever(start: Start) -> None:
    replies = [Reply(503), Reply(429, {"Retry-After": "0"}), manifest()]
    server, reference, client = start(lambda asked: replies.pop(0))
    assert client.manifest(reference).layers == ()
    assert len(server.asked) == 3
    server, reference, client = start(lambda asked: Reply(503))
    assert code_of(client.manifest, reference) == "oci.busy"
    assert len(server.asked) == QUICK.attempts


def test_a_registry_that_hangs_up_is_asked_again_and_not_for_ever(start: Start) -> None:
    """As a kept connection does that is closed there while we use it."""
    left = 1

    def answer(asked: Asked) -> Reply:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ConnectionError
        return manifest()

    server, reference, client = start(answer)
    assert client.manifest(reference).layers == ()
    assert len(server.asked) == 2
    left = 100
    assert code_of(client.manifest, reference) == "oci.truncated"
    assert len(server.asked) == 2 + QUICK.attempts
    server.asked.clear()
    with pytest.raises(KeepstoneError, match=r"cut off"), client.upload(reference):
        pass
    assert [asked.method for asked in server.asked] == ["POST"]


def test_a_registry_that_is_not_there(start: Start) -> None:
    server, reference, client = start(lambda asked: Reply())
    server.end()
    assert code_of(client.manifest, reference) == "oci.unreachable"


def test_what_is_pushed_is_not_sent_twice_by_itself(start: Start) -> None:
    server, reference, client = start(lambda asked: Reply(503))

    def push() -> None:
        with client.upload(reference) as upload:
            upload.write(memoryview(b"x"))

    assert code_of(push) == "oci.busy"
    assert [asked.method for asked in server.asked] == ["POST"]


# It steals


def challenge(asked: Asked, header: str, then: Reply) -> Reply:
    return then if "authorization" in asked.headers else Reply(401, {"WWW-Authenticate": header})


def authorizations(server: Faulty) -> list[str]:
    return [a.headers["authorization"] for a in server.asked if "authorization" in a.headers]


def test_a_blob_may_lie_elsewhere_and_no_login_goes_there(start: Start) -> None:
    other, _, _ = start(lambda asked: Reply(body=BLOB))
    place = f"http://{other.host}/storage/blob?signature=x"

    def answer(asked: Asked) -> Reply:
        return challenge(asked, 'Basic realm="r"', Reply(307, {"Location": place}))

    server, reference, client = start(answer)
    assert client.blob(reference, Digest.of(BLOB), nowhere) == len(BLOB)
    assert authorizations(server) == [LOGIN.basic]
    assert authorizations(other) == []
    assert "cookie" not in other.asked[0].headers


def test_what_a_registry_tells_us_to_remember_is_forgotten(start: Start) -> None:
    """Cookies know no ports: what one registry of a host sets, another one would get."""
    server, reference, client = start(lambda asked: manifest(**{"Set-Cookie": "a=b; Path=/"}))
    for _ in range(2):
        client.manifest(reference)
    assert ["cookie" in asked.headers for asked in server.asked] == [False, False]


def test_the_place_elsewhere_gets_no_login_by_asking(start: Start) -> None:
    other, _, _ = start(lambda asked: Reply(401, {"WWW-Authenticate": 'Basic realm="r"'}))
    _, reference, client = start(
        lambda asked: challenge(
            asked, 'Basic realm="r"', Reply(302, {"Location": f"http://{other.host}/"})
        )
    )
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere) == "oci.denied"
    assert authorizations(other) == []


def test_nothing_but_a_blob_may_lie_elsewhere(start: Start) -> None:
    other, _, _ = start(lambda asked: manifest())
    moved = Reply(307, {"Location": f"http://{other.host}/"})
    _, reference, client = start(lambda asked: moved)
    for action in (client.manifest, client.tags, client.find):
        assert code_of(action, reference) == "oci.redirect"
    assert other.asked == []


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://registry.example.org/blob", "oci.insecure"),
        ("ftp://registry.example.org/blob", "oci.insecure"),
        ("file:///etc/passwd", "oci.malformed"),
        ("https://user:password@registry.example.org/", "oci.malformed"),
        ("https://[::1", "oci.truncated"),
        ("", "oci.redirect"),
        ("https://exa mple.org/", "oci.malformed"),
    ],
)
def test_where_a_blob_cannot_lie(start: Start, location: str, code: str) -> None:
    _, reference, client = start(lambda asked: Reply(307, {"Location": location}))
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere) == code


def test_a_registry_elsewhere_cannot_send_us_to_this_machine() -> None:
    import httpx

    from keepstone.vault.stores.oci.wire import Origin

    with Registry() as client:
        wire, origin = client._wire, Origin("https", "registry.example.org")
        url = httpx.URL("https://registry.example.org/v2/a/blobs/b")
        for place in ("http://127.0.0.1:8080/", "https://localhost/", "https://[::1]/"):
            assert code_of(wire._next_url, url, origin, place) == "oci.redirect"
        assert code_of(wire._url, "http://registry.example.org/v2/") == "oci.insecure"
        realm = parse_challenges('Bearer realm="http://127.0.0.1/token"')[0]
        assert code_of(wire._token, origin, realm, "scope") == "oci.redirect"


def test_redirects_without_end_are_not_followed(start: Start) -> None:
    server, reference, client = start(lambda asked: Reply(307, {"Location": asked.path + "x"}))
    assert code_of(client.blob, reference, Digest.of(BLOB), nowhere) == "oci.redirect"
    assert len(server.asked) == QUICK.redirects + 1


def token_server(start: Start, token: Any = "granted") -> Faulty:
    server, _, _ = start(lambda asked: Reply(body=json.dumps({"token": token}).encode()))
    return server


def test_a_token_from_another_place_is_fetched_without_a_login(start: Start) -> None:
    """Nor for what the registry says: it would get a token of ours for another repository."""
    tokens = token_server(start)
    stolen = "repository:victim/private:pull,push,delete"
    header = f'Bearer realm="http://{tokens.host}/token",service="s",scope="{stolen}"'

    def answer(asked: Asked) -> Reply:
        return challenge(asked, header, manifest())

    server, reference, client = start(answer)
    client.manifest(reference)
    assert authorizations(tokens) == []
    assert tokens.asked[0].path == "/token?scope=repository%3Ateam%2Fthing%3Apull&service=s"
    assert authorizations(server) == ["Bearer granted"]
    # What is known is used again; nobody is asked for another.
    client.manifest(reference)
    assert len(tokens.asked) == 1
    theirs = Login("ci", "another-secret")
    with Registry({server.host: LOGIN, tokens.host: theirs}, QUICK) as both:
        both.manifest(reference)
    assert [asked.path for asked in tokens.asked] == [tokens.asked[0].path] * 2
    assert authorizations(tokens) == []


def test_the_registry_that_gives_its_own_tokens_gets_its_login(start: Start) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return Reply(body=b'{"access_token":"granted"}')
        header = f'Bearer realm="http://{asked.headers["host"]}/token",scope="repository:b:push"'
        return challenge(asked, header, manifest())

    server, reference, client = start(answer)
    client.manifest(reference)
    assert authorizations(server) == [LOGIN.basic, "Bearer granted"]
    assert server.asked[1].path == "/token?scope=repository%3Ateam%2Fthing%3Apull"


@pytest.mark.parametrize(
    ("registry", "realm", "same"),
    [
        ("registry-1.docker.io", "https://auth.docker.io/token", True),
        ("registry-1.docker.io", "https://auth.docker.io:444/token", False),
        ("registry.example.org", "https://auth.docker.io/token", False),
        ("registry-1.docker.io", "https://registry.example.org/token", False),
        ("registry.example.org", "https://registry.example.org/token", True),
        ("registry.example.org", "https://registry.example.org:444/token", False),
        ("registry.example.org", "https://registry.example.org.example.com/token", False),
    ],
)
def test_which_place_for_tokens_is_the_registry_itself(
    registry: str, realm: str, same: bool
) -> None:
    import httpx

    from keepstone.vault.stores.oci.wire import Origin, _is_same

    assert _is_same(Origin("https", registry), httpx.URL(realm)) is same


@pytest.mark.parametrize("token", [None, 1, "", "a\r\nX-Evil: 1", "é", ["x"]])
def test_a_token_that_is_none_is_refused(start: Start, token: Any) -> None:
    tokens = token_server(start, token)
    header = f'Bearer realm="http://{tokens.host}/"'
    _, reference, client = start(lambda asked: challenge(asked, header, manifest()))
    assert code_of(client.manifest, reference) == "oci.malformed"


@pytest.mark.parametrize(
    "realm", ["http://registry.example.org/token", "ftp://x/", "//x", "", "https://u:p@h.example/"]
)
def test_a_realm_that_cannot_be_asked_is_refused(start: Start, realm: str) -> None:
    header = f'Bearer realm="{realm}"'
    _, reference, client = start(lambda asked: challenge(asked, header, manifest()))
    assert code_of(client.manifest, reference) in ("oci.insecure", "oci.malformed")


def test_a_login_that_is_not_taken_is_offered_once(start: Start) -> None:
    server, reference, client = start(
        lambda asked: Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
    )
    assert code_of(client.manifest, reference) == "oci.denied"
    assert len(authorizations(server)) == 1


def test_a_push_stays_with_the_registry_that_was_asked(start: Start) -> None:
    other, _, _ = start(lambda asked: Reply(202, {"Location": "/upload"}))
    _, reference, client = start(
        lambda asked: Reply(202, {"Location": f"http://{other.host}/upload"})
    )

    def push() -> None:
        with client.upload(reference) as upload:
            upload.write(memoryview(b"x"))
            upload.finish()

    assert code_of(push) == "oci.redirect"
    assert other.asked == []


def test_what_a_registry_says_of_its_errors_is_not_printed_as_it_is(start: Start) -> None:
    body = json.dumps({"errors": [{"code": "\x1b[31mEVIL"}, {"code": "UNSUPPORTED"}, 3]}).encode()
    _, reference, client = start(lambda asked: Reply(418, body=body))
    with pytest.raises(OperationalError) as caught:
        client.manifest(reference)
    assert "418 (UNSUPPORTED)" in caught.value.cause


def test_a_certificate_that_nobody_vouches_for_gets_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS the system's authorities decide, or those that SSL_CERT_FILE names."""
    now = int(time.time() * 1000)
    authority = create_ca(["127.0.0.1"], now)
    leaf = issue_leaf(authority, ["127.0.0.1"], now)
    pair = tmp_path / "pair.pem"
    pair.write_bytes(leaf.chain_pem + leaf.key_pem)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.certificate_pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair)
    with faulty(lambda asked: manifest(), tls) as server:
        reference = Reference.parse(f"{server.host}/a")
        with Registry({server.host: LOGIN}, QUICK, loopback_tls=True) as client:
            assert code_of(client.manifest, reference) == "oci.unreachable"
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        with Registry({server.host: LOGIN}, QUICK, loopback_tls=True) as client:
            assert client.manifest(reference).layers == ()


# Parsers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ubuntu",
        "ubuntu:22.04",
        "library/ubuntu",
        "host.example",
        "host.example/",
        "host.example/A",
        "host.example/a//b",
        "host.example/../b",
        "host.example/a:",
        "host.example/a:b/c",
        "host.example/a:.b",
        "host.example/a@sha256:00",
        "host.example/a@md5:" + "0" * 32,
        "host.example/a@",
        "host.example/a?x",
        "host.example/a#x",
        "host.example/a b",
        "host.example/a\n",
        "user@host.example/a",
        "user:pw@host.example/a",
        "host.example:0/a",
        "host.example:99999/a",
        "host.example:x/a",
        "[::1/a",
        "[::zz]:5000/a",
        "-host.example/a",
        "host..example/a",
        "h\u043est.example/a",  # a Cyrillic o
        "host.example/\u0430b",  # a Cyrillic a
        "https://host.example/a",
        "host.example/" + "a" * 256,
        "host.example/a:" + "t" * 129,
        "host.example%2f/a",
        "host.example\\/a",
    ],
)
def test_references_that_name_nothing(text: str) -> None:
    assert code_of(Reference.parse, text) == "oci.bad_reference"


@pytest.mark.parametrize(
    "text",
    [
        "host.example/a",
        "host.example:5000/a/b-c/d_e.f__g:V1.0_x-y",
        "localhost/a",
        "[::1]:5000/a:b",
        "127.0.0.1:5000/a@sha256:" + "ab" * 32,
        "host.example/a:b@sha256:" + "ab" * 32,
    ],
)
def test_references_print_as_they_were_read(text: str) -> None:
    assert str(Reference.parse(text)) == text


def test_the_host_is_read_without_regard_to_case() -> None:
    assert Reference.parse("Host.Example:5000/a").host == "host.example:5000"
    assert Reference.parse("docker.io/library/a").api_host == "registry-1.docker.io"


@given(st.text(max_size=80))
def test_any_reference_parses_or_is_refused(text: str) -> None:
    for one in (text, f"h.example/{text}", f"{text}.example/a", f"h.example/a:{text}"):
        try:
            found = Reference.parse(one)
        except InputError:
            continue
        assert Reference.parse(str(found)) == found
        assert str(found).isascii()
        assert not set(str(found)) & set(" ?#%\\\n")


@given(st.text(max_size=200))
def test_any_challenge_is_read_to_an_end(text: str) -> None:
    for one in parse_challenges(text) + parse_challenges(f'Bearer realm="x",{text}'):
        assert one.scheme == one.scheme.lower()


def test_challenges_are_told_apart() -> None:
    found = parse_challenges('Basic realm="a, b", Bearer realm="c\\"d",service=e , Negotiate')
    assert [(one.scheme, dict(one.parameters)) for one in found] == [
        ("basic", {"realm": "a, b"}),
        ("bearer", {"realm": 'c"d', "service": "e"}),
        ("negotiate", {}),
    ]


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_manifest_and_logins_parse_or_are_refused(data: bytes) -> None:
    for parse in (parse_manifest, parse_logins):
        with suppress(KeepstoneError):
            parse(data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_descriptor_parses_or_is_refused(value: Any) -> None:
    for item in (value, {"mediaType": value, "digest": value, "size": value}):
        assert code_of(parse_descriptor, item) == "oci.malformed"


def test_logins_by_host() -> None:
    auth = base64.b64encode(b"user:pass:word").decode()
    document = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": auth},
            "Host.Example:5000": {"auth": auth},
            "helped.example": {},
        },
        "credsStore": "rm-rf",
    }
    found = parse_logins(json.dumps(document).encode())
    assert found == {
        "index.docker.io": Login("user", "pass:word"),
        "host.example:5000": Login("user", "pass:word"),
    }
    assert "pass" not in repr(found)
    for bad in ("?", base64.b64encode(b"nocolon").decode(), base64.b64encode(b"\xff:").decode()):
        data = json.dumps({"auths": {"h": {"auth": bad}}}).encode()
        assert code_of(parse_logins, data) == "oci.bad_logins"


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    assert code_of(Registry) == "extra.http"


# What a server may leave out, or do in another way


def test_a_digest_that_no_header_tells_is_looked_up(start: Start) -> None:
    for told in ({}, {"Docker-Content-Digest": "sha256:xx"}):
        server, reference, client = start(
            lambda asked, told=told: manifest(**told) if asked.method == "HEAD" else manifest()
        )
        assert client.find(reference) == Digest.of(json.dumps(EMPTY).encode())
        assert [asked.method for asked in server.asked] == ["HEAD", "GET"]


def test_referrers_by_the_api_for_them(start: Start) -> None:
    one = {"mediaType": IMAGE_MANIFEST, "digest": str(Digest.of(b"s")), "size": 3}
    index = {
        "schemaVersion": 2,
        "mediaType": IMAGE_INDEX,
        "manifests": [{**one, "artifactType": "a/b"}, one],
    }
    server, reference, client = start(lambda asked: manifest(index, IMAGE_INDEX))
    digest = Digest.of(b"subject")
    assert len(client.referrers(reference, digest)) == 2
    assert [each.artifact_type for each in client.referrers(reference, digest, "a/b")] == ["a/b"]
    assert server.asked[0].path == f"/v2/team/thing/referrers/{digest}"
    _, reference, client = start(lambda asked: Reply(500))
    assert code_of(client.referrers, reference, digest) == "oci.failed"
    # Where a tag stands in for it, and points at something else.
    _, reference, client = start(
        lambda asked: manifest() if "manifests" in asked.path else Reply(404)
    )
    assert code_of(client.referrers, reference, digest) == "oci.malformed"


def test_a_place_that_gives_no_token(start: Start) -> None:
    tokens, _, _ = start(lambda asked: Reply(403))
    header = f'Bearer realm="http://{tokens.host}/"'
    _, reference, client = start(lambda asked: challenge(asked, header, manifest()))
    with pytest.raises(KeepstoneError, match="another host gives them") as caught:
        client.manifest(reference)
    assert caught.value.code == "oci.denied"


def test_what_is_not_permitted_is_said(start: Start) -> None:
    _, reference, client = start(lambda asked: Reply(403, body=b'{"errors":[{"code":"DENIED"}]}'))
    for action in (client.manifest, client.tags, client.find):
        assert code_of(action, reference) == "oci.denied"
    assert code_of(client.delete_manifest, reference, Digest.of(b"x")) == "oci.denied"


def test_a_registry_that_took_something_else_is_found_out(start: Start) -> None:
    told = {"Docker-Content-Digest": str(Digest.of(b"other"))}
    _, reference, client = start(lambda asked: Reply(201, told))
    assert code_of(client.push_manifest, reference, EMPTY, tag="v1") == "oci.wrong_digest"


def test_an_upload_that_fails_half_way_is_given_up(start: Start) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(202, {"Location": "/upload?state=x"})
        return Reply(500)

    server, reference, client = start(answer)
    assert code_of(client.push, reference, b"data", "a/b") == "oci.failed"

    def push() -> None:
        with client.upload(reference) as upload:
            upload.write(memoryview(b"data"))
            upload.finish()

    assert code_of(push) == "oci.failed"
    assert [asked.method for asked in server.asked][-3:] == ["POST", "PATCH", "DELETE"]
    assert server.asked[-1].path == "/upload?state=x"


def test_docker_hub_is_one_party_under_its_names() -> None:
    for name in ("docker.io", "index.docker.io"):
        for asked in ("registry-1.docker.io", "auth.docker.io"):
            assert login_for({name: LOGIN}, asked) is LOGIN
    assert login_for({"docker.io": LOGIN}, "docker.io.example.org") is None


def test_where_logins_are_looked_for(tmp_path: Path) -> None:
    auth = base64.b64encode(b"user:word").decode()
    file = tmp_path / ".docker" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {"h.example": {"auth": auth}}}))
    expected = {"h.example": Login("user", "word")}
    assert find_logins({"HOME": str(tmp_path)}) == expected
    assert find_logins({"DOCKER_CONFIG": str(file.parent)}) == expected
    assert find_logins({"REGISTRY_AUTH_FILE": str(file)}) == expected
    assert find_logins({"HOME": str(tmp_path / "none")}) == {}
    missing, folder = str(tmp_path / "none"), str(tmp_path)
    assert code_of(find_logins, {"REGISTRY_AUTH_FILE": missing}) == "oci.logins_unreadable"
    assert code_of(find_logins, {"REGISTRY_AUTH_FILE": folder}) == "oci.logins_unreadable"
    file.write_bytes(b" " * (2 << 20))
    assert code_of(find_logins, {"HOME": str(tmp_path)}) == "oci.bad_logins"
