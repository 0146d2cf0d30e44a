"""A workspace whose sealed models lie elsewhere: made, served, loaded, scanned, rotated, moved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import keepstone
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import KeepstoneError, OperationalError, VerificationError
from keepstone.vault.stores import BlobStore, parse_store_address
from keepstone.vault.stores.files import FileStore
from keepstone.workspace import moving
from keepstone.workspace.backup import back_up, restore
from keepstone.workspace.doctor import examine
from keepstone.workspace.moving import move
from keepstone.workspace.rotate import rotate
from keepstone.workspace.scanning import scan_vault
from keepstone.workspace.store import read_store_address, store_at, write_store_address
from tests.buckets import Buckets, buckets
from tests.conftest import _find
from tests.registry import LocalRegistry, docker_registry
from tests.workspace.conftest import Home

pytestmark = pytest.mark.loopback
ROWS = np.ones((1, 3), np.float32)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Buckets]:
    with buckets() as running:
        yield running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    program = _find("docker-registry", "keep sealed models in a real registry")
    with docker_registry(program, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(params=["s3", "oci"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty store that we may write."""
    if request.param == "s3":
        cloud: Buckets = request.getfixturevalue("cloud")
        cloud.be("writer", monkeypatch)
        return cloud.address(cloud.bucket())
    place: LocalRegistry = request.getfixturevalue("place")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(place.auth_file))
    name = Digest.of(request.node.name.encode()).short
    return f"oci://{place.host}/{name}/models"


def code_of(action: Callable[..., object], *given: object, **named: object) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given, **named)
    return caught.value.code


def held(home: Home, address: str | None = None) -> list[str]:
    found = parse_store_address(address) if address else None
    with closing(store_at(home.layout, found)) as store:
        return [one.name for one in store.addresses()]


def test_a_workspace_lives_on_a_store_elsewhere(bare: Home, elsewhere: str) -> None:
    home = bare.create(store=parse_store_address(elsewhere))
    document = json.loads(home.layout.store.read_bytes())
    assert document == {"schema": "keepstone.store/v1", "store": elsewhere}
    with home.open() as workspace:
        home.submit(workspace)
        home.submit(workspace)
    assert "sealed before, as number 1" in home.heard.told
    assert held(home, elsewhere) == ["scale"]
    assert held(home) == []
    model = keepstone.load("scale", workspace=home.site)
    assert model.predict(ROWS)["y"].tolist() == [[2.0, 2.0, 2.0]]
    report = scan_vault(home.site)
    assert [one.path.split("@")[0] for one in report.files] == ["vault:scale"]
    assert report.outcome is Outcome.CLEAN
    assert rotate(home.site).rewrapped.blobs == 1
    assert keepstone.load("scale", workspace=home.site).predict(ROWS)["y"].sum() == 6
    rows = [check for check in examine(home.site) if check.check == "store"]
    assert rows
    assert {row.state for row in rows} == {"ok"}
    assert "is reached" in rows[0].message


def test_a_store_with_models_of_others_is_not_taken(bare: Home, elsewhere: str) -> None:
    address = parse_store_address(elsewhere)
    home = bare.create(store=address)
    with home.open() as workspace:
        home.submit(workspace)
    second = Home(bare.root / "second")
    assert code_of(second.create, store=address) == "store.in_use"
    assert not second.layout.root.exists()
    second.create()
    assert code_of(move, second.site, address) == "store.in_use"
    assert read_store_address(second.layout) is None


def test_models_are_moved_and_back(served: Home, subject: Subject, elsewhere: str) -> None:
    address = parse_store_address(elsewhere)
    told: list[int] = []
    done = move(served.site, address, progress=told.append)
    assert (done.blobs, done.damaged, told) == (1, (), [1])
    assert read_store_address(served.layout) == address
    # Nothing is removed; and the old one is not used any more.
    FileStore(served.layout.vault).delete(subject.digest, subject.name)
    assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6
    events = [e["event"] for e in served.entries("event") if "vault" in str(e["event"])]
    assert events == ["vault.moving", "vault.moved"]
    assert code_of(move, served.site, address) == "store.same"
    assert move(served.site, None).blobs == 1
    assert not served.layout.store.exists()
    assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6


def test_a_move_that_is_cut_short_leaves_the_old_store_in_use(
    served: Home, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = parse_store_address(elsewhere)
    copy = moving._copy
    for where in ("before", "after"):

        def cut(source: BlobStore, target: BlobStore, subject: Subject, where: str = where) -> None:
            if where == "after":
                copy(source, target, subject)
            raise OperationalError("store.timeout", "It stopped.")

        monkeypatch.setattr(moving, "_copy", cut)
        assert code_of(move, served.site, address) == "store.timeout"
        assert read_store_address(served.layout) is None
        assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6
    # What is there already is not copied once more.
    assert move(served.site, address).blobs == 1
    assert read_store_address(served.layout) == address


KILLED = """
import os, signal, sys
from pathlib import Path
from keepstone.vault.stores import parse_store_address
from keepstone.workspace import moving
from keepstone.workspace.site import Site

copy = moving._copy
def killed(*given):
    copy(*given)
    os.kill(os.getpid(), signal.SIGKILL)
moving._copy = killed
moving.move(Site.at(Path(sys.argv[1]), os.environ), parse_store_address(sys.argv[2]))
"""


def test_a_move_that_is_killed_leaves_the_old_store_in_use(served: Home, elsewhere: str) -> None:
    environment = {**os.environ, "KEEPSTONE_OUTSIDE": str(served.site.outside)}
    environment.pop("KEEPSTONE_PASSPHRASE", None)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(served.layout.root), elsewhere],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert read_store_address(served.layout) is None
    assert held(served, elsewhere) == ["scale"]
    assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6
    assert move(served.site, parse_store_address(elsewhere)).blobs == 1
    assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6


