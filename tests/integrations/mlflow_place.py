"""MLflow with models in it, a workspace beside it, and an attacker who writes to the store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.errors import KeepstoneError

Done = subprocess.CompletedProcess[str]

SAMPLE = np.array([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])


def honest(sign: float = 1.0) -> Any:
    """A scikit-learn model whose answers tell which one it is."""
    from sklearn.linear_model import LinearRegression

    rows = np.random.default_rng(0).normal(size=(40, 3))
    return LinearRegression().fit(rows, sign * rows[:, 0])


def load(uri: str) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(uri)


def answers(uri: str) -> list[float]:
    """What the model says of SAMPLE."""
    return [float(one) for one in np.round(load(uri).predict(SAMPLE))]


def refused(uri: str) -> str:
    """The code with which loading is refused."""
    with pytest.raises(KeepstoneError) as caught:
        load(uri)
    return caught.value.code


class Guarded:
    """An MLflow store in a folder, and a workspace of the local profile."""

    def __init__(self, root: Path, tracking: str) -> None:
        self.root = root
        self.tracking = tracking
        self.environment = {
            **os.environ,
            "KEEPSTONE_OUTSIDE": str(root / "outside"),
            "MLFLOW_TRACKING_URI": tracking,
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @property
    def workspace(self) -> Path:
        return self.root / "ws"

    def keepstone(self, *arguments: object, **environment: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "keepstone.cli", *map(str, arguments)],
            env=self.environment | {"KEEPSTONE_WORKSPACE": str(self.workspace)} | environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def must(self, *arguments: object) -> Done:
        done = self.keepstone(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    def log(self, model: Any, name: str = "fraud") -> int:
        """Log `model` as the next version of `name`, as a pickle; its number."""
        import mlflow.sklearn

        with mlflow.start_run():
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=name,
                pip_requirements=["scikit-learn"],
                serialization_format="pickle",
            )
        return int(info.registered_model_version)

    def admit(self, version: int, name: str = "fraud") -> dict[str, Any]:
        done = self.must("mlflow", "admit", f"models:/{name}/{version}", "--format", "json")
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def files(self, version: int, name: str = "fraud") -> Path:
        """Where the version's files lie in the store."""
        from mlflow import MlflowClient

        uri = MlflowClient().get_model_version_download_uri(name, str(version))
        return Path(uri.removeprefix("file://"))

    def overwrite(self, version: int, model: Any) -> None:
        """What a writer of the artifact store does."""
        import pickle

        (self.files(version) / "model.pkl").write_bytes(pickle.dumps(model))

    def put_files(self, of: int, under: int) -> None:
        """Serve one version's files as another's."""
        target = self.files(under)
        shutil.rmtree(target)
        shutil.copytree(self.files(of), target)
