"""The database folder against servers that answer slowly, wrongly, half and for ever."""

from __future__ import annotations

import errno
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.identity.tls import create_ca, issue_leaf
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.places import look
from keepstone.scan.vulndb import exchange
from keepstone.scan.vulndb.archive import ArchiveLimits
from keepstone.scan.vulndb.download import FetchLimits, check_url
from keepstone.scan.vulndb.exchange import put_in_place
from keepstone.scan.vulndb.record import (
    DatabaseRecord,
    Part,
    check_ecosystem,
    parse_record,
    read_record,
)
from keepstone.scan.vulndb.update import UpdateOptions, update
from keepstone.scan.vulndb.verify import verify_folder
from tests.scan.osv_server import Osv, osv_record, osv_server, osv_zip, zip_of

ONE = osv_zip(osv_record("GHSA-aaaa-bbbb-cccc"))
TWO = osv_zip(osv_record("GHSA-aaaa-bbbb-cccc"), osv_record("PYSEC-2026-1"))
QUICK = FetchLimits(size=1 << 20, seconds=1.5, silence=0.5)


@pytest.fixture
def osv() -> Iterator[Osv]:
    with osv_server() as server:
        yield server


def bring(
    osv: Osv,
    folder: Path,
    *ecosystems: str,
    fetching: FetchLimits = QUICK,
    archive: ArchiveLimits | None = None,
) -> DatabaseRecord:
    options = UpdateOptions(osv.url, fetching=fetching, archive=archive or ArchiveLimits())
    return update(folder, ecosystems or ("PyPI",), options)