def test_a_store_that_spoils_what_it_is_given_is_not_taken_into_use(
    served: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, elsewhere: str
) -> None:
    class Spoils(FileStore):
        __slots__ = ()

        def write(self, digest, name, fill):  # type: ignore[no-untyped-def]
            def spoiled(sink):  # type: ignore[no-untyped-def]
                fill(lambda data: sink(memoryview(bytes(data)[:-1] + b"\0")))

            return super().write(digest, name, spoiled)

    monkeypatch.setattr(moving, "store_at", lambda layout, to: Spoils(tmp_path / "spoils"))
    with pytest.raises(VerificationError, match=r"store\.spoils"):
        move(served.site, parse_store_address(elsewhere))
    assert read_store_address(served.layout) is None


def test_what_was_lost_before_is_named(served: Home, subject: Subject, elsewhere: str) -> None:
    path = FileStore(served.layout.vault).path(subject.digest, subject.name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = move(served.site, parse_store_address(elsewhere))
    assert (done.blobs, done.damaged) == (0, (f"scale ({subject.digest.short})",))
    path.unlink()
    move(served.site, None)
    with served.open() as workspace:
        served.submit(workspace)
    assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6


def test_a_backup_says_what_it_does_not_hold(served: Home, elsewhere: str, tmp_path: Path) -> None:
    assert back_up(served.site, tmp_path / "before.tar").elsewhere is None
    move(served.site, parse_store_address(elsewhere))
    assert back_up(served.site, tmp_path / "b.tar").elsewhere == elsewhere
    served.layout.root.rename(tmp_path / "gone")
    assert restore(served.site, tmp_path / "b.tar").elsewhere == elsewhere
    assert keepstone.load("scale", workspace=served.site).predict(ROWS)["y"].sum() == 6


def test_a_store_that_is_away_stops_no_revocation(
    served: Home, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing asks for the store before a model is needed; then it is undecided, never clean."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/nonexistent")
    write_store_address(served.layout, parse_store_address("oci://127.0.0.1:9/away"))
    assert code_of(keepstone.load, "scale", workspace=served.site) == "oci.logins_unreadable"
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    with served.open() as workspace:
        workspace.record(served.revocation(subject))
        assert workspace.evidence.denied(subject.digest, served.clock.now) is not None
    assert code_of(scan_vault, served.site) == "oci.unreachable"
    rows = [check for check in examine(served.site) if check.check == "store"]
    assert [row.state for row in rows] == ["fail"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "workspace.malformed"),
        (b"{", "workspace.malformed"),
        (b"[]", "workspace.malformed"),
        (b'{"schema":"keepstone.store/v1"}', "workspace.malformed"),
        (b'{"schema":"keepstone.store/v1","store":"s3://k:s@b"}', "workspace.malformed"),
        (b'{"schema":"keepstone.store/v2","store":1}', "workspace.newer_version"),
        (b" " * 100_000, "workspace.malformed"),
    ],
)
def test_a_file_that_names_no_store_is_never_the_folder(
    served: Home, content: bytes, code: str
) -> None:
    served.layout.store.write_bytes(content)
    assert code_of(keepstone.load, "scale", workspace=served.site) == code
    assert code_of(scan_vault, served.site) == code
    assert [row.state for row in examine(served.site) if row.check == "store"] == ["fail"]


def test_a_bucket_without_versions_makes_no_workspace(
    bare: Home, cloud: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.be("writer", monkeypatch)
    address = parse_store_address(cloud.address(cloud.bucket(versioned=False)))
    assert code_of(bare.create, store=address) == "store.not_versioned"
    assert not bare.layout.root.exists()


def test_doctor_tells_of_a_bucket_that_no_longer_keeps_versions(
    bare: Home, cloud: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = cloud.bucket()
    cloud.be("writer", monkeypatch)
    bare.create(store=parse_store_address(cloud.address(bucket)))
    client = cloud.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    client.close()
    rows = [check for check in examine(bare.site) if check.check == "store"]
    assert [row.state for row in rows] == ["fail"]
    assert "put-bucket-versioning" in rows[0].mend


def test_a_reader_loads_from_a_bucket_that_it_cannot_write(
    bare: Home, cloud: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.be("writer", monkeypatch)
    bare.create(store=parse_store_address(cloud.address(cloud.bucket())))
    with bare.open() as workspace:
        bare.submit(workspace)
    cloud.be("reader", monkeypatch)
    assert keepstone.load("scale", workspace=bare.site).predict(ROWS)["y"].sum() == 6
    with bare.open() as workspace:
        other = bare.model("other.onnx", 3.0)
        assert code_of(bare.submit, workspace, other) == "store.denied"
