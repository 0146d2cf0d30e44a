"""Rotation of a workspace: everything opens under the next key, or still under the old one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from keepstone.errors import KeepstoneError, OperationalError
from keepstone.identity.keystores.reference import parse_key_reference
from keepstone.vault.keks import open_kek
from keepstone.workspace import rotate as flow
from keepstone.workspace.backup import back_up
from keepstone.workspace.doctor import examine
from keepstone.workspace.explaining import explain_credential
from keepstone.workspace.kek import begin_rotation, current_kek
from keepstone.workspace.rotate import finish, rotate
from tests.keystores import Kms, SoftHsm


def everything_opens(place: Any) -> None:
    """The pepper, the audit period and the sealed model, as the next start opens them."""
    with place.open() as workspace:
        workspace.periods.current(workspace.clock.now_ms())
        admitted = place.submit(workspace)
        assert admitted.loaded is not None
        # Kept, not sealed anew: it opened.
        assert any(told.startswith("sealed before") for told in place.heard.told)
    assert not place.layout.next_kek.exists()


@pytest.fixture
def used(served: Any) -> Any:
    """A workspace with a sealed model and an audit period."""
    with served.open() as workspace:
        workspace.periods.current(workspace.clock.now_ms())
    return served


def test_a_new_key_in_a_file_opens_everything_and_the_old_one_nothing(used: Any) -> None:
    old = used.layout.kek.read_bytes()
    done = rotate(used.site)
    assert (done.rewrapped.blobs, done.rewrapped.damaged) == (1, ())
    assert used.layout.kek.read_bytes() != old
    everything_opens(used)
    (event,) = used.events("kek.rotated")
    assert (event["old"], event["new"], event["blobs"]) == (done.old, done.new, 1)
    # A thief with yesterday's key file and today's vault has nothing.
    used.layout.kek.write_bytes(old)
    with pytest.raises(KeepstoneError) as caught, used.open():
        pass
    assert caught.value.code == "seal.wrong_key"


def test_the_passphrase_protects_the_next_key_too(sealed: Any) -> None:
    rotate(sealed.site)
    assert "wrapped" in json.loads(sealed.layout.kek.read_bytes())


@pytest.mark.loopback
def test_from_a_file_into_kms_and_a_token_and_back(used: Any, kms: Kms, hsm: SoftHsm) -> None:
    object.__setattr__(used.site, "tokens", hsm.access)
    steps: list[dict[str, Any]] = [
        {"to": parse_key_reference(f"awskms:///{kms.symmetric_key()}")},
        {},  # the same key, under a new id
        {"to": parse_key_reference(hsm.aes_key("workspace"))},
        {},
        {"into_file": True},
    ]
    seen = {open_kek(used.layout.kek).key_id}
    for step in steps:
        seen.add(rotate(used.site, **step).new)
        assert current_kek(used.site).key_id in seen
        everything_opens(used)
    assert len(seen) == len(steps) + 1
    assert "key" in json.loads(used.layout.kek.read_bytes())


@pytest.mark.loopback
def test_a_workspace_can_begin_with_a_key_in_kms(
    bare: Any, kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.create(kek=parse_key_reference(f"awskms:///{kms.symmetric_key()}"))
    with bare.open() as workspace:
        bare.submit(workspace)
    lines = [check.message for check in examine(bare.site) if check.check == "keys"]
    assert any("awskms:///arn:aws:kms" in line for line in lines)
    # The copied workspace, where KMS does not answer.
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    with pytest.raises(OperationalError) as caught, bare.open():
        pass
    assert caught.value.code == "kms.failed"


def test_every_failing_sync_is_survived(used: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between any two writes: what is opened next finishes it, or never began."""
    real, fails = os.fsync, 0
    # The ledger syncs in its own way: what is counted here is the vault's and the keys' files.
    for fails in range(100):
        left = [fails]

        def fsync(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                rotate(used.site)
                break
            except (KeepstoneError, OSError):
                pass
        everything_opens(used)
    assert 5 < fails < 99
    everything_opens(used)


def test_what_was_cut_short_is_finished_by_the_next_owner(used: Any) -> None:
    old = current_kek(used.site).key_id
    begin_rotation(used.site, None, into_file=False)
    for reader in (current_kek, lambda site: explain_credential(site, "x" * 12, "read", None)):
        with pytest.raises(OperationalError) as caught:
            reader(used.site)
        assert caught.value.code == "kek.rotation_unfinished"
    warned = [check for check in examine(used.site) if check.state == "warn"]
    assert any("vault rotate --finish" in check.mend for check in warned)
    finish(used.site)
    assert current_kek(used.site).key_id != old
    assert len(used.events("kek.rotated")) == 1
    everything_opens(used)


def test_no_backup_is_taken_between_two_keys(
    used: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, code: Callable[..., str]
) -> None:
    from keepstone.workspace import backup

    begin_rotation(used.site, None, into_file=False)
    assert code(back_up, used.site, tmp_path / "b.tar") == "backup.rotating/3"
    finish(used.site)
    pack = backup._pack

    def slowly(*given: Any) -> None:
        pack(*given)
        rotate(used.site)

    monkeypatch.setattr(backup, "_pack", slowly)
    assert code(back_up, used.site, tmp_path / "b.tar") == "backup.rotating/3"
    assert not (tmp_path / "b.tar").exists()


def test_beside_a_running_owner_nothing_is_rotated(used: Any, code: Callable[..., str]) -> None:
    with used.open():
        assert code(rotate, used.site) == "workspace.owned/3"
    assert not used.layout.next_kek.exists()


def test_a_damaged_blob_is_named_and_the_rest_goes_on(used: Any) -> None:
    (blob,) = used.layout.vault.rglob("*.sealed")
    blob.with_name("gone.sealed").write_bytes(b"damaged")
    done = flow.rotate(used.site)
    assert done.rewrapped.blobs == 1
    assert [name.split()[0] for name in done.rewrapped.damaged] == ["gone"]
    everything_opens(used)
