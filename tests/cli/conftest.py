"""A published model, workspaces, and the real command line in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.identity.signing import SigningKey, write_secret_file

Done = subprocess.CompletedProcess[str]


def make_model(path: Path, *, width: int = 3, scale: float = 2.0) -> Path:
    """An ONNX file that multiplies `width` numbers by `scale`, without a declared contract."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.eye(width, dtype=np.float32) * scale, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, width])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


class Place:
    """A folder with a model and signers; commands run in it as a user would run them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = make_model(root / "scale.onnx")
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "KEEPSTONE_WORKSPACE": str(root / "ws"),
            "KEEPSTONE_OUTSIDE": str(root / "outside"),
            "NO_COLOR": "1",
        }
        self.environment.pop("KEEPSTONE_PASSPHRASE", None)

    @property
    def workspace(self) -> Path:
        return self.root / "ws"

    def run(self, *arguments: object, **environment: str) -> Done:
        """One command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "keepstone.cli", *map(str, arguments)],
            env=self.environment | environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def must(self, *arguments: object) -> Done:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    def json(self, *arguments: object) -> Any:
        return json.loads(self.must(*arguments, "--format", "json").stdout)

    def up(self, *arguments: object, model: Path | None = None) -> dict[str, Any]:
        """Start `keepstone up` and wait until it serves; what its ready file says."""
        return self.start("up", model or self.model, *arguments)

    def start(self, *command: object) -> dict[str, Any]:
        """Start a command that serves, on a free port; what its ready file says."""
        ready = self.root / f"ready-{len(self.running)}.json"
        log = self.root / "up.log"
        asked = [*map(str, command), "--port", "0", "--ready-file", str(ready)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "keepstone.cli", *asked],
                env=self.environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.running.append(process)
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        answer: dict[str, Any] = json.loads(ready.read_bytes())
        return answer

    def stop(self, how: int = signal.SIGTERM) -> int:
        process = self.running[-1]
        process.send_signal(how)
        return process.wait(timeout=20)

    def signer(self, name: str, role: str) -> Path:
        """Make a key outside the workspace and bind it to a role."""
        path = self.root / f"{name}.pem"
        key = SigningKey.generate()
        write_secret_file(path, key.to_pem())
        public = self.root / f"{name}.pub.pem"
        public.write_bytes(key.verifying.pem)
        self.must("signers", "add", name, public, "--role", role)
        return path

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


@pytest.fixture
def error_code() -> Callable[[Done], str]:
    """The stable code that a command printed on stderr."""

    def find(done: Done) -> str:
        return done.stderr.partition("error[")[2].partition("]")[0]

    return find
