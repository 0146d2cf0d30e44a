"""A place to try things in: a folder with models, workspaces, and the real command line."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Endpoint:
    """A running `keepstone up` or `registry serve`, spoken to over HTTPS by its own authority."""

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    @property
    def port(self) -> int:
        return int(str(self.ready["url"]).rsplit(":", 1)[1].rstrip("/"))

    @property
    def path(self) -> str:
        return f"/v2/models/{self.ready['model']}/infer"

    def send(
        self,
        body: bytes,
        *,
        path: str | None = None,
        method: str = "POST",
        key: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own. `key` "" means the key that was minted."""
        context = ssl.create_default_context(cafile=self.ready["ca"])
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=10
        )
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.ready['api_key']}"
        try:
            connection.request(method, path or self.path, body, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, names, response.read()
        finally:
            connection.close()

    def stop(self) -> int:
        """Ask it to end as a service manager would, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@dataclass
class Place:
    """One folder for the whole demonstration. Nothing outside it is written."""

    root: Path
    endpoints: list[Endpoint] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.root / "digits" / "digits.onnx"

    @property
    def sample(self) -> bytes:
        return (self.root / "digits" / "sample.json").read_bytes()

    def keepstone(
        self,
        *arguments: object,
        workspace: str = "site",
        check: bool = False,
        environment: dict[str, str] | None = None,
    ) -> Any:
        """Run one command to its end; return the finished process with its text."""
        done = subprocess.run(
            [sys.executable, "-m", "keepstone.cli", *map(str, arguments)],
            env=self._environment(workspace) | (environment or {}),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"keepstone {' '.join(map(str, arguments))}: {done.stderr}")
        return done

    def up(self, model: Path, *arguments: object, workspace: str = "site") -> Endpoint:
        """Start `keepstone up` and wait until it serves; raise with its words if it ends."""
        return self.start("up", model, *arguments, workspace=workspace)

    def start(self, *arguments: object, workspace: str = "site") -> Endpoint:
        """Start a command that serves, on a free port, and wait until it does."""
        ready = self.root / f"ready-{workspace}-{time.monotonic_ns()}.json"
        command = [*arguments, "--port", 0, "--ready-file", ready]
        log = self.root / f"{ready.stem}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "keepstone.cli", *map(str, command)],
                env=self._environment(workspace),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 30
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        endpoint = Endpoint(process, json.loads(ready.read_bytes()))
        self.endpoints.append(endpoint)
        return endpoint

    @contextmanager
    def serving(
        self, model: Path, *arguments: object, workspace: str = "site"
    ) -> Iterator[Endpoint]:
        endpoint = self.up(model, *arguments, workspace=workspace)
        try:
            yield endpoint
        finally:
            endpoint.stop()

    def copy_model(self, name: str) -> Path:
        """A copy of the digits model, without what its publisher signed."""
        target = self.root / name
        shutil.copyfile(self.model, target)
        return target

    def copy_workspace(self, name: str, source: str = "site") -> Path:
        """A copy of a workspace that is not running."""
        target = self.root / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.root / source, target, ignore=shutil.ignore_patterns("*.sock"))
        return target

    def close(self) -> None:
        for endpoint in self.endpoints:
            if endpoint.process.poll() is None:
                endpoint.process.kill()
                endpoint.process.wait()

    def _environment(self, workspace: str) -> dict[str, str]:
        return {
            **os.environ,
            "KEEPSTONE_WORKSPACE": str(self.root / workspace),
            "KEEPSTONE_OUTSIDE": str(self.root / "outside"),
            "NO_COLOR": "1",
        }
