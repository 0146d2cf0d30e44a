"""The command line with a store elsewhere: made, served, moved back, and said in a backup."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import _find
from tests.registry import LocalRegistry, docker_registry

Code = Callable[..., str]
pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    program = _find("docker-registry", "keep sealed models in a real registry")
    with docker_registry(program, tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_a_workspace_on_a_registry(place: Any, registry: LocalRegistry) -> None:
    place.environment["REGISTRY_AUTH_FILE"] = str(registry.auth_file)
    address = f"oci://{registry.host}/team/models"
    done = place.must("init", "--store", address)
    assert address in done.stderr
    place.up()
    assert place.stop() == 0
    scanned = place.json("scan", "--vault")
    assert [one["path"].split("@")[0] for one in scanned["files"]] == ["vault:scale"]
    assert "they lie in oci://" in place.must("backup", place.root / "b.tar").stderr
    assert place.json("vault", "rotate")["blobs"] == 1
    rows = [row for row in place.json("doctor")["checks"] if row["check"] == "store"]
    assert {row["state"] for row in rows} == {"ok"}
    assert place.json("vault", "move", "--into-folder") == {
        "schema": "keepstone.vault-move/v1",
        "store": str(place.workspace / "vault"),
        "blobs": 1,
        "damaged": [],
    }
    assert "1 sealed model" in place.must("vault", "move", "--to", address).stderr
    document = json.loads((place.workspace / "store.json").read_bytes())
    assert document == {"schema": "keepstone.store/v1", "store": address}


def test_what_cannot_be_is_said(place: Any) -> None:
    bad = place.run("init", "--store", "s3://key:secret@bucket")
    assert bad.returncode == 2
    assert "store.bad_address" in bad.stderr
    assert "secret" not in bad.stderr
    assert not place.workspace.exists()
    place.must("init")
    assert place.run("vault", "move").returncode == 2
    away = place.run("vault", "move", "--to", "oci://127.0.0.1:9/a", DOCKER_CONFIG="/nonexistent")
    assert away.returncode == 3
    assert "oci.unreachable" in away.stderr
    assert not (place.workspace / "store.json").exists()
