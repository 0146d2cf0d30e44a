"""A version goes out whole and verified, or not at all, and says where it came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import artifact_digest
from keepstone.errors import VerificationError
from keepstone.evidence.modelfiles import hash_model
from keepstone.identity.principal import Grant
from keepstone.trust.opening import open_bundle
from keepstone.vault.registry.release import Release
from keepstone.vault.seal import sealed_bytes
from keepstone.vault.staging import stage
from keepstone.workspace.admit import Submission
from keepstone.workspace.loading import load
from keepstone.workspace.registry.admitting import Wanted, submit_version
from keepstone.workspace.registry.registry import Push
from tests.workspace.observers import Silent
from tests.workspace.registry_shop import LOCAL, Shop, opened, person, refused, weights

ROW = np.ones((1, 3), dtype=np.float32)


def _blob(shop: Shop) -> Path:
    (path,) = shop.home.layout.vault.rglob("*.sealed")
    found: Path = path
    return found


def test_what_is_pulled_is_what_was_pushed_and_verifies_elsewhere(home: Any) -> None:
    with opened(home) as shop:
        model = shop.model(1.0)
        shop.push(1.0)
        pulled = shop.registry.pull(LOCAL, "fraud@1")
        target = home.root / "out"
        shop.registry.write_out(pulled.release, target)
        key = shop.workspace.keys.gate.key_id
    assert target.read_bytes() == model.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600
    assert pulled.trust is not None
    (home.root / "out.trust").write_bytes(pulled.trust)
    # Another machine, which knows the workspace by the id of one key.
    trusted = open_bundle(
        home.root / "out.trust", outside=home.root / "seen", trust_key=key, clock=home.clock
    )
    digest = artifact_digest(hash_model(target, lambda _: False))
    assert trusted.verdict(trusted.subject_of(digest)).allowed
    target.write_bytes(weights(2.0))
    with pytest.raises(Exception, match="knows nothing of it"):
        trusted.subject_of(artifact_digest(hash_model(target, lambda _: False)))


def test_nothing_is_written_over(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        pulled = shop.registry.pull(LOCAL, "fraud@1")
        for name, make in (
            ("file", lambda path: path.write_text("mine")),
            ("folder", lambda path: path.mkdir()),
            ("link", lambda path: path.symlink_to("nowhere")),
        ):
            target = home.root / name
            make(target)
            assert refused(shop.registry.write_out, pulled.release, target).code == "target.exists"
        assert (home.root / "file").read_text() == "mine"


def test_a_name_that_appears_meanwhile_is_not_written_over(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This fails if the file is put in place by a plain rename."""
    from keepstone.vault import unpack

    with opened(home) as shop:
        shop.push(1.0)
        pulled, target = shop.registry.pull(LOCAL, "fraud@1"), home.root / "out"
        real = unpack.read_blob

        def late(*given: Any) -> None:
            real(*given)
            target.write_text("mine")

        monkeypatch.setattr(unpack, "read_blob", late)
        assert refused(shop.registry.write_out, pulled.release, target).code == "target.exists"
        assert target.read_text() == "mine"
        assert [path.name for path in home.root.glob(".out.*")] == []


@pytest.mark.parametrize("at", [-1, 400, 60])
def test_a_changed_blob_leaves_nothing_behind(home: Any, at: int) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        blob = _blob(shop)
        data = bytearray(blob.read_bytes())
        data[min(at, len(data) - 1)] ^= 1
        blob.write_bytes(data)
        pulled = shop.registry.pull(LOCAL, "fraud@1")
        with pytest.raises(VerificationError):
            shop.registry.write_out(pulled.release, home.root / "out")
        blob.write_bytes(data[:-3])
        with pytest.raises(VerificationError):
            shop.registry.write_out(pulled.release, home.root / "out")
    assert [path for path in home.root.iterdir() if "out" in path.name and path.is_file()] == []


def test_a_folder_that_fails_half_way_leaves_nothing(home: Any) -> None:
    folder = home.root / "bundle"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(weights(1.0))
    (folder / "b.bin").write_bytes(os.urandom(3 << 20))
    with opened(home) as shop:
        shop.registry.push(LOCAL, Push(Submission.of(folder, name="b")), Silent())
        blob = _blob(shop)
        data = bytearray(blob.read_bytes())
        data[-100] ^= 1
        blob.write_bytes(data)
        pulled = shop.registry.pull(LOCAL, "b@1", examine="why")
        with pytest.raises(VerificationError):
            shop.registry.write_out(pulled.release, home.root / "taken")
    assert [path.name for path in home.root.glob("*taken*")] == []


