"""What may be put on the record, and a revocation that nothing keeps waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.ledger import Ledger, LedgerReader
from keepstone.workspace.admit import ENDPOINT, judge
from keepstone.workspace.opened import Workspace
from keepstone.workspace.operations import execute, perform
from keepstone.workspace.reading import read_workspace
from keepstone.workspace.reserve import SIZE, keep_reserve, release_reserve

FULL = OperationalError("ledger.disk_full", "No room is left.")


def _rule(workspace: Workspace, subject: Subject) -> str:
    return judge(workspace, subject, ENDPOINT).rule


# Who may say what


def test_a_statement_is_on_the_record_and_in_force(served: Any, subject: Subject) -> None:
    envelope = served.approval(subject)
    with served.open() as workspace:
        entry, found = workspace.record(envelope)
        assert workspace.evidence.statement(envelope.digest) is not None
    with read_workspace(served.site) as view:
        entry.check(view.reader.body(entry.index))
        assert view.evidence.statement(envelope.digest) is not None
    assert (found.kind, found.subject) == ("approval", subject)


@pytest.mark.parametrize(
    ("by", "expected"),
    [("stranger", "signature.unknown_key/1"), ("alice", "statement.no_right/1")],
)
def test_who_is_unknown_or_has_no_right_says_nothing(
    served: Any, subject: Subject, code: Callable[..., str], by: str, expected: str
) -> None:
    before = served.entries()
    with served.open() as workspace:
        assert code(workspace.record, served.approval(subject, by)) == expected
        assert code(workspace.record, served.revocation(subject, by)) == expected
        assert _rule(workspace, subject) == "gate.admit"
    assert served.entries() == before


def test_a_signature_by_somebody_elses_key_is_refused(
    served: Any, subject: Subject, code: Callable[..., str]
) -> None:
    said = served.approval(subject, "stranger").to_dict()
    said["signatures"][0]["keyid"] = served.keys["bob"].key_id
    with served.open() as workspace:
        assert code(workspace.record, Envelope.from_dict(said)).endswith("/1")
    assert not [item for item in served.entries("statement") if "looked at it" in str(item)]


# Revocation


def test_a_revocation_is_in_force_before_it_is_recorded(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    append = Ledger.append

    def watch(self: Ledger, body: bytes, hold: bool = False) -> object:
        order.append("recorded")
        return append(self, body, hold)

    with served.open() as workspace:
        workspace.on_change(lambda: order.append(_rule(workspace, subject)))
        monkeypatch.setattr(Ledger, "append", watch)
        entry, _ = workspace.record(served.revocation(subject))
        monkeypatch.undo()
        assert order == ["guard.revoked", "recorded"]
        assert _rule(workspace, subject) == "guard.revoked"
        denial = workspace.evidence.denied(subject.digest, served.clock.now)
        assert denial is not None
        assert denial.statement.entry_index == entry.index


@pytest.mark.parametrize(
    "fault",
    [FULL, OperationalError("ledger.stopped", "."), OperationalError("ledger.not_durable", ".")],
    ids=lambda error: error.code,
)
def test_a_full_disk_does_not_keep_a_revocation_off_the_record(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch, fault: OperationalError
) -> None:
    append, faults = Ledger.append, [fault]

    def fail_once(self: Ledger, body: bytes, hold: bool = False) -> object:
        if faults:
            raise faults.pop()
        # The space that was kept back is free by now, for this.
        assert not served.layout.reserve.exists()
        return append(self, body, hold)

    with served.open() as workspace:
        assert served.layout.reserve.stat().st_blocks * 512 >= SIZE
        monkeypatch.setattr(Ledger, "append", fail_once)
        workspace.record(served.revocation(subject))
        monkeypatch.undo()
        assert _rule(workspace, subject) == "guard.revoked"
        assert served.layout.reserve.stat().st_blocks * 512 >= SIZE
    with read_workspace(served.site) as view:
        assert view.evidence.denied(subject.digest, view.now) is not None


def test_a_revocation_that_cannot_be_recorded_stays_in_force_and_says_so(
    served: Any, subject: Subject, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Ledger, body: bytes, hold: bool = False) -> object:
        raise FULL

    with served.open() as workspace:
        monkeypatch.setattr(Ledger, "append", fail)
        assert code(workspace.record, served.revocation(subject)) == "ledger.disk_full/3"
        monkeypatch.undo()
        assert _rule(workspace, subject) == "guard.revoked"
        # Nothing that reads the record again forgets it: another policy, another revocation.
        served.edit_policy("principal_burst = 2000", "principal_burst = 3")
        workspace.reload_policy()
        assert _rule(workspace, subject) == "guard.revoked"
        workspace.record(served.revocation(Subject("other", Digest("cd" * 32))))
        assert _rule(workspace, subject) == "guard.revoked"
        # Said once more, it is recorded.
        served.clock.now += 1000
        workspace.record(served.revocation(subject))
    with read_workspace(served.site) as view:
        assert view.evidence.denied(subject.digest, view.now) is not None


def test_a_slow_disk_does_not_keep_a_revocation_waiting(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An approval waits for its sync meanwhile, and the revocation's own sync hangs too."""
    go, stopped = threading.Event(), threading.Event()
    append = Ledger.append

    class Slow:
        def __init__(self, pending: Any) -> None:
            self.pending = pending

        def wait(self, timeout: float) -> int:
            assert go.wait(20)
            return int(self.pending.wait(timeout))

    with served.open() as workspace:
        workspace.on_change(
            lambda: stopped.set() if _rule(workspace, subject) == "guard.revoked" else None
        )
        monkeypatch.setattr(Ledger, "append", lambda *given: Slow(append(*given)))
        said = [served.approval(subject), served.revocation(subject)]
        threads = [threading.Thread(target=workspace.record, args=(one,)) for one in said]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        assert stopped.wait(1), "the revocation waited for the disk"
        go.set()
        for thread in threads:
            thread.join()
        monkeypatch.undo()
        assert _rule(workspace, subject) == "guard.revoked"
    kinds = [item.kind for item in _statements(served)]
    assert {"approval", "revocation"} <= set(kinds)


