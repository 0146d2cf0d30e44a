"""A backup holds everything, and is restored only where everything in it checks out."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.workspace import backup as room
from keepstone.workspace.backup import back_up, restore
from keepstone.workspace.layout import Layout
from keepstone.workspace.operations import execute, perform
from keepstone.workspace.proving import prove_entry
from keepstone.workspace.reading import verify_ledger_of
from keepstone.workspace.site import Site

KEY = {"principal": "user:eve", "roles": ["caller"], "models": ["*"], "lifetime_ms": 60_000}
Members = dict[str, bytes]


@pytest.fixture
def kept(served: Any) -> Path:
    """A backup of `served`."""
    target = served.root / "kept.tar"
    back_up(served.site, target)
    return Path(target)


def _elsewhere(place: Any, name: str = "again") -> Site:
    site = place.site
    return Site(Layout(place.root / name), site.outside, site.passphrase, site.clock)


def _read(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore


def _write(path: Path, members: Members, order: list[str] | None = None) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in order or members:
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            archive.addfile(info, io.BytesIO(members[name]))
    return path


def _manifest(members: Members) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(members["manifest.json"])
    return found


def _with_manifest(members: Members, manifest: object) -> Members:
    return {**members, "manifest.json": json.dumps(manifest).encode()}


def _nothing_left(place: Any) -> None:
    names = {path.name for path in place.root.iterdir()}
    assert not {name for name in names if "restoring" in name or name == "again"}, names


# There and back


def test_what_was_backed_up_comes_back_whole(served: Any, kept: Path) -> None:
    site = _elsewhere(served)
    done = restore(site, kept)
    again = type(served)(served.root)
    again.site = site

    assert again.entries() == served.entries()
    assert str(verify_ledger_of(site).status) == "verified"
    for path in served.layout.root.rglob("*"):
        name = path.relative_to(served.layout.root)
        if path.is_file() and name.parts[0] not in ("ledger", "owner.lock", "staging"):
            assert (site.layout.root / name).read_bytes() == path.read_bytes(), name
    with again.open() as workspace:
        assert again.submit(workspace, served.model()).verdict.allowed
        assert "sealed before, as number 1" in again.heard.told
    assert done.ledger_size == len(served.entries())


def test_a_backup_and_what_is_restored_are_their_owners_alone(served: Any, kept: Path) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    site = _elsewhere(served)
    before = os.umask(0)
    try:
        restore(site, kept)
    finally:
        os.umask(before)
    for path in (site.layout.root, *site.layout.root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_it_says_that_its_keys_are_in_the_clear(served: Any) -> None:
    assert not back_up(served.site, served.root / "one.tar").keys_encrypted
    assert not restore(_elsewhere(served), served.root / "one.tar").keys_encrypted


def test_it_says_that_its_keys_are_not_in_the_clear(sealed: Any) -> None:
    assert back_up(sealed.site, sealed.root / "one.tar").keys_encrypted
    assert restore(_elsewhere(sealed), sealed.root / "one.tar").keys_encrypted


def test_what_belongs_to_a_process_stays_behind(served: Any, tmp_path: Path) -> None:
    (served.layout.staging / "left").write_text("a model in the clear")
    served.layout.api_key_file.write_text("Authorization: Bearer ks_")
    with served.open():
        back_up(served.site, tmp_path / "k.tar")
    names = _read(tmp_path / "k.tar").keys()
    assert not {n for n in names if "staging" in n or "owner.lock" in n or "api-key.header" in n}
    assert not {n for n in names if "reserve" in n or "-wal" in n or "-shm" in n}


def test_an_owner_that_goes_on_writing_spoils_no_backup(served: Any) -> None:
    ended = threading.Event()
    with served.open() as workspace:

        def go_on() -> None:
            while not ended.is_set():
                execute(workspace, "keys.create", KEY)
                workspace.record_event("tested", {})

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            for n in range(4):
                back_up(served.site, served.root / f"{n}.tar")
        finally:
            ended.set()
            thread.join()
    for n in range(4):
        # It is older than the checkpoint that the owner left, and is otherwise whole.
        site = _elsewhere(served, f"again-{n}")
        restore(site, served.root / f"{n}.tar", unsafe_rollback="a test")
        assert verify_ledger_of(site).errors == ()


def test_a_backup_goes_where_nothing_is_and_not_into_the_workspace(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    before = kept.read_bytes()
    assert code(back_up, served.site, kept) == "file.exists/2"
    assert kept.read_bytes() == before
    assert code(back_up, served.site, served.layout.root / "x.tar") == "backup.inside/2"
    assert code(back_up, served.site, served.layout.keys / "x.tar") == "backup.inside/2"
    assert code(back_up, served.site, served.root / "no" / "x.tar") == "file.missing/2"
    assert code(back_up, _elsewhere(served), served.root / "x.tar") == "workspace.missing/2"


def test_a_full_disk_leaves_no_half_backup(
    served: Any, small_disk: Callable[..., Path], code: Callable[..., str]
) -> None:
    disk = small_disk(served.root / "disk", 1)
    (disk / "filler").write_bytes(b"x" * (1 << 20))
    expected = {"disk.full/3", "ledger.disk_full/3"}
    assert code(back_up, served.site, disk / "k.tar") in expected
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_full_disk_leaves_no_half_workspace(
    served: Any, kept: Path, small_disk: Callable[..., Path], code: Callable[..., str]
) -> None:
    disk = small_disk(served.root / "disk", 1)
    (disk / "filler").write_bytes(b"x" * ((1 << 20) - 40_000))
    site = Site(Layout(disk / "ws"), served.site.outside, None, served.clock)
    assert code(restore, site, kept).endswith("/3")
    assert [path.name for path in disk.iterdir()] == ["filler"]


# Attacks on the file


def test_every_member_is_listed_and_checked(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    """Each member changed, missing, cut, longer, renamed or doubled: each is refused."""
    members = _read(kept)
    listed = {entry["path"] for entry in _manifest(members)["files"]}
    assert listed == members.keys() - {"manifest.json"}
    site, bad = _elsewhere(served), served.root / "bad.tar"
    for name in listed:
        data = members[name]
        rest = {other: value for other, value in members.items() if other != name}
        flipped = bytes([data[0] ^ 1]) + data[1:]
        attacks = {
            "changed": {**members, name: flipped},
            "missing": rest,
            "renamed": {**rest, f"{name}.x": data},
        }
        if name == "policy.toml":
            attacks["cut"] = {**members, name: data[:-1]}
            attacks["longer"] = {**members, name: data + b"\n"}
        for attack, given in attacks.items():
            assert code(restore, site, _write(bad, given)) == "backup.corrupt/1", (name, attack)
            _nothing_left(served)


@pytest.mark.parametrize(
    "name", ["extra", "../outside.txt", "/etc/cron.d/x", "keys/../../x", "keys/observer.pem/x"]
)
def test_a_member_that_is_not_listed_is_refused(
    served: Any, kept: Path, code: Callable[..., str], name: str
) -> None:
    bad = _write(served.root / "bad.tar", {**_read(kept), name: b"x"})
    assert code(restore, _elsewhere(served), bad) == "backup.corrupt/1"
    _nothing_left(served)
    assert not (served.root / "outside.txt").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/x", "a/../../x", "", ".", "a//b"])
def test_a_listed_path_that_leaves_the_workspace_is_refused(
    served: Any, kept: Path, code: Callable[..., str], name: str
) -> None:
    members = _read(kept)
    manifest = _manifest(members)
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    manifest["files"].append({"path": name, "size": 1, "sha256": digest})
    bad = _write(served.root / "bad.tar", {**_with_manifest(members, manifest), name: b"x"})
    assert code(restore, _elsewhere(served), bad) in ("path.unsafe/2", "backup.malformed/2")
    _nothing_left(served)
    assert not (served.root / "outside.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, b"3", b"6"])
def test_a_member_that_is_no_file_is_refused(
    served: Any, kept: Path, code: Callable[..., str], kind: bytes
) -> None:
    members = _read(kept)
    bad = served.root / "bad.tar"
    with tarfile.open(bad, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if name == "policy.toml":
                info.type, info.linkname = kind, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    assert code(restore, _elsewhere(served), bad) == "backup.corrupt/1"
    _nothing_left(served)


def test_a_member_twice_is_refused(served: Any, kept: Path, code: Callable[..., str]) -> None:
    members = _read(kept)
    bad = _write(served.root / "bad.tar", members, [*members, "policy.toml"])
    assert code(restore, _elsewhere(served), bad) == "backup.corrupt/1"
    manifest = _manifest(members)
    manifest["files"].append(manifest["files"][0])
    bad = _write(served.root / "bad.tar", _with_manifest(members, manifest))
    assert code(restore, _elsewhere(served), bad) == "backup.malformed/2"


def test_a_cut_file_is_refused_wherever_it_is_cut(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    whole = kept.read_bytes()
    with tarfile.open(kept) as archive:
        ends = archive.getmembers()[-1].offset_data + archive.getmembers()[-1].size
    bad = served.root / "bad.tar"
    sizes = {0, 1, 511, 512, 513, ends - 1, *range(0, ends, max(512, ends // 512 // 24 * 512))}
    for size in sorted(sizes):
        bad.write_bytes(whole[:size])
        answer = code(restore, _elsewhere(served), bad)
        assert answer in ("backup.malformed/2", "backup.corrupt/1"), (size, answer)
        _nothing_left(served)


@pytest.mark.parametrize(
    "manifest",
    [
        7,
        [],
        {},
        {"schema": "keepstone.backup/v1"},
        {"schema": "keepstone.backup/v1", "files": 7},
        {"schema": "keepstone.backup/v1", "files": [7]},
        {"schema": "keepstone.backup/v1", "files": [{"path": "a", "size": 1}]},
        {"schema": "keepstone.backup/v1", "files": [{"path": "a", "size": "x", "sha256": "y"}]},
        {"schema": "keepstone.backup/v1", "files": [{"path": 7, "size": 1, "sha256": "00"}]},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_read_is_refused(
    served: Any, kept: Path, code: Callable[..., str], manifest: object
) -> None:
    bad = _write(served.root / "bad.tar", _with_manifest(_read(kept), manifest))
    answer = code(restore, _elsewhere(served), bad)
    assert answer in ("backup.malformed/2", "digest.malformed/2")
    _nothing_left(served)


def test_a_newer_backup_is_refused_by_name(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    members = _read(kept)
    newer = {**_manifest(members), "schema": "keepstone.backup/v2"}
    bad = _write(served.root / "bad.tar", _with_manifest(members, newer))
    assert code(restore, _elsewhere(served), bad) == "backup.newer_version/2"


def test_what_is_no_backup_is_refused(served: Any, kept: Path, code: Callable[..., str]) -> None:
    site, bad = _elsewhere(served), served.root / "bad.tar"
    members = _read(kept)
    last = [*(name for name in members if name != "manifest.json"), "manifest.json"]
    assert code(restore, site, served.root / "none.tar") == "backup.missing/2"
    for data in (b"", b"hello" * 1000, b"\x1f\x8b" + bytes(600), bytes(10_240)):
        bad.write_bytes(data)
        assert code(restore, site, bad) == "backup.malformed/2"
    assert code(restore, site, _write(bad, members, last)) == "backup.malformed/2"
    assert code(restore, site, served.root).endswith(("/2", "/3"))
    _nothing_left(served)


def test_a_forged_workspace_of_the_same_name_is_refused(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    """An attacker's own ledger key under our origin: the checkpoint outside is not by it."""
    forged = SigningKey.generate(Algorithm.ED25519)
    members = _read(kept)
    members["keys/ledger.pub.pem"] = forged.verifying.pem
    members["keys/ledger.pem"] = forged.to_pem()
    bad = _write(served.root / "bad.tar", _listed(members))
    assert code(restore, _elsewhere(served), bad) == "backup.corrupt/1"
    unsafe = {"unsafe_rollback": "trust me"}
    assert code(restore, _elsewhere(served), bad, **unsafe) == "backup.corrupt/1"


