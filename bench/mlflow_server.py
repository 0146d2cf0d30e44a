"""A real MLflow server, whole, in a pinned environment of its own, behind Keepstone's guard."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from bench.environment import ROOT, python_of

PEER = "mlflow"


def mlflow_python() -> Path:
    """The interpreter of an environment with all of MLflow, and Keepstone as it is here."""
    python = python_of(PEER)
    stamp = python.parent.parent / "keepstone.sha256"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--editable"]
        command = [str(python), "-m", "pip", "install", *options, str(ROOT)]
        subprocess.run(command, check=True, capture_output=True)
        stamp.write_text(wanted, "utf-8")
    return python


class Server:
    """One `mlflow server` with one worker, on loopback."""

    def __init__(self, root: Path, environment: dict[str, str], *options: str) -> None:
        self.log = root / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            *(str(mlflow_python()), "-m", "mlflow", "server", *options),
            *("--backend-store-uri", f"sqlite:///{root}/mlflow.db"),
            *("--artifacts-destination", f"{root}/artifacts"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
        ]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment, **quiet},
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> Server:
        """Return once it answers."""
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text("utf-8", "replace")[-4000:]
            try:
                urlopen(f"{self.url}/health", timeout=2).close()
                return self
            except HTTPError:
                # Under a prefix it is elsewhere; it is MLflow that says so.
                return self
            except (URLError, OSError):
                pass
            assert time.monotonic() < deadline, self.log.read_text("utf-8", "replace")[-4000:]
            time.sleep(0.1)

    def stop(self) -> None:
        # The group is the server's own: its workers go with it.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