def _statements(served: Any) -> list[Any]:
    with read_workspace(served.site) as view:
        return list(view.evidence.statements)


def test_a_policy_read_anew_while_a_revocation_is_being_recorded_does_not_lift_it(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Ledger.append
    seen: list[str] = []

    with served.open() as workspace:

        def reload_meanwhile(self: Ledger, body: bytes, hold: bool = False) -> object:
            monkeypatch.undo()
            workspace.reload_policy()
            seen.append(_rule(workspace, subject))
            return append(self, body, hold)

        monkeypatch.setattr(Ledger, "append", reload_meanwhile)
        workspace.record(served.revocation(subject))
    assert seen == ["guard.revoked"]


def test_a_revoked_digest_stays_revoked_whatever_is_said_later(
    served: Any, subject: Subject
) -> None:
    with served.open() as workspace:
        workspace.record(served.revocation(subject))
        served.clock.now += 1000
        workspace.record(served.approval(subject))
        renamed = served.model("innocent.onnx")
        for model, name in ((renamed, None), (renamed, "fresh"), (served.model(), "scale")):
            with pytest.raises(DeniedError) as caught:
                served.submit(workspace, model, **({"name": name} if name else {}))
            assert caught.value.code == "gate.revoked"
    with served.open() as workspace, pytest.raises(DeniedError):
        served.submit(workspace)
    assert [event["rule"] for event in served.events("admission.denied")] == ["guard.revoked"] * 4


def test_another_model_of_the_same_name_is_not_revoked_with_it(
    served: Any, subject: Subject
) -> None:
    with served.open() as workspace:
        workspace.record(served.revocation(subject))
        other = served.model("other.onnx", scale=3.0)
        assert served.submit(workspace, other, name="scale").verdict.allowed


@pytest.mark.parametrize(
    ("revoker", "reinstater", "rule"),
    [
        ("carol", "dave", "gate.admit"),
        ("carol", "erin", "gate.admit"),
        # Erin holds both roles, and still cannot take back what she did herself.
        ("erin", "erin", "guard.revoked"),
        ("erin", "dave", "gate.admit"),
    ],
)
def test_only_another_person_reinstates(
    served: Any, subject: Subject, revoker: str, reinstater: str, rule: str
) -> None:
    revocation = served.revocation(subject, revoker)
    with served.open() as workspace:
        workspace.record(revocation)
        workspace.record(served.reinstatement(revocation, subject, reinstater))
        assert _rule(workspace, subject) == rule
    with read_workspace(served.site) as view:
        assert (view.evidence.denied(subject.digest, view.now) is None) == (rule == "gate.admit")


def test_a_second_revocation_denies_again(served: Any, subject: Subject) -> None:
    revocation = served.revocation(subject)
    with served.open() as workspace:
        workspace.record(revocation)
        workspace.record(served.reinstatement(revocation, subject))
        assert _rule(workspace, subject) == "gate.admit"
        served.clock.now += 1000
        workspace.record(served.revocation(subject, "erin"))
        assert _rule(workspace, subject) == "guard.revoked"


def test_revoking_the_observers_key_ends_all_that_it_saw(served: Any, subject: Subject) -> None:
    with served.open() as workspace:
        key = Subject("key", Digest(workspace.keys.observer.key_id))
        workspace.record(served.revocation(key, kind="key"))
        assert _rule(workspace, subject) == "require.scan"
        with pytest.raises(DeniedError):
            served.submit(workspace)


# A disk that is really full


def test_on_a_full_disk_nothing_is_acknowledged_but_a_revocation_is_recorded(
    served: Any, subject: Subject, small_disk: Callable[..., Path], code: Callable[..., str]
) -> None:
    import shutil

    disk = small_disk(served.root / "disk", 12)
    shutil.copytree(served.layout.root, disk / "ws")
    place = type(served)(disk)
    key = {"principal": "user:eve", "roles": ["caller"], "models": ["*"], "lifetime_ms": 60_000}
    with place.open() as workspace:
        assert (disk / "ws" / "ledger" / "reserve").stat().st_blocks * 512 >= SIZE
        made = execute(workspace, "keys.create", key)
        filler = _fill(disk)
        fault = ""
        for _ in range(200):
            try:
                workspace.record_event("noise", {"text": "x" * 60_000})
            except OperationalError as error:
                fault = error.code
                break
        assert fault == "ledger.disk_full"
        assert code(workspace.record_event, "noise", {}) == "ledger.stopped/3"
        assert code(workspace.record, place.approval(subject)) == "ledger.stopped/3"
        assert code(execute, workspace, "keys.create", key).endswith("/3")
        acknowledged = workspace.ledger.durable_size

        began = time.monotonic()
        entry, _ = workspace.record(place.revocation(subject))
        assert time.monotonic() - began < 5
        assert entry.index >= acknowledged
        execute(workspace, "keys.revoke", {"key_id": made["key_id"]})
    with LedgerReader.open(place.layout.ledger) as reader:
        entry.check(reader.body(entry.index))
    filler.unlink()
    with place.open() as workspace:
        assert _rule(workspace, subject) == "guard.revoked"
        states = {one.key_id: one.state(place.clock.now) for one in workspace.ring.records}
        assert states[made["key_id"]] == "revoked"
        assert keep_reserve(place.layout)
    from keepstone.workspace.reading import verify_ledger_of

    assert verify_ledger_of(place.site).errors == ()


def _fill(disk: Path) -> Path:
    """Leave no room at all."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def test_an_api_key_is_revoked_out_of_the_reserve(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"principal": "user:eve", "roles": ["caller"], "models": ["*"], "lifetime_ms": 60_000}
    made = perform(served.site, "keys.create", given)
    save, faults = Workspace.save_ring, [OperationalError("disk.full", "Full.")]

    def fail_once(self: Workspace) -> None:
        if faults:
            raise faults.pop()
        save(self)

    monkeypatch.setattr(Workspace, "save_ring", fail_once)
    perform(served.site, "keys.revoke", {"key_id": made["key_id"]})
    with served.open() as workspace:
        (record,) = workspace.ring.records
    assert record.revoked_at is not None
    assert len(served.events("key.revoked")) == 1


# The reserve


def test_the_reserve_holds_real_space_and_gives_it_back(home: Any) -> None:
    reserve = home.layout.reserve
    assert keep_reserve(home.layout)
    assert reserve.stat().st_blocks * 512 >= SIZE
    assert reserve.stat().st_mode & 0o777 == 0o600
    before = reserve.stat().st_mtime_ns
    assert keep_reserve(home.layout)
    assert reserve.stat().st_mtime_ns == before
    release_reserve(home.layout)
    release_reserve(home.layout)
    assert not reserve.exists()


def test_a_reserve_that_only_looks_large_is_filled(home: Any) -> None:
    with home.layout.reserve.open("wb") as file:
        file.truncate(SIZE)
    assert home.layout.reserve.stat().st_blocks * 512 < SIZE
    assert keep_reserve(home.layout)
    assert home.layout.reserve.stat().st_blocks * 512 >= SIZE


def test_a_full_disk_has_no_room_for_a_reserve(home: Any, small_disk: Callable[..., Path]) -> None:
    from keepstone.workspace.layout import Layout

    disk = small_disk(home.root / "disk", 2)
    layout = Layout(disk)
    layout.ledger.parent.mkdir()
    assert not keep_reserve(layout)
    # What there is of room is not eaten up by half a reserve.
    assert layout.reserve.stat().st_blocks == 0
    assert not keep_reserve(Layout(disk / "nowhere"))
