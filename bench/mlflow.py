"""Loading from MLflow through the guard beside loading without it: the same model, the same run.

`server` is a real MLflow server on loopback, which sends the files; `local` is a store in a folder
of this machine, from which plain MLflow loads without a copy, and the guard with one: files that
somebody else may write to cannot be judged where they lie. Runs are interleaved; a ratio is the
median of the rounds' own ratios.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.mlflow_server import Server
from keepstone.integrations.mlflow.admitting import Brought, Version, admit_version
from keepstone.workspace.create import create_workspace
from keepstone.workspace.site import Site

ROUNDS = 7
# Numbers of eight bytes: 208 MB.
LARGE = 26_000_000
TARGET = 1.3


def rows() -> list[dict[str, Any]]:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    os.environ.update(quiet, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["KEEPSTONE_OUTSIDE"] = str(root / "outside")
        found: list[dict[str, Any]] = []
        for kind in ("server", "local"):
            with _tracking(kind, root / kind) as uri:
                found += _of(kind, root / kind, uri)
        return found


@contextmanager
def _tracking(kind: str, root: Path) -> Iterator[str]:
    root.mkdir()
    if kind == "local":
        yield f"file://{root}/store"
        return
    server = Server(root, {})
    try:
        yield server.wait().url
    finally:
        server.stop()


def _of(kind: str, root: Path, uri: str) -> Iterator[dict[str, Any]]:
    import mlflow

    mlflow.set_tracking_uri(uri)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    workspace = root / "ws"
    site = Site.at(workspace, os.environ)
    create_workspace(site, profile="local")
    for name, size in (("small", 3), ("large", LARGE)):
        _log(name, size)
        if not admit_version(site, Brought(Version(name, 1), uri))["allowed"]:
            raise RuntimeError("the model was not admitted")
        yield _row(f"mlflow.load.{kind}.{name}", f"models:/{name}/1", workspace)


def _log(name: str, size: int) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(np.eye(3), np.arange(3.0))
    model.coef_ = np.random.default_rng(0).normal(size=size)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            pip_requirements=["scikit-learn"],
            serialization_format="pickle",
        )


def _row(name: str, uri: str, workspace: Path) -> dict[str, Any]:
    ours: list[float] = []
    plain: list[float] = []
    for round_ in range(ROUNDS + 1):
        # The first round warms both sides up.
        for taken, guard in ((plain, None), (ours, workspace)):
            seconds = _load(uri, guard)
            if round_:
                taken.append(seconds)
    ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
    return {
        "name": name,
        "ours": statistics.median(ours),
        "peer": "mlflow, no check",
        "peer_value": statistics.median(plain),
        "unit": "s",
        "ratio": ratio,
        "target": f"<= {TARGET} x",
        "met": ratio <= TARGET,
    }


def _load(uri: str, workspace: Path | None) -> float:
    import mlflow.sklearn

    os.environ.pop("KEEPSTONE_WORKSPACE", None)
    if workspace is not None:
        os.environ["KEEPSTONE_WORKSPACE"] = str(workspace)
    begin = time.perf_counter()
    mlflow.sklearn.load_model(uri)
    return time.perf_counter() - begin
