"""MLflow with models in it, a workspace beside it, and an attacker who writes to the store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from bench.mlflow_server import Server
from keepstone.errors import KeepstoneError
from keepstone.integrations.mlflow.admitting import (
    Brought,
    Version,
    admit_version,
    promote_version,
)
from keepstone.ledger import LedgerReader, parse_entry
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import public_key
from keepstone.workspace.site import Site

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

    @property
    def site(self) -> Site:
        return Site.at(self.workspace, self.environment)

    def admit(self, version: int, name: str = "fraud") -> dict[str, Any]:
        """As `keepstone mlflow admit` does, in this process."""
        uri = self.environment["MLFLOW_TRACKING_URI"]
        return admit_version(self.site, Brought(Version(name, version), uri))

    def move(self, version: int, alias: str) -> None:
        """As `keepstone mlflow promote` does."""
        uri = self.environment["MLFLOW_TRACKING_URI"]
        promote_version(self.site, Version("fraud", version), alias, uri)

    def export(self, seconds: int = 3600) -> tuple[Path, str]:
        """As `keepstone trust export` does: the bundle, and the id of the gate's key."""
        bundle = self.root / "fraud.trust"
        said = perform(self.site, "trust.export", {"models": [], "lifetime_ms": seconds * 1000})
        bundle.write_text(str(said["bundle"]))
        return bundle, public_key(self.site.layout, "gate").key_id

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


PEOPLE = {
    "trainer": ("user:trainer", ["pusher", "puller"], None),
    "reader": ("user:reader", ["puller"], "fraud"),
    "other": ("user:other", ["puller", "releaser", "pusher"], "churn"),
    "releaser": ("user:releaser", ["releaser"], "fraud"),
}


class Live(Guarded):
    """A workspace, keys for several people, and a running server."""

    server: Server
    keys: dict[str, str]

    def __init__(self, root: Path) -> None:
        super().__init__(root, "")

    @contextmanager
    def serving(self, *options: str, **environment: str) -> Iterator[None]:
        """A server for the block. Opens the network to loopback, as a test's marker does."""
        enable_socket()
        socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
        given = {
            "KEEPSTONE_OUTSIDE": self.environment["KEEPSTONE_OUTSIDE"],
            "KEEPSTONE_WORKSPACE": str(self.workspace),
        }
        self.server = Server(self.root, given | environment, *options)
        try:
            self.server.wait()
            self.environment["MLFLOW_TRACKING_URI"] = self.server.url
            yield
        finally:
            self.server.stop()

    @contextmanager
    def using(self, **environment: str) -> Iterator[None]:
        """This process, and the commands it runs, are MLflow clients of the server."""
        import mlflow

        self.environment |= environment
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            # MLflow's own; a module's fixture is outside of a test's filters.
            warnings.simplefilter("ignore")
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.delenv("KEEPSTONE_WORKSPACE", raising=False)
            mlflow.set_tracking_uri(self.environment["MLFLOW_TRACKING_URI"])
            try:
                yield
            finally:
                mlflow.set_tracking_uri(None)

    @staticmethod
    def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def mint(self) -> None:
        self.keys = {}
        for name, (principal, roles, model) in PEOPLE.items():
            words: list[str] = []
            for role in roles:
                words += ["--role", role]
            words += ["--model", model] if model else []
            said = self.must("keys", "create", principal, *words, "--format", "json")
            self.keys[name] = str(json.loads(said.stdout)["key"])

    def call(self, who: str | None, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} if who else {}
        headers |= more.pop("headers", {})
        with httpx.Client(base_url=self.server.url, timeout=60) as client:
            return client.request(method, path, json=body, headers=headers, **more)

    def promote(self, who: str, version: int, alias: str = "champion", **more: Any) -> Any:
        body = {"name": "fraud", "alias": alias, "version": str(version)}
        path = more.get("path", "/api/2.0/mlflow/registered-models/alias")
        return self.call(who, "POST", path, body)

    def events(self, name: str) -> list[dict[str, Any]]:
        with LedgerReader.open(self.workspace / "ledger" / "ledger.db") as reader:
            found = [parse_entry(body) for _, body in reader.indexed("event")]
        return [one for one in found if one["event"] == name]

    def database(self, statement: str, *values: object) -> None:
        """What somebody does who writes to MLflow's database."""
        with sqlite3.connect(self.root / "mlflow.db") as connection:
            assert connection.execute(statement, values).rowcount > 0
        connection.close()

    def files(self, version: int, name: str = "fraud") -> Path:
        from mlflow import MlflowClient

        uri = MlflowClient().get_model_version_download_uri(name, str(version))
        return self.root / "artifacts" / uri.removeprefix("mlflow-artifacts:/")
