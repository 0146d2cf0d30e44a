"""The vault is scanned as it lies there, and nothing of it is written anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keepstone.core.finding import Outcome
from keepstone.errors import InputError, KeepstoneError
from keepstone.vault.seal import seal
from keepstone.vault.staging import stage
from keepstone.vault.stores.files import FileStore
from keepstone.workspace.kek import current_kek
from keepstone.workspace.scanning import scan_vault
from tests.workspace.conftest import Home

EVIL = b"cos\nsystem\n(S'true'\ntR."


def sealed(home: Home, name: str, files: dict[str, bytes]) -> None:
    """Seal a folder of `files`, or a single file, whatever a scan would say of it."""
    path = home.root / f"plain-{name}"
    if list(files) == ["."]:
        path.write_bytes(files["."])
    else:
        for inner, data in files.items():
            (path / inner).parent.mkdir(parents=True, exist_ok=True)
            (path / inner).write_bytes(data)
    staged = stage(path, home.layout.staging)
    store, kek = FileStore(home.layout.vault), current_kek(home.site)
    seal(staged, store, kek, name)
    staged.discard()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).create()


def everything(root: Path) -> dict[str, int]:
    return {str(path): os.stat(path).st_mtime_ns for path in root.rglob("*")}


def test_every_sealed_artifact_is_judged(home: Home) -> None:
    sealed(home, "good", {".": b'{"a": 1}'})
    sealed(home, "bad", {"model.pkl": EVIL, "config.json": b'{"a": 1}'})
    before, heard = everything(home.layout.root), list[str]()
    report = scan_vault(home.site, observer=heard.append)
    found = {item.path.split("@")[0]: item.outcome for item in report.files}
    assert found["vault:good"] is Outcome.CLEAN
    assert report.outcome is Outcome.FLAGGED
    assert {item.path.rsplit("/", 1)[-1] for item in report.files if "bad" in item.path} == {
        "model.pkl",
        "config.json",
    }
    assert len(heard) == 2
    assert everything(home.layout.root) == before


def test_one_name_is_scanned_alone(home: Home) -> None:
    sealed(home, "good", {".": b'{"a": 1}'})
    sealed(home, "bad", {".": EVIL})
    assert scan_vault(home.site, "good").outcome is Outcome.CLEAN
    assert scan_vault(home.site, "bad").outcome is Outcome.FLAGGED
    with pytest.raises(InputError) as caught:
        scan_vault(home.site, "nobody")
    assert caught.value.code == "scan.missing"


def test_what_does_not_unseal_is_not_evaluated(home: Home) -> None:
    sealed(home, "good", {".": b'{"a": 1}'})
    (blob,) = (home.layout.vault / "blobs").glob("*/*.sealed")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    report = scan_vault(home.site)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert report.files[0].sha256 is None


def test_without_a_workspace_there_is_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(KeepstoneError):
        scan_vault(Home(tmp_path).site)