def _listed(members: Members) -> Members:
    """`members` with a manifest that is true of them: an attacker can do that."""
    from hashlib import sha256

    files = [
        {"path": name, "size": len(data), "sha256": sha256(data).hexdigest()}
        for name, data in members.items()
        if name != "manifest.json"
    ]
    return _with_manifest(members, {"schema": "keepstone.backup/v1", "files": files})


def test_a_changed_entry_is_found_though_the_manifest_was_made_to_fit(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    members = _read(kept)
    data = members["ledger/ledger.db"]
    assert data.count(b"workspace.created") == 1
    members["ledger/ledger.db"] = data.replace(b"workspace.created", b"workspace.cremated")[
        : len(data)
    ]
    bad = _write(served.root / "bad.tar", _listed(members))
    for given in ({}, {"unsafe_rollback": "trust me"}):
        assert code(restore, _elsewhere(served), bad, **given) == "backup.corrupt/1"


# Into what, and over what


def test_nothing_is_restored_over_something(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    before = served.entries()
    assert code(restore, served.site, kept) == "workspace.exists/2"
    assert served.entries() == before
    site = _elsewhere(served)
    site.layout.root.mkdir()
    (site.layout.root / "thesis.txt").write_text("years of work")
    assert code(restore, site, kept) == "workspace.exists/2"
    (site.layout.root / "thesis.txt").unlink()
    restore(site, kept)


def test_a_folder_that_cannot_be_replaced_is_an_error_with_a_code(
    served: Any, kept: Path, small_disk: Callable[..., Path], code: Callable[..., str]
) -> None:
    site = _elsewhere(served)
    small_disk(site.layout.root)
    assert code(restore, site, kept) == "file.unwritable/3"


def _lose(place: Any) -> None:
    shutil.rmtree(place.layout.root)


def test_an_older_backup_needs_a_reason_and_the_reason_is_recorded(
    served: Any, kept: Path, code: Callable[..., str]
) -> None:
    with served.open() as workspace:
        workspace.record_event("something that would be lost", {})
    (outside,) = served.site.outside.iterdir()
    newest = outside.read_bytes()
    _lose(served)
    assert code(restore, served.site, kept) == "backup.outdated/1"
    for empty in ("", "  \n"):
        refused = code(restore, served.site, kept, unsafe_rollback=empty)
        assert refused == "backup.no_reason/2"
    assert outside.read_bytes() == newest
    assert not served.layout.root.exists()
    restore(served.site, kept, unsafe_rollback="the disk died")
    with served.open():
        pass
    assert [event["reason"] for event in served.events("rollback.accepted")] == ["the disk died"]
    assert not served.layout.rollback_note.exists()
    with served.open():
        pass
    assert len(served.events("rollback.accepted")) == 1
    assert str(verify_ledger_of(served.site).status) == "verified"


def test_a_restore_that_fails_keeps_the_evidence_of_what_was_lost(
    served: Any, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served.open() as workspace:
        workspace.record_event("something that would be lost", {})
    (outside,) = served.site.outside.iterdir()
    newest = outside.read_bytes()
    _lose(served)

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(room, "sync_directory", fail)
    with pytest.raises(Exception, match="Input/output error"):
        restore(served.site, kept, unsafe_rollback="the disk died")
    assert outside.read_bytes() == newest


def test_a_reason_given_for_nothing_is_not_recorded(served: Any, kept: Path) -> None:
    (outside,) = served.site.outside.iterdir()
    newest = outside.read_bytes()
    _lose(served)
    restore(served.site, kept, unsafe_rollback="to be sure")
    assert outside.read_bytes() == newest
    with served.open():
        pass
    assert served.events("rollback.accepted") == []


def test_another_history_is_outdated_too(served: Any, kept: Path, code: Callable[..., str]) -> None:
    with served.open() as workspace:
        workspace.record_event("one history", {})
    first = served.root / "first"
    served.layout.root.rename(first)
    outside = next(served.site.outside.iterdir())
    newest = outside.read_bytes()
    restore(served.site, kept, unsafe_rollback="a fork")
    with served.open() as workspace:
        workspace.record_event("another history", {})
        workspace.record_event("and more of it", {})
    back_up(served.site, served.root / "fork.tar")
    outside.write_bytes(newest)
    site = _elsewhere(served)
    assert code(restore, site, served.root / "fork.tar") == "backup.outdated/1"


def test_a_machine_that_never_saw_the_workspace_restores_it_and_says_what_it_lacks(
    served: Any, kept: Path
) -> None:
    site = Site(Layout(served.root / "again"), served.root / "new-outside", None, served.clock)
    restore(site, kept)
    assert str(verify_ledger_of(site).status) == "verified_no_outside"


def test_an_old_copy_put_back_by_hand_is_refused_at_the_start(
    served: Any, code: Callable[..., str]
) -> None:
    old = served.root / "old"
    shutil.copytree(served.layout.root, old)
    with served.open() as workspace:
        workspace.record_event("something that would be lost", {})
    _lose(served)
    shutil.copytree(old, served.layout.root)
    assert code(served.open().__enter__) == "ledger.rolled_back/1"
    assert code(perform, served.site, "keys.list", {}) == "ledger.rolled_back/1"
    assert str(verify_ledger_of(served.site).status) == "rolled_back"


def test_a_prediction_is_proved_from_a_restored_workspace(
    served: Any, prediction: Callable[..., str]
) -> None:
    entry = prediction(served, b"question", b"answer")
    back_up(served.site, served.root / "k.tar")
    site = _elsewhere(served)
    restore(site, served.root / "k.tar")
    proved = prove_entry(site, entry, input=b"question", output=b"other")
    assert (proved.input_matches, proved.output_matches, proved.holds) == (True, False, False)
