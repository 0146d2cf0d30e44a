"""What is not well shows, with the command that mends it; looking never fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.subject import Subject
from keepstone.workspace import doctor as room
from keepstone.workspace.doctor import Check, examine

DAY = 86_400_000
ALL = [
    "workspace",
    "keys",
    "clock",
    "ledger",
    "policy",
    "evidence",
    "certificate",
    "store",
    "disk",
    "extras",
]


def _by(found: list[Check], state: str) -> dict[str, str]:
    return {check.check: check.message for check in found if check.state == state}


def test_a_workspace_in_order_has_no_failures(served: Any) -> None:
    found = examine(served.site)
    assert _by(found, "fail") == {}
    # The one thing to know: its keys lie in the clear.
    assert set(_by(found, "warn")) == {"keys"}
    assert list(dict.fromkeys(check.check for check in found)) == ALL


def test_keys_under_a_passphrase_are_nothing_to_warn_of(sealed: Any) -> None:
    with sealed.open():
        pass
    assert [c for c in examine(sealed.site) if c.check == "keys" and c.state != "ok"] == []
    stranger = type(sealed)(sealed.root, None)
    assert "keys" in _by(examine(stranger.site), "fail")


def test_an_owner_is_named_and_not_disturbed(served: Any) -> None:
    with served.open() as workspace:
        found = examine(served.site)
        workspace.record_event("tested", {})
    assert _by(found, "fail") == {}
    assert "owns the workspace" in [c.message for c in found if c.check == "workspace"][-1]


def test_no_workspace_is_the_one_thing_to_say(bare: Any) -> None:
    (only,) = examine(bare.site)
    assert (only.check, only.state) == ("workspace", "fail")
    assert "keepstone init" in only.mend


def _loosen(name: str) -> Callable[[Any], None]:
    return lambda place: (place.layout.root / name).chmod(0o777)


def _remove(name: str) -> Callable[[Any], None]:
    def remove(place: Any) -> None:
        path: Path = place.layout.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def _overwrite(name: str, data: bytes) -> Callable[[Any], None]:
    return lambda place: (place.layout.root / name).write_bytes(data)


def _cut_ledger(place: Any) -> None:
    data = place.layout.ledger.read_bytes()
    place.layout.ledger.write_bytes(data.replace(b"workspace.created", b"workspace.creared"))


def _later(ms: int) -> Callable[[Any], None]:
    def move(place: Any) -> None:
        place.clock.now += ms

    return move


@pytest.mark.parametrize(
    ("harm", "check", "mend"),
    [
        (_loosen("."), "workspace", "chmod 700"),
        (_loosen("keys/gate.pem"), "keys", "chmod 600"),
        (_loosen("keys/api-keys.json"), "keys", "chmod 600"),
        (_remove("keys/observer.pem"), "keys", ""),
        (_remove("keys"), "keys", ""),
        (_overwrite("keys/token.pem", b"-----BEGIN NONSENSE-----"), "keys", ""),
        (_later(-60_000), "clock", "timedatectl"),
        (_cut_ledger, "ledger", "restore"),
        (_overwrite("ledger/ledger.db", b"not a database at all" * 200), "ledger", ""),
        (_remove("ledger/ledger.db"), "ledger", ""),
        (_remove("ledger"), "ledger", ""),
        (_overwrite("policy.toml", b"schema = 7"), "policy", ""),
        (_overwrite("policy.toml", b"\xff\xfe"), "policy", "policy show"),
        (_remove("policy.toml"), "policy", "backup"),
        (_remove("keys/gate.pub.pem"), "policy", ""),
        (_remove("ca.pem"), "certificate", "keepstone up"),
        (_overwrite("ca.pem", b"x"), "certificate", ""),
        (_later(731 * DAY), "certificate", "rm "),
    ],
)
def test_each_fault_is_found_with_what_mends_it(
    served: Any, harm: Callable[[Any], None], check: str, mend: str
) -> None:
    harm(served)
    faults = [one for one in examine(served.site) if one.state == "fail" and one.check == check]
    assert faults, examine(served.site)
    assert any(mend in one.mend for one in faults), faults
    assert all(one.message for one in faults)


def test_a_rolled_back_ledger_is_a_failure(served: Any) -> None:
    old = served.root / "old.db"
    shutil.copy(served.layout.ledger, old)
    with served.open() as workspace:
        workspace.record_event("tested", {})
    shutil.copy(old, served.layout.ledger)
    assert "rolled_back" in _by(examine(served.site), "fail")["ledger"]


def test_what_is_only_worth_knowing_is_a_warning(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.layout.reserve.unlink()
    shutil.rmtree(served.site.outside)
    served.clock.now += 705 * DAY
    monkeypatch.setattr(room, "_LITTLE_SPACE", 1 << 60)
    found = _by(examine(served.site), "warn")
    assert found.keys() >= {"ledger", "certificate", "disk"}
    assert "no checkpoint is kept outside" in found["ledger"]


def test_a_revocation_without_effect_is_shown(served: Any, subject: Subject) -> None:
    """Carol may revoke when she does, and the policy takes that right from her later."""
    with served.open() as workspace:
        workspace.record(served.revocation(subject))
    served.edit_policy('grants = ["state.revocation"]', 'grants = ["state.approval"]')
    assert "no effect" in _by(examine(served.site), "warn")["evidence"]


def test_a_statement_that_cannot_be_read_is_a_failure(served: Any) -> None:
    from keepstone.ledger import Kind, make_entry

    with served.open() as workspace:
        body = make_entry(Kind.STATEMENT, served.clock.now, {"envelope": {"payload": "?"}})
        workspace.ledger.append(body).wait(10)
    assert "cannot be read" in _by(examine(served.site), "fail")["evidence"]


def test_a_missing_runtime_is_a_failure(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(room, "version", version)
    assert "onnxruntime is missing" in _by(examine(served.site), "fail")["extras"]
