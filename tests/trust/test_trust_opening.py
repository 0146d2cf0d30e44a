"""A machine that has no workspace: whom it believes, what it remembers, what it forgets never."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import OperationalError
from keepstone.identity.signing import SigningKey
from keepstone.policy.bundle import Seen
from keepstone.trust.seen import SeenBundles

Code = Callable[..., str]
MODEL = Digest.of(b"model")
HOUR = 3_600_000


def test_the_first_bundle_needs_a_key_and_later_ones_are_held_to_it(
    machine: Any, sender: Any, code: Code
) -> None:
    sender.scan(MODEL)
    data = sender.bundle()
    assert code(machine.open, data, None) == "trust.no_key/2"
    assert code(machine.open, data, "abc") == "key.malformed/2"
    assert code(machine.open, data, "0" * 64) == "trust.wrong_key/1"
    # None of these was taken for the first one.
    assert code(machine.open, data, None) == "trust.no_key/2"
    assert machine.open(data).bundle.key_id == sender.gate.key_id
    assert machine.open(data, None).verdict(Subject("scale", MODEL)).allowed

    thief = type(sender)(gate=SigningKey.generate(), bodies=sender.bodies)
    assert code(machine.open, thief.bundle(), None) == "trust.wrong_key/1"
    assert code(machine.open, thief.bundle(), thief.gate.key_id) == "trust.key_changed/1"
    # Another origin is another first time.
    other = type(sender)(origin="keepstone/other", bodies=sender.bodies)
    assert code(machine.open, other.bundle(), None) == "trust.no_key/2"


def test_an_older_bundle_than_the_last_one_seen_is_refused(
    machine: Any, sender: Any, code: Code
) -> None:
    sender.scan(MODEL)
    old = sender.bundle()
    assert machine.open(old).revoked(MODEL) is None
    sender.revoke(MODEL)
    new = machine.open(sender.bundle())
    assert new.revoked(MODEL) is not None
    assert code(new.permit, Subject("scale", MODEL)) == "gate.revoked/1"
    assert code(machine.open, old) == "trust.rolled_back/1"
    # Only a machine that has forgotten takes it again, and then asks for the key.
    (machine.outside / SeenBundles(machine.outside).path(sender.origin).name).unlink()
    assert code(machine.open, old, None) == "trust.no_key/2"


def test_what_was_only_shown_is_not_remembered(machine: Any, sender: Any, code: Code) -> None:
    sender.scan(MODEL)
    old = sender.bundle()
    sender.revoke(MODEL)
    shown = machine.open(sender.bundle(), remember=False)
    assert not machine.outside.exists()
    assert shown.revoked(MODEL) is not None
    assert code(shown.permit, Subject("scale", MODEL)) == "trust.not_remembered/1"
    assert machine.open(old)
    assert machine.open(sender.bundle(), remember=False)
    assert machine.open(old)
    machine.open(sender.bundle())
    assert code(machine.open, old, remember=False) == "trust.rolled_back/1"


def test_a_clock_set_back_revives_nothing(machine: Any, sender: Any, code: Code) -> None:
    sender.scan(MODEL)
    data = sender.bundle(lifetime=HOUR)
    start = machine.clock.now
    machine.clock.now = start - 1
    assert code(machine.open, data) == "trust.not_yet/1"
    machine.clock.now = start + HOUR - 1
    trusted = machine.open(data)
    machine.clock.now = start
    # Held open it never goes back, and opened anew it goes by the latest time of use.
    assert trusted.now() == start + HOUR - 1
    assert machine.open(data).now() == start + HOUR - 1
    machine.clock.now = start + HOUR
    assert code(trusted.revoked, MODEL) == "trust.expired/1"
    assert code(trusted.verdict, Subject("scale", MODEL)) == "trust.expired/1"
    machine.clock.now = start
    assert code(trusted.about, Subject("scale", MODEL)) == "trust.expired/1"
    assert code(machine.open, sender.bundle(), max_age_ms=1000) == "trust.stale/1"


def test_the_minute_of_the_last_use_is_kept_and_not_each_one(machine: Any, sender: Any) -> None:
    sender.scan(MODEL)
    data = sender.bundle()
    kept = SeenBundles(machine.outside)
    start = machine.clock.now
    for after, latest in ((0, 0), (59_999, 0), (60_000, 60_000), (60_001, 60_000)):
        machine.clock.now = start + after
        machine.open(data)
        seen = kept.newest(sender.origin)
        assert seen is not None
        assert seen.latest == start + latest


def test_what_is_remembered_is_private_and_cannot_be_misread(
    machine: Any, sender: Any, code: Code
) -> None:
    sender.scan(MODEL)
    data = sender.bundle()
    machine.open(data)
    path = SeenBundles(machine.outside).path(sender.origin)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.outside.stat().st_mode) == 0o700
    kept = path.read_bytes()
    other = json.dumps(json.loads(kept) | {"origin": "keepstone/other"}).encode()
    newer = json.dumps(json.loads(kept) | {"schema": "keepstone.trust-seen/v2"}).encode()
    more = json.dumps(json.loads(kept) | {"more": 1}).encode()
    for broken in (b"", b"{}", kept[:-1], other, newer, more, b" " * 5000):
        path.write_bytes(broken)
        # Never taken for a machine that has seen nothing.
        assert code(machine.open, data) == "trust.state_unreadable/3"
        assert path.read_bytes() == broken
    path.write_bytes(kept)
    assert machine.open(data)
    path.chmod(0o644)
    assert code(machine.open, data) == "trust.state_unreadable/3"
    path.unlink()
    path.symlink_to("/dev/null")
    assert code(machine.open, data) == "trust.state_unreadable/3"
    path.unlink()
    os.mkfifo(path, 0o600)
    assert code(machine.open, data) == "trust.state_unreadable/3"


def test_another_users_memory_is_not_ours(
    machine: Any, sender: Any, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.scan(MODEL)
    machine.open(sender.bundle())
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert code(machine.open, sender.bundle()) == "trust.state_unreadable/3"


def test_what_cannot_be_remembered_is_not_used(
    machine: Any, sender: Any, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: SeenBundles, seen: Seen) -> None:
        raise OperationalError("disk.full", "There is no room left.")

    sender.scan(MODEL)
    monkeypatch.setattr(SeenBundles, "keep", fail)
    assert code(machine.open, sender.bundle()) == "disk.full/3"


def test_two_processes_cannot_forget_for_each_other(machine: Any, sender: Any, code: Code) -> None:
    sender.scan(MODEL)
    old = sender.bundle()
    sender.revoke(MODEL)
    new = sender.bundle()
    path = machine.root / "old.trust"
    path.write_bytes(old)
    # While one process holds what was seen, another one waits with its older bundle.
    kept, done = SeenBundles(machine.outside), threading.Event()
    codes: list[str] = []

    def use_old() -> None:
        codes.append(code(machine.open, old))
        done.set()

    with kept.alone(sender.origin):
        thread = threading.Thread(target=use_old)
        thread.start()
        assert not done.wait(0.2)
        kept.keep(machine.open(new, remember=False).bundle.seen())
    thread.join(10)
    assert codes == ["trust.rolled_back/1"]


def test_a_file_that_is_not_there_or_not_a_bundle(machine: Any, code: Code) -> None:
    from keepstone.trust import open_bundle

    assert code(open_bundle, machine.root / "no", outside=machine.outside) == "trust.missing/2"
    assert code(machine.open, b"{}") == "envelope.malformed/2"


def test_a_name_is_found_where_it_is_plain(machine: Any, sender: Any, code: Code) -> None:
    sender.scan(MODEL)
    assert machine.open(sender.bundle()).subject_of(MODEL) == Subject("scale", MODEL)
    sender.scan(MODEL, name="again")
    trusted = machine.open(sender.bundle())
    assert code(trusted.subject_of, MODEL) == "trust.no_name/2"
    assert code(trusted.subject_of, Digest.of(b"other")) == "trust.no_name/2"
    assert trusted.subject_of(MODEL, "again") == Subject("again", MODEL)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_remembered_bytes_are_unreadable(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = SeenBundles(tmp_path_factory.getbasetemp() / "fuzzed")
    with kept.alone("o"):
        path: Path = kept.path("o")
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(OperationalError):
            kept.newest("o")
