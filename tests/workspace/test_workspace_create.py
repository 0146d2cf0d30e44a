"""A workspace appears whole or not at all, for its owner alone, and is recognised by version."""

from __future__ import annotations

import json
import os
import resource
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.errors import OperationalError
from keepstone.identity.tls import Authority
from keepstone.workspace import create
from keepstone.workspace.create import create_workspace
from keepstone.workspace.layout import Layout, WorkspaceIdentity, read_identity
from keepstone.workspace.reading import verify_ledger_of

PUBLIC = {"ca.pem", *(f"keys/{role}.pub.pem" for role in ("observer", "gate", "ledger", "token"))}
SECRETS = ["observer.pem", "gate.pem", "ledger.pem", "token.pem", "kek.json", "pepper"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_may_look_into_it(bare: Any, umask: int) -> None:
    before = os.umask(umask)
    try:
        bare.create()
    finally:
        os.umask(before)
    root = bare.layout.root
    paths = {path.relative_to(root).as_posix(): path for path in (root, *root.rglob("*"))}

    assert paths.keys() >= PUBLIC | {"workspace.json", "policy.toml", "keys/ca.pem"}
    assert paths.keys() >= {f"keys/{name}" for name in SECRETS}
    for name, path in paths.items():
        ours = 0o700 if path.is_dir() else 0o600
        expected = 0o644 & ~umask if name in PUBLIC else ours
        assert stat.S_IMODE(path.stat().st_mode) == expected, name


def test_what_was_made_verifies_and_names_itself(bare: Any) -> None:
    bare.create()
    identity = read_identity(bare.layout)
    report = verify_ledger_of(bare.site)

    assert (str(report.status), report.size) == ("verified_no_outside", 1)
    assert identity.created == bare.clock.now
    assert identity.origin == f"keepstone/{identity.workspace_id}"
    assert bare.entries()[0]["workspace"] == identity.workspace_id
    assert _names(bare.root) == ["ws"]


@pytest.mark.parametrize("profile", ["local", "production"])
def test_it_begins_with_the_policy_of_its_profile(bare: Any, profile: str) -> None:
    bare.create(profile)
    with bare.open() as workspace:
        assert workspace.trust.policy.profile == profile


def test_no_two_workspaces_share_a_secret(tmp_path: Path, bare: Any) -> None:
    first = bare.create()
    second = type(bare)(tmp_path / "other").create()
    for name in ("kek.json", "pepper", "observer.pem", "gate.pem", "token.pem", "ca.pem"):
        one, other = ((each.layout.keys / name).read_bytes() for each in (first, second))
        assert one != other, name
    assert read_identity(first.layout).workspace_id != read_identity(second.layout).workspace_id


def test_a_passphrase_leaves_no_secret_in_the_clear(sealed: Any) -> None:
    for path in sealed.layout.keys.glob("*.pem"):
        if not path.name.endswith(".pub.pem"):
            assert b"ENCRYPTED" in path.read_bytes(), path
    assert json.loads(sealed.layout.kek.read_bytes()).keys() == {"schema", "id", "kdf", "wrapped"}
    with sealed.open() as workspace:
        workspace.record_event("tested", {})


@pytest.mark.parametrize("passphrase", [None, b"wrong", b"correct horse "])
def test_a_wrong_passphrase_opens_nothing(
    sealed: Any, code: Callable[..., str], passphrase: bytes | None
) -> None:
    other = type(sealed)(sealed.root, passphrase)
    expected = "key.passphrase/2" if passphrase is None else "key.malformed/2"

    assert code(other.open().__enter__) == expected


def test_an_authority_vouches_for_the_hosts_it_was_made_for(bare: Any) -> None:
    bare.create(hosts=("models.example", "192.0.2.7"))
    with bare.open() as workspace:
        authority: Authority = workspace.authority(())
    assert authority.covers(["localhost", "127.0.0.1", "::1", "models.example", "192.0.2.7"])
    assert not authority.covers(["other.example"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hosts": ("not a host",)}, "tls.bad_host/2"),
        ({"hosts": ("0.0.0.0",)}, "tls.bad_host/2"),
        ({"profile": "lax"}, "policy.unknown_profile/2"),
    ],
)
def test_a_refused_wish_leaves_nothing(
    bare: Any, code: Callable[..., str], given: dict[str, Any], expected: str
) -> None:
    assert code(create_workspace, bare.site, **({"profile": "local"} | given)) == expected
    assert _names(bare.root) == []


# Each is a step of making one; all of what came before it must go again.
STEPS = ["create_keys", "make_kek", "create_pepper", "create_authority", "write_atomic"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", [OperationalError("disk.full", "Full."), KeyboardInterrupt()])
def test_a_step_that_fails_leaves_nothing(
    bare: Any, monkeypatch: pytest.MonkeyPatch, step: str, how: BaseException
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise how

    monkeypatch.setattr(create, step, fail)
    with pytest.raises(type(how)):
        bare.create()
    assert _names(bare.root) == []
    monkeypatch.undo()
    bare.create()


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(bare: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    codes = set()
    try:
        for size in (0, 100, 300, 2_000, 5_000, 16_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            with pytest.raises(OperationalError) as caught:
                bare.create()
            codes.add(caught.value.code)
            assert _names(bare.root) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert codes <= {"disk.full", "file.unwritable", "ledger.disk_full", "ledger.not_durable"}
    bare.create()


def test_an_empty_folder_is_taken_and_a_full_one_is_not(
    bare: Any, code: Callable[..., str]
) -> None:
    bare.layout.root.mkdir()
    bare.create()
    assert code(bare.create) == "workspace.exists/2"
    other = Layout(bare.root / "mine")
    other.root.mkdir()
    (other.root / "thesis.txt").write_text("years of work")
    site = type(bare.site)(other, bare.site.outside, None, bare.clock)

    assert code(create_workspace, site, profile="local") == "workspace.exists/2"
    assert _names(other.root) == ["thesis.txt"]


def test_a_folder_that_cannot_be_replaced_is_an_error_with_a_code(
    bare: Any, small_disk: Callable[..., Path], code: Callable[..., str]
) -> None:
    """As a volume mounted into a container is: a workspace goes into a folder below it."""
    small_disk(bare.layout.root)

    assert code(bare.create) == "file.unwritable/3"
    assert _names(bare.root) == ["ws"]


def test_two_who_make_one_at_once_make_one(bare: Any) -> None:
    outcomes: list[object] = []

    def make() -> None:
        try:
            outcomes.append(create_workspace(bare.site, profile="local"))
        except Exception as error:
            outcomes.append(getattr(error, "code", error))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    made = [one for one in outcomes if isinstance(one, WorkspaceIdentity)]
    assert made == [read_identity(bare.layout)]
    assert set(outcomes) - set(made) <= {"workspace.exists", "file.unwritable"}
    assert _names(bare.root) == ["ws"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"schema":"keepstone.workspace/v2"}', "workspace.newer_version/2"),
        (
            '{"schema":"keepstone.workspace/v999","id":"0123456789abcdef","created":1,"new":[]}',
            "workspace.newer_version/2",
        ),
        (f'{{"schema":"keepstone.workspace/v{"9" * 5000}"}}', "workspace.malformed/2"),
        ('{"schema":"keepstone.workspace/v0"}', "workspace.malformed/2"),
        ("", "workspace.malformed/2"),
        ("{", "workspace.malformed/2"),
        ("[]", "workspace.malformed/2"),
        ("null", "workspace.malformed/2"),
        ('{"schema":7}', "workspace.malformed/2"),
        ('{"schema":"keepstone.workspace/v1"}', "workspace.malformed/2"),
        (
            '{"schema":"keepstone.workspace/v1","id":"../../etc","created":1}',
            "workspace.malformed/2",
        ),
        (
            '{"schema":"keepstone.workspace/v1","id":"0123456789ABCDEF","created":1}',
            "workspace.malformed/2",
        ),
        (
            '{"schema":"keepstone.workspace/v1","id":"0123456789abcdef","created":-1}',
            "workspace.malformed/2",
        ),
        (
            '{"schema":"keepstone.workspace/v1","id":"0123456789abcdef","created":"1"}',
            "workspace.malformed/2",
        ),
    ],
)
def test_an_identity_that_is_not_ours_is_refused_by_name(
    home: Any, code: Callable[..., str], text: str, expected: str
) -> None:
    before = home.layout.ledger.read_bytes()
    home.layout.identity.write_text(text)

    assert code(home.open().__enter__) == expected
    assert home.layout.ledger.read_bytes() == before


def test_no_workspace_and_an_unreadable_one_are_told_apart(
    bare: Any, code: Callable[..., str]
) -> None:
    assert code(read_identity, bare.layout) == "workspace.missing/2"
    bare.layout.identity.mkdir(parents=True)
    assert code(read_identity, bare.layout) == "workspace.unreadable/3"


def test_an_identity_says_of_itself_what_it_was_told(bare: Any) -> None:
    identity = WorkspaceIdentity("0123456789abcdef", 5)
    bare.layout.root.mkdir()
    bare.layout.identity.write_bytes(identity.to_json())

    assert read_identity(bare.layout) == identity


@pytest.mark.parametrize("name", [*SECRETS, "api-keys.json"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601])
def test_a_secret_that_others_may_read_is_not_used(
    home: Any, code: Callable[..., str], name: str, mode: int
) -> None:
    (home.layout.keys / name).chmod(mode)

    assert code(home.open().__enter__) == "key.open_permissions/3"


@pytest.mark.parametrize("name", [*SECRETS, "api-keys.json"])
def test_a_secret_that_is_gone_is_named(home: Any, code: Callable[..., str], name: str) -> None:
    (home.layout.keys / name).unlink()

    assert code(home.open().__enter__) == "key.missing/2"


def test_an_authority_that_was_removed_is_made_anew(home: Any, code: Callable[..., str]) -> None:
    before = home.layout.authority.read_bytes()
    home.layout.authority.unlink()
    with home.open() as workspace:
        # Half a pair is a fault to look into, not one to paper over.
        assert code(workspace.authority, ()) == "tls.missing/2"
        home.layout.authority_key.unlink()
        made = workspace.authority(("models.example",))
        assert made.covers(["localhost", "models.example"])
        assert workspace.authority(()) == made
    assert home.layout.authority.read_bytes() != before
    assert stat.S_IMODE(home.layout.authority_key.stat().st_mode) == 0o600


def test_what_a_killed_process_was_staging_is_removed(home: Any) -> None:
    left = home.layout.staging / "0123456789abcdef" / "copy"
    left.parent.mkdir()
    left.write_bytes(b"a model in the clear")
    with home.open():
        assert _names(home.layout.staging) == []