def refused(osv: Osv, folder: Path, **given: object) -> str:
    """The code; and the folder is what it was, with nothing left beside it."""
    before = state(folder)
    with pytest.raises(KeepstoneError) as caught:
        bring(osv, folder, **given)  # type: ignore[arg-type]
    assert state(folder) == before
    assert {path.name for path in folder.parent.iterdir()} <= {folder.name, f".{folder.name}.lock"}
    return caught.value.code


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.loopback
def test_an_update_fetches_checks_and_records(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", TWO, headers={"ETag": '"1"', "Last-Modified": "yesterday"})
    osv.put("Debian:12", ONE)
    record = bring(osv, tmp_path / "db", "PyPI", "Debian:12")
    assert [part.ecosystem for part in record.parts] == ["Debian:12", "PyPI"]
    part = record.part("PyPI")
    assert part is not None
    assert (part.records, part.size, part.sha256) == (2, len(TWO), Digest.of(TWO))
    assert (part.etag, part.last_modified) == ('"1"', "yesterday")
    assert part.source == f"{osv.url}/PyPI/all.zip"
    assert part.newest is not None
    assert read_record(tmp_path / "db") == verify_folder(tmp_path / "db") == record
    assert (tmp_path / "db" / "PyPI" / "all.zip").read_bytes() == TWO
    assert {path.name for path in tmp_path.iterdir()} == {"db", ".db.lock"}


@pytest.mark.loopback
def test_what_has_not_changed_is_asked_for_and_not_sent_again(osv: Osv, tmp_path: Path) -> None:
    answer = osv.put("PyPI", ONE, headers={"ETag": '"1"', "Last-Modified": "then"})
    first = bring(osv, tmp_path / "db")
    again = bring(osv, tmp_path / "db")
    assert answer.seen[1]["if-none-match"] == '"1"'
    assert answer.seen[1]["if-modified-since"] == "then"
    assert again.digest == first.digest
    assert again.parts[0].fetched == first.parts[0].fetched
    assert again.checked >= first.checked
    verify_folder(tmp_path / "db")


@pytest.mark.loopback
def test_what_is_damaged_is_fetched_anew_whatever_the_server_would_say(
    osv: Osv, tmp_path: Path
) -> None:
    answer = osv.put("PyPI", ONE, headers={"ETag": '"1"'})
    bring(osv, tmp_path / "db")
    (tmp_path / "db" / "PyPI" / "all.zip").write_bytes(TWO)
    bring(osv, tmp_path / "db")
    assert "if-none-match" not in answer.seen[1]
    verify_folder(tmp_path / "db")


@pytest.mark.loopback
def test_others_in_the_folder_are_kept_and_updated(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE)
    npm = osv.put("npm", ONE)
    bring(osv, tmp_path / "db", "npm")
    record = bring(osv, tmp_path / "db", "PyPI")
    assert [part.ecosystem for part in record.parts] == ["PyPI", "npm"]
    assert len(npm.seen) == 2


def test_nothing_named_is_no_update(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        update(tmp_path / "db")
    assert caught.value.code == "vulndb.nothing_named"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError) as caught:
        update(tmp_path / "db", ["PyPI"])
    assert caught.value.code == "vulndb.not_ours"
    assert (tmp_path / "db" / "thesis.tex").read_text() == "all of it"


BAD_BODIES = {
    "a page": b"<html>please log in</html>",
    "nothing": b"",
    "half": TWO[: len(TWO) // 2],
    "the end": TWO[len(TWO) // 2 :],
    "no record": zip_of({}),
    "not JSON": zip_of({"GHSA-a.json": b"{"}),
    "a list": zip_of({"GHSA-a.json": b"[]"}),
    "no id": zip_of({"GHSA-a.json": b'{"modified": "2026-01-02T03:04:05Z"}'}),
    "no time": zip_of({"GHSA-a.json": b'{"id": "GHSA-a", "modified": "yesterday"}'}),
    "another id": zip_of({"GHSA-b.json": json.dumps(osv_record("GHSA-a")).encode()}),
    "leads out": zip_of({"../GHSA-a.json": json.dumps(osv_record("GHSA-a")).encode()}),
    "a folder": zip_of({"a/GHSA-a.json": json.dumps(osv_record("GHSA-a")).encode()}),
    "a program": zip_of({"setup.py": b"import os"}),
    "affected is a text": osv_zip(osv_record("GHSA-a") | {"affected": "all"}),
    "not UTF-8": zip_of({"GHSA-a.json": b'{"id": "\xff"}'}),
}


@pytest.mark.loopback
@pytest.mark.parametrize("what", BAD_BODIES)
def test_what_is_not_osvs_archive_changes_nothing(osv: Osv, tmp_path: Path, what: str) -> None:
    osv.put("PyPI", ONE)
    bring(osv, tmp_path / "db")
    osv.put("PyPI", BAD_BODIES[what])
    assert refused(osv, tmp_path / "db") == "vulndb.not_osv"


@pytest.mark.loopback
def test_a_member_whose_checksum_is_wrong_changes_nothing(osv: Osv, tmp_path: Path) -> None:
    data = bytearray(ONE)
    data[60] ^= 1
    osv.put("PyPI", bytes(data))
    assert refused(osv, tmp_path / "db") == "vulndb.not_osv"


@pytest.mark.loopback
def test_one_bad_ecosystem_leaves_all_as_they_were(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE)
    osv.put("npm", ONE)
    bring(osv, tmp_path / "db", "PyPI", "npm")
    osv.put("PyPI", TWO)
    osv.put("npm", b"no")
    assert refused(osv, tmp_path / "db") == "vulndb.not_osv"


@pytest.mark.loopback
def test_records_of_a_newer_schema_are_refused_by_name(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", osv_zip(osv_record("GHSA-a", schema_version="2.0.0")))
    assert refused(osv, tmp_path / "db") == "vulndb.newer_osv"


@pytest.mark.loopback
def test_a_bomb_is_refused_before_it_is_unpacked(osv: Osv, tmp_path: Path) -> None:
    record = json.dumps(osv_record("GHSA-a") | {"details": "0" * 100_000}).encode()
    osv.put("PyPI", zip_of({"GHSA-a.json": record}))
    small = ArchiveLimits(record=50_000)
    assert refused(osv, tmp_path / "db", archive=small) == "vulndb.not_osv"
    many = osv_zip(*(osv_record(f"GHSA-{n}") for n in range(30)))
    osv.put("PyPI", many)
    for limits in (ArchiveLimits(records=29), ArchiveLimits(unpacked=5000)):
        assert refused(osv, tmp_path / "db", archive=limits) == "vulndb.not_osv"
    assert refused(osv, tmp_path / "db", archive=ArchiveLimits(directory=99)) == "vulndb.not_osv"


@pytest.mark.loopback
def test_a_mirror_that_goes_back_in_time_is_refused(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", TWO)
    bring(osv, tmp_path / "db")
    osv.put("PyPI", osv_zip(osv_record("GHSA-a") | {"modified": "2025-12-31T00:00:00Z"}))
    assert refused(osv, tmp_path / "db") == "vulndb.older"


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "vulndb.no_such_file"),
        (500, "vulndb.bad_answer"),
        (503, "vulndb.bad_answer"),
        (206, "vulndb.bad_answer"),
        # Not asked for: there is nothing here that could be unchanged.
        (304, "vulndb.bad_answer"),
        (401, "vulndb.bad_answer"),
    ],
)
def test_a_status_that_gives_nothing(osv: Osv, tmp_path: Path, status: int, code: str) -> None:
    osv.put("PyPI", b"" if status == 304 else ONE, status=status)
    assert refused(osv, tmp_path / "db") == code


@pytest.mark.loopback
def test_an_ecosystem_that_is_not_there(osv: Osv, tmp_path: Path) -> None:
    assert refused(osv, tmp_path / "db") == "vulndb.no_such_file"


def drip(osv: Osv, data: bytes) -> object:
    """Send a byte now and then, and never come to the end."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        while not osv.stop.wait(0.05):
            handler.wfile.write(data)
            handler.wfile.flush()

    return send


@pytest.mark.loopback
def test_nobody_holds_it_beyond_its_time(osv: Osv, tmp_path: Path) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        osv.stop.wait(10)

    def slow_body(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        drip(osv, b"P")(handler)  # type: ignore[operator]

    for instead in (silent, slow_body, drip(osv, b"x")):
        osv.put("PyPI", b"", instead=instead)
        assert refused(osv, tmp_path / "db") == "vulndb.too_slow"


@pytest.mark.loopback
def test_a_body_that_never_ends_is_cut_off(osv: Osv, tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not osv.stop.is_set():
            handler.wfile.write(bytes(1 << 16))

    osv.put("PyPI", b"", instead=endless)
    long = FetchLimits(size=1 << 20, seconds=60, silence=10)
    assert refused(osv, tmp_path / "db", fetching=long) == "vulndb.too_large"


@pytest.mark.loopback
def test_a_size_that_is_declared_too_large_is_not_even_read(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", b"", headers={"Content-Length": str(1 << 40)})
    assert refused(osv, tmp_path / "db") == "vulndb.too_large"


@pytest.mark.loopback
def test_a_body_that_breaks_off(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE[:-10], headers={"Content-Length": str(len(ONE))})
    assert refused(osv, tmp_path / "db") == "vulndb.unreachable"


@pytest.mark.loopback
def test_an_encoding_that_was_not_asked_for(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE, headers={"Content-Encoding": "gzip"})
    assert refused(osv, tmp_path / "db") == "vulndb.bad_answer"


@pytest.mark.loopback
def test_nobody_there(osv: Osv, tmp_path: Path) -> None:
    osv.url = "http://127.0.0.1:1"
    assert refused(osv, tmp_path / "db") == "vulndb.unreachable"


@pytest.mark.loopback
def test_redirects_are_followed_a_few_times(osv: Osv, tmp_path: Path) -> None:
    osv.put("real", ONE)
    osv.put("PyPI", b"", status=302, headers={"Location": "/real/all.zip"})
    assert bring(osv, tmp_path / "db").records == 1
    osv.put("PyPI", b"", status=302, headers={"Location": "/PyPI/all.zip"})
    assert refused(osv, tmp_path / "db") == "vulndb.bad_answer"


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://example.org/all.zip", "vulndb.insecure_url"),
        ("https://127.0.0.1/all.zip", "vulndb.insecure_url"),
        ("file:///etc/passwd", "vulndb.url"),
        ("//user:secret@127.0.0.1/x", "vulndb.url"),
        ("http://[", "vulndb.url"),
    ],
)
def test_a_redirect_to_elsewhere(osv: Osv, tmp_path: Path, location: str, code: str) -> None:
    osv.put("PyPI", b"", status=302, headers={"Location": location})
    assert refused(osv, tmp_path / "db") == code


@pytest.mark.loopback
def test_https_is_not_led_down_to_http(
    osv: Osv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns() // 1_000_000
    authority = create_ca([], now)
    leaf = issue_leaf(authority, ["localhost"], now)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "leaf.pem").write_bytes(leaf.chain_pem)
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "key.pem")
    place = tmp_path / "place"
    place.mkdir()
    osv.put("PyPI", ONE)
    with osv_server(tls) as secure:
        secure.put("PyPI", b"", status=302, headers={"Location": f"{osv.url}/PyPI/all.zip"})
        assert refused(secure, place / "db") == "vulndb.insecure_url"
        secure.put("PyPI", ONE)
        assert bring(secure, place / "db").records == 1
        # And it is that server's certificate that counts.
        monkeypatch.delenv("SSL_CERT_FILE")
        assert refused(secure, place / "db") == "vulndb.unreachable"


@pytest.mark.parametrize(
    "url",
    ["http://example.org", "http://192.0.2.1/x", "http://127.0.0.1.example.org", "http://127.1.x"],
)
def test_plain_http_to_another_machine_is_asked_for_by_name(url: str) -> None:
    with pytest.raises(KeepstoneError) as caught:
        check_url(url, False)
    assert caught.value.code == "vulndb.insecure_url"
    check_url(url, True)


@pytest.mark.parametrize(
    "url", ["", "ftp://h/x", "https://", "https://u:p@h/", "h/x", "http://h:x"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InputError) as caught:
        check_url(url, True)
    assert caught.value.code == "vulndb.url"


_KILLED = """
import os, signal, sys
from pathlib import Path
from keepstone.scan.vulndb import update as module
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
where, folder, base = sys.argv[1:]
real = module.put_in_place
def after(*given):
    real(*given)
    die()
if where == "after":
    module.put_in_place = after
else:
    setattr(module, where, die)
module.update(Path(folder), ["PyPI"], module.UpdateOptions(base))
"""


@pytest.mark.loopback
@pytest.mark.parametrize(
    "where", ["check_archive", "DatabaseRecord", "write_atomic", "put_in_place", "after"]
)
def test_killed_at_any_step_it_is_the_old_one_or_the_new_one(
    osv: Osv, tmp_path: Path, where: str
) -> None:
    osv.put("PyPI", ONE)
    bring(osv, tmp_path / "db")
    before = state(tmp_path / "db")
    osv.put("PyPI", TWO)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, where, str(tmp_path / "db"), osv.url], check=False
    )
    assert done.returncode == -signal.SIGKILL
    found = verify_folder(tmp_path / "db")
    assert found.records == (2 if where == "after" else 1)
    assert where == "after" or state(tmp_path / "db") == before
    # What it left is no hindrance, and goes.
    assert bring(osv, tmp_path / "db").records == 2
    assert {path.name for path in tmp_path.iterdir()} == {"db", ".db.lock"}


@pytest.mark.loopback
def test_killed_while_it_fetches_and_two_at_once(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE)
    bring(osv, tmp_path / "db")
    began = tmp_path / "began"

    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(TWO)))
        handler.end_headers()
        handler.wfile.write(TWO[:50])
        handler.wfile.flush()
        began.touch()
        osv.stop.wait(30)

    osv.put("PyPI", b"", instead=half)
    command = ["vulndb", "update", "--into", str(tmp_path / "db"), "--from", osv.url]
    child = subprocess.Popen(
        [sys.executable, "-m", "keepstone.cli", *command, "--ecosystem", "PyPI"],
        stderr=subprocess.DEVNULL,
    )
    while not began.exists():
        assert child.poll() is None
        time.sleep(0.02)
    with pytest.raises(OperationalError) as caught:
        bring(osv, tmp_path / "db")
    assert caught.value.code == "vulndb.busy"
    child.kill()
    child.wait()
    assert verify_folder(tmp_path / "db").records == 1
    osv.put("PyPI", TWO)
    assert bring(osv, tmp_path / "db").records == 2


def test_a_swap_takes_one_step_and_needs_no_predecessor(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "what").write_text(name)
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "what").read_text() == "new"
    assert (tmp_path / "new" / "what").read_text() == "old"
    put_in_place(tmp_path / "new", tmp_path / "first")
    assert (tmp_path / "first" / "what").read_text() == "old"
    with pytest.raises(KeepstoneError):
        put_in_place(tmp_path / "nowhere", tmp_path / "first")


def test_where_two_folders_cannot_be_swapped_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(exchange, "_exchange", unsupported)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    with pytest.raises(OperationalError) as caught:
        put_in_place(tmp_path / "new", tmp_path / "old")
    assert caught.value.code == "vulndb.cannot_swap"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.loopback
def test_verify_sees_every_change(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE)
    folder = tmp_path / "db"

    def changed() -> str:
        with pytest.raises(KeepstoneError) as caught:
            verify_folder(folder)
        return caught.value.code

    bring(osv, folder)
    archive = folder / "PyPI" / "all.zip"
    archive.write_bytes(TWO)
    assert changed() == "vulndb.changed"
    archive.unlink()
    assert changed() == "vulndb.changed"
    archive.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(ONE)
    assert changed() == "vulndb.changed"
    archive.unlink()
    os.mkfifo(archive)
    assert changed() == "vulndb.changed"
    archive.unlink()
    archive.write_bytes(ONE)
    verify_folder(folder)
    (folder / "PyPI" / "more.json").write_text("{}")
    assert changed() == "vulndb.changed"
    (folder / "PyPI" / "more.json").unlink()
    # Also what no scan would read.
    (folder / "notes.txt").write_text("mine")
    assert changed() == "vulndb.changed"
    (folder / "notes.txt").unlink()
    verify_folder(folder)
    record = folder / ".vulndb.json"
    text = record.read_text()
    record.write_text(text.replace(Digest.of(ONE).hex, Digest.of(TWO).hex))
    assert changed() == "vulndb.changed"
    digest = json.loads(text)["digest"]
    record.write_text(text.replace(digest, str(Digest.of(b"other"))))
    assert changed() == "vulndb.changed"
    record.write_text(text.replace('"PyPI"', '"PyPI/.."'))
    assert changed() == "vulndb.ecosystem"
    record.write_text("{}")
    assert changed() == "vulndb.malformed"
    record.write_text(text.replace("vulndb/v1", "vulndb/v2"))
    assert changed() == "vulndb.newer_version"
    record.unlink()
    assert changed() == "vulndb.missing"


@given(st.binary(max_size=200))
def test_a_record_is_read_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        parse_record(data)
    except InputError:
        return
    raise AssertionError("no bytes of this length are a record")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../x", "x..y", "PyPI ", "Py\nPI", "\uff30yPI", "x" * 70, "-x"]
)
def test_what_is_no_ecosystem(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_ecosystem(name)
    assert caught.value.code == "vulndb.ecosystem"


def test_a_folder_is_as_current_as_its_oldest_part() -> None:
    one = Part("PyPI", "https://a", Digest.of(b"a"), 1, 1, 5, 10, 10)
    later = Part("npm", "https://b", Digest.of(b"a"), 1, 1, 5, 20, 30, '"e"')
    record = DatabaseRecord(Digest.of(b"all"), (one, later))
    assert (record.checked, record.records) == (10, 2)
    assert parse_record(canonical(record.to_dict())) == record


@pytest.mark.loopback
def test_its_digest_is_the_one_that_a_scan_names(osv: Osv, tmp_path: Path) -> None:
    osv.put("PyPI", ONE)
    record = bring(osv, tmp_path / "db")
    lock = tmp_path / "requirements.txt"
    lock.write_text("left-pad==1.0\n")
    found = read_database(tmp_path / "db", look(lock).packages, 2**40)
    assert found.digest == record.digest
    assert not found.broken
    assert [one.id for many in found.advisories.values() for one in many] == ["GHSA-aaaa-bbbb-cccc"]
