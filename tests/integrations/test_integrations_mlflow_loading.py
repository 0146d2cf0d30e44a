"""Loading from MLflow: the four attacks on a store and a registry, and what honest users see."""

from __future__ import annotations

import inspect
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.errors import KeepstoneError
from tests.integrations.mlflow_place import Guarded, answers, honest, load, refused

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(params=["workspace", "bundle"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Turn the guard on for this process, by the workspace or by a fresh trust bundle."""

    def turn(place: Guarded) -> None:
        if request.param == "workspace":
            monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(place.workspace))
            return
        bundle, key = place.export()
        monkeypatch.setenv("KEEPSTONE_TRUST_BUNDLE", str(bundle))
        monkeypatch.setenv("KEEPSTONE_TRUST_KEY", key)

    return turn


def test_an_overwritten_artifact_loads_in_plain_mlflow_and_is_refused_under_guard(
    guarded: Guarded, on: Callable[..., None]
) -> None:
    guarded.admit(1)
    assert answers("models:/fraud/1") == [2.0, -2.0]

    guarded.overwrite(1, honest(-1.0))
    # Plain MLflow: not a word, and other answers.
    assert answers("models:/fraud/1") == [-2.0, 2.0]

    on(guarded)
    assert refused("models:/fraud/1") == "mlflow.changed"


def test_another_versions_files_are_refused_by_whose_they_are(
    guarded: Guarded, on: Callable[..., None]
) -> None:
    guarded.admit(1)
    guarded.admit(2)
    on(guarded)
    assert answers("models:/fraud/2") == [-2.0, 2.0]
    # A load of MLflow's writes its own note beside the files: it is no part of a version.
    kept = guarded.root / "kept"
    shutil.copytree(guarded.files(1), kept)

    guarded.put_files(2, under=1)
    assert refused("models:/fraud/1") == "mlflow.swapped_version"
    shutil.rmtree(guarded.files(2))
    shutil.copytree(kept, guarded.files(2))
    assert refused("models:/fraud/2") == "mlflow.rolled_back"


def test_each_kind_of_change_to_a_version_is_seen(
    guarded: Guarded, on: Callable[..., None]
) -> None:
    guarded.admit(1)
    on(guarded)
    files = guarded.files(1)
    for change in (
        lambda: (files / "MLmodel").write_text((files / "MLmodel").read_text() + "\n"),
        lambda: (files / "extra.py").write_text("print()"),
        lambda: (files / "conda.yaml").unlink(),
        lambda: (files / "conda.yaml").rename(files / "other.yaml"),
    ):
        kept = guarded.root / "kept"
        shutil.copytree(files, kept)
        change()
        assert refused("models:/fraud/1") == "mlflow.changed"
        shutil.rmtree(files)
        kept.rename(files)
    (files / "link").symlink_to("/etc/passwd")
    assert refused("models:/fraud/1") == "model.symlink"


def test_what_nobody_admitted_is_refused(guarded: Guarded, on: Callable[..., None]) -> None:
    guarded.admit(1)
    on(guarded)
    assert refused("models:/fraud/2") == "mlflow.not_registered"
    assert refused("models:/fraud/latest") == "mlflow.not_registered"


def test_an_alias_goes_by_the_record_and_latest_never_back(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    guarded.admit(1)
    guarded.admit(2)
    monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(guarded.workspace))
    client = MlflowClient()
    client.set_registered_model_alias("fraud", "champion", "2")
    assert refused("models:/fraud@champion") == "mlflow.alias_unproven"

    guarded.move(2, "champion")
    assert answers("models:/fraud@champion") == [-2.0, 2.0]
    client.set_registered_model_alias("fraud", "champion", "1")
    assert refused("models:/fraud@champion") == "mlflow.rolled_back"

    guarded.move(1, "champion")
    assert answers("models:/fraud@champion") == [2.0, -2.0]
    client.set_registered_model_alias("fraud", "champion", "2")
    assert refused("models:/fraud@champion") == "mlflow.alias_moved"

    assert answers("models:/fraud/latest") == [-2.0, 2.0]
    client.delete_model_version("fraud", "2")
    assert refused("models:/fraud/latest") == "mlflow.rolled_back"


def test_a_promotion_without_evidence_moves_no_alias(guarded: Guarded) -> None:
    from mlflow import MlflowClient

    with pytest.raises(KeepstoneError, match=r"registered\.unknown"):
        guarded.move(1, "champion")
    assert MlflowClient().get_registered_model("fraud").aliases == {}


def test_a_version_is_one_digest_for_ever(guarded: Guarded) -> None:
    assert guarded.admit(1)["allowed"]
    guarded.overwrite(1, honest(-1.0))
    with pytest.raises(KeepstoneError, match=r"registered\.other_digest"):
        guarded.admit(1)


def test_the_commands_admit_and_promote_and_say_what_is_missing(guarded: Guarded) -> None:
    done = guarded.must("mlflow", "admit", "models:/fraud/1", "--format", "json")
    said = json.loads(done.stdout)
    assert (said["schema"], said["name"], said["allowed"]) == (
        "keepstone.mlflow-admit/v1",
        "fraud",
        True,
    )
    done = guarded.must("mlflow", "promote", "models:/fraud/1", "--alias", "champion")
    assert said["digest"] in done.stdout
    assert answers("models:/fraud@champion") == [2.0, -2.0]


def test_a_malicious_pickle_is_never_admitted_and_never_opened(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = guarded.root / "opened"
    payload = b"cos\nsystem\n(S'touch " + str(trace).encode() + b"'\ntR."
    (guarded.files(1) / "model.pkl").write_bytes(payload)
    done = guarded.keepstone("mlflow", "admit", "models:/fraud/1")
    assert (done.returncode, "guard.flagged" in done.stderr) == (1, True)

    monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(guarded.workspace))
    assert refused("models:/fraud/1") == "gate.denied"
    assert not trace.exists()


def test_a_trust_bundle_refuses_once_it_has_expired_or_is_by_another_key(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.admit(1)
    bundle, key = guarded.export(3)
    monkeypatch.setenv("KEEPSTONE_TRUST_BUNDLE", str(bundle))
    monkeypatch.setenv("KEEPSTONE_TRUST_KEY", "ab" * 32)
    assert refused("models:/fraud/1") == "trust.wrong_key"
    monkeypatch.setenv("KEEPSTONE_TRUST_KEY", key)
    begin = time.monotonic()
    found = None
    while found is None:
        try:
            answers("models:/fraud/1")
        except KeepstoneError as error:
            found = error.code
        assert time.monotonic() - begin < 30
    assert found == "trust.expired"
    bundle.unlink()
    assert refused("models:/fraud/1") == "trust.missing"


def test_a_model_by_its_id_or_its_place_is_judged_too(
    guarded: Guarded, on: Callable[..., None]
) -> None:
    from mlflow import MlflowClient

    guarded.admit(1)
    uris = [MlflowClient().get_model_version("fraud", str(one)).source for one in (1, 2)]
    places = [f"keepstone+file://{guarded.files(one)}" for one in (1, 2)]
    on(guarded)
    for uri in (uris[0], places[0]):
        assert answers(uri) == [2.0, -2.0]
    for uri in (uris[1], places[1]):
        assert refused(uri) == "mlflow.not_registered"
    guarded.overwrite(1, honest(-1.0))
    for uri in (uris[0], places[0], f"{places[0]}/model.pkl"):
        assert refused(uri) == "mlflow.changed"


def test_plots_pass_through_and_models_do_not(
    guarded: Guarded, on: Callable[..., None], tmp_path: Path
) -> None:
    from mlflow.artifacts import download_artifacts

    folder = tmp_path / "run"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "roc.txt").write_text("0 1")
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_text("flavors: {}")
    (folder / "model" / "model.pkl").write_bytes(b"N.")
    guarded.admit(1)
    on(guarded)
    root = f"keepstone+file://{folder}"

    got = Path(download_artifacts(f"{root}/plots"))
    assert (got / "roc.txt").read_text() == "0 1"
    assert Path(download_artifacts(f"{root}/plots/roc.txt")).read_text() == "0 1"
    into = tmp_path / "into"
    into.mkdir()
    got = Path(download_artifacts(f"{root}/plots", dst_path=str(into)))
    assert (got / "roc.txt").read_text() == "0 1"
    for path in ("model", "model/model.pkl", "model/MLmodel", ""):
        with pytest.raises(KeepstoneError, match="not_registered"):
            download_artifacts(f"{root}/{path}".rstrip("/"))


def test_a_verified_copy_is_handed_out_where_it_was_asked_for(
    guarded: Guarded, on: Callable[..., None], tmp_path: Path
) -> None:
    from mlflow.artifacts import download_artifacts

    guarded.admit(1)
    on(guarded)
    into = tmp_path / "into"
    into.mkdir()
    got = Path(download_artifacts("models:/fraud/1", dst_path=str(into)))
    assert got == into
    assert (into / "registered_model_meta").exists()
    assert {one.name for one in into.iterdir()} >= {"MLmodel", "model.pkl"}
    assert not list(into.glob("keepstone-*"))
    got = Path(download_artifacts("models:/fraud/1/MLmodel", dst_path=str(into)))
    assert got == into / "MLmodel"

    # What is loaded is a copy: whatever becomes of the store after the judgement.
    copy = Path(download_artifacts("models:/fraud/1"))
    assert copy != guarded.files(1)
    assert copy.parent.stat().st_mode & 0o077 == 0


def test_the_plain_scheme_is_guarded_only_where_there_is_something_to_go_by(
    guarded: Guarded, tmp_path: Path
) -> None:
    assert answers("models:/fraud/1") == [2.0, -2.0]
    with pytest.raises(KeepstoneError, match="not_configured"):
        load(f"keepstone+file://{guarded.files(1)}")


def test_a_client_sends_its_credential_and_never_a_broken_one(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import requests
    from mlflow.tracking.request_auth.registry import fetch_auth

    def sent() -> str:
        request = requests.Request("GET", "http://127.0.0.1/", auth=fetch_auth("keepstone"))
        return str(request.prepare().headers["Authorization"])

    monkeypatch.setenv("KEEPSTONE_API_KEY", "ks_one")
    assert sent() == "Bearer ks_one"
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("two\n")
    monkeypatch.setenv("KEEPSTONE_TOKEN_FILE", str(file))
    assert sent() == "Bearer two"
    file.write_text("two\r\nX-Evil: 1")
    with pytest.raises(KeepstoneError, match="no_credential"):
        sent()
    file.chmod(0o644)
    with pytest.raises(KeepstoneError, match="open_permissions"):
        sent()


def test_the_store_leaves_no_method_of_mlflows_unguarded(need_module: Callable[..., Any]) -> None:
    """A method that a newer MLflow adds fails here, until somebody says what it may do."""
    need_module("mlflow")
    from mlflow.store.model_registry.abstract_store import AbstractStore

    from keepstone.integrations.mlflow.registry import GuardedRegistry

    offered = {name for name in dir(AbstractStore) if not name.startswith("_")}
    ours = {name for name in vars(GuardedRegistry) if not name.startswith("_")}
    # These only call the others, on the guarded store itself.
    prompts = {name for name in offered - ours if "prompt" in name}
    assert offered - ours == prompts
    for name in prompts:
        assert "inner" not in inspect.getsource(getattr(AbstractStore, name))
    for name in ("set_prompt_alias", "delete_prompt_alias"):
        assert "self." in inspect.getsource(getattr(AbstractStore, name))
