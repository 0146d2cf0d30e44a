"""MLflow's file store with two versions of a model, and a workspace beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.mlflow_place import Guarded, honest


@pytest.fixture
def guarded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need_module: Callable[[str], Any],
) -> Iterator[Guarded]:
    """MLflow's file store with two versions of `fraud`; nothing is admitted, no guard is on."""
    need_module("mlflow")
    need_module("sklearn")
    import mlflow

    made = Guarded(tmp_path, f"file://{tmp_path}/store")
    for name in ("KEEPSTONE_TRUST_BUNDLE", "KEEPSTONE_TRUST_KEY", "KEEPSTONE_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in made.environment.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(made.tracking)
    assert made.log(honest()) == 1
    assert made.log(honest(-1.0)) == 2
    made.must("init")
    yield made
    mlflow.set_tracking_uri(None)
