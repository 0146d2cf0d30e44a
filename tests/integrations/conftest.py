"""MLflow's file store with two versions of a model, and a workspace beside it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keepstone.workspace.create import create_workspace
from tests.integrations.mlflow_place import Guarded, honest

_SETTINGS = ("KEEPSTONE_TRUST_BUNDLE", "KEEPSTONE_TRUST_KEY", "KEEPSTONE_WORKSPACE")


def _use(place: Guarded, patch: pytest.MonkeyPatch) -> None:
    import mlflow

    for name in _SETTINGS:
        patch.delenv(name, raising=False)
    for name, value in place.environment.items():
        if os.environ.get(name) != value:
            patch.setenv(name, value)
    mlflow.set_tracking_uri(place.tracking)


@pytest.fixture(scope="session")
def _logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of `fraud` in a file store, and a workspace that saw neither."""
    import mlflow

    root = tmp_path_factory.mktemp("logged")
    place = Guarded(root, f"file://{root}/store")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _use(place, patch)
        assert [place.log(honest()), place.log(honest(-1.0))] == [1, 2]
        mlflow.set_tracking_uri(None)
    create_workspace(place.site, profile="local")
    return root


@pytest.fixture
def guarded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need_module: Callable[[str], Any],
    request: pytest.FixtureRequest,
) -> Iterator[Guarded]:
    """MLflow's file store with two versions of `fraud`; nothing is admitted, no guard is on."""
    need_module("mlflow")
    need_module("sklearn")
    import mlflow

    made: Path = request.getfixturevalue("_logged")
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    # MLflow keeps whole paths; this store is at home here.
    for path in (tmp_path / "store").rglob("meta.yaml"):
        path.write_text(path.read_text().replace(str(made), str(tmp_path)))
    place = Guarded(tmp_path, f"file://{tmp_path}/store")
    _use(place, monkeypatch)
    yield place
    mlflow.set_tracking_uri(None)