def test_a_release_is_decided_on_never_made_and_does_not_last(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        pulled = shop.registry.pull(LOCAL, "fraud@1")
        given = pulled.release
        with pytest.raises(VerificationError):
            Release(given.version, "user:eve", None, given.verdict, given.expires, object())
        home.clock.now += 3_600_000
        error = refused(shop.registry.write_out, given, home.root / "out")
        assert error.code == "release.expired"


# What the gate does not admit


def test_examining_takes_a_right_and_a_reason(home: Any) -> None:
    with opened(home) as shop:
        version = shop.push(1.0).version
        shop.workspace.record(home.revocation(version.subject))
        puller = person("pat", Grant("puller"))
        examiner = person("ann", Grant("examiner"))
        assert refused(shop.registry.pull, puller, "fraud@1").code == "gate.revoked"
        assert refused(shop.registry.pull, puller, "fraud@1", examine="why").code == "policy.denied"
        error = refused(shop.registry.pull, examiner, "fraud@1")
        assert error.code == "gate.revoked"
        assert "--examine" in error.next_step
        assert refused(shop.registry.pull, examiner, "fraud@1", examine="a\nb").code == (
            "registry.no_reason"
        )
        pulled = shop.registry.pull(examiner, "fraud@1", examine="to see what it did")
        assert pulled.release.reason == "to see what it did"
        assert "does not admit" in pulled.warnings[0]
        shop.registry.write_out(pulled.release, home.root / "out")
        assert shop.accesses()[-1]["reason"] == "to see what it did"


def test_what_the_gate_admits_takes_the_right_to_pull_whatever_reason_is_given(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        examiner = person("ann", Grant("examiner"))
        assert refused(shop.registry.pull, examiner, "fraud@1", examine="why").code == (
            "policy.denied"
        )


# Loads and endpoints


def test_a_program_loads_by_number_alias_and_stage(home: Any) -> None:
    with opened(home) as shop:
        for scale in (2.0, 3.0):
            submission = Submission.of(home.model(scale=scale), name="scale")
            shop.registry.push(LOCAL, Push(submission), Silent())
        shop.registry.alias(LOCAL, "scale@1", "best")
        shop.registry.promote(LOCAL, "scale@2", "production")
    for text, value, endpoint in (
        ("scale@1", 2.0, "library"),
        ("scale@best", 2.0, "best"),
        ("scale@production", 3.0, "production"),
    ):
        model = load(text, workspace=home.site)
        assert model.predict(ROW)["y"][0][0] == value
        assert model.admission.endpoint == endpoint
        # It stays that artifact, at that endpoint, when its admission is renewed.
        home.clock.now += 3_000_000
        assert model.predict(ROW)["y"][0][0] == value
        assert model.admission.endpoint == endpoint
    assert [one["asked"] for one in home.entries("access")] == [
        "scale@1",
        "scale@best",
        "scale@production",
    ]


def test_a_program_loads_no_version_that_its_user_may_not_pull(home: Any) -> None:
    home.edit_policy('"pusher", "puller",', '"pusher", "reader",')
    with opened(home) as shop:
        shop.registry.push(LOCAL, Push(Submission.of(home.model(), name="scale")), Silent())
    assert refused(load, "scale@1", workspace=home.site).code == "policy.denied"


def test_a_version_without_a_known_contract_is_served_once_first(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
    error = refused(load, "fraud@1", workspace=home.site)
    assert error.code == "registry.no_contract"


def test_an_endpoint_serves_a_version_at_the_stage_it_was_named_by(home: Any) -> None:
    with opened(home) as shop:
        shop.registry.push(LOCAL, Push(Submission.of(home.model(), name="scale")), Silent())
        shop.registry.promote(LOCAL, "scale@1", "production")
        admitted = submit_version(shop.workspace, Wanted("scale@production"), Silent())
        assert admitted.verdict.endpoint == "production"
        assert admitted.loaded.runtime.predict({"x": ROW})["y"].tolist() == [[2.0] * 3]
        assert list(home.layout.staging.iterdir()) == []


def test_two_versions_are_compared(home: Any) -> None:
    one, two = home.root / "one", home.root / "two"
    for folder, value in ((one, 1.0), (two, 2.0)):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights(value))
        (folder / "same.txt").write_text("same")
    (one / "gone.txt").write_text("gone")
    (two / "new.txt").write_text("new")
    with opened(home) as shop:
        for folder in (one, two):
            shop.registry.push(LOCAL, Push(Submission.of(folder, name="b")), Silent())
        found = shop.registry.diff(LOCAL, "b@1", "b@2")
    assert not found["same"]
    files = found["files"]
    assert [file["path"] for file in files["removed"]] == ["gone.txt"]
    assert [file["path"] for file in files["added"]] == ["new.txt"]
    assert [file["path"] for file in files["changed"]] == ["model.safetensors"]
    assert [len(side) for side in found["evidence"]] == [2, 2]


def test_the_room_a_model_takes_is_known_before_it_is_sealed(home: Any) -> None:
    with opened(home) as shop:
        staged = stage(shop.model(1.0), home.layout.staging)
        shop.push(1.0)
        # All but the header, which holds the wrapped key.
        assert 0 < _blob(shop).stat().st_size - sealed_bytes(staged) < 512
        staged.discard()


def test_a_trust_bundle_goes_to_who_may_know_what_stands_in_it(home: Any) -> None:
    """It holds the policy and every revocation: names that a narrow grant hides."""
    with opened(home) as shop:
        shop.push(1.0)
        hidden = shop.push(2.0, name="secret-model").version
        shop.workspace.record(home.revocation(hidden.subject))
        narrow = person("nan", Grant("puller", ("fraud",)))
        pulled = shop.registry.pull(narrow, "fraud@1")
        assert pulled.trust is None
        assert "trust export" in pulled.warnings[-1]
        for who in (LOCAL, person("ann", Grant("puller"), Grant("auditor"))):
            assert shop.registry.pull(who, "fraud@1").trust is not None
