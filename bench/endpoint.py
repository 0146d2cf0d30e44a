"""Requests per second of our endpoint with every guard on, beside servers that have none.

One model (digits, 64 inputs, 10 outputs, onnxruntime with one thread), one request of 604 bytes
(JSON of the Open Inference Protocol), plain HTTP on loopback. Every server is pinned to one core
and the load to another. They are loaded in turn, several rounds, so that a busy moment of the
machine hits all of them; whoever is not being loaded stands still. The values are medians over the
rounds, the ratios medians of the rounds' ratios. `own-unsecured` is the least that serves the same:
uvicorn, one function, no guard.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.endpoint_servers.model import request_body, write_model
from bench.environment import PEERS, python_of

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = 3
CONNECTIONS = 64
START_S = 60.0
SERVERS = Path(__file__).parent / "endpoint_servers"
PATH = "/v2/models/digits/infer"
TARGETS = {
    ("endpoint.strict", "mlserver"): 3.0,
    ("endpoint.strict", "litserve"): 1.0,
    ("endpoint.strict", "fastapi"): 1.0,
    ("endpoint.strict", "own-unsecured"): 0.40,
    ("endpoint.group", "mlserver"): 5.0,
    ("endpoint.group", "litserve"): 1.0,
    ("endpoint.group", "fastapi"): 1.0,
    ("endpoint.group", "own-unsecured"): 0.60,
    # A row of its own, for what encryption costs: shown, and held to no peer.
    ("endpoint.strict.tls", "own-unsecured"): 0.0,
    ("endpoint.group.tls", "own-unsecured"): 0.0,
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that runs: where, and with which key."""

    url: str
    key: str
    group: int

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Let the server run for as long as this lasts: some spin when they have nothing to do."""
        os.killpg(self.group, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self.group, signal.SIGSTOP)


def _cores() -> tuple[str, str]:
    """A core for the servers, and another one for the load."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[0]), str(cores[-1])


def _free_port() -> int:
    # MLServer takes three in a row.
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = int(first.getsockname()[1])
            try:
                for offset in (1, 2):
                    stack.enter_context(socket.create_server(("127.0.0.1", port + offset)))
            except (OSError, OverflowError):
                continue
            return port


@contextlib.contextmanager
def _server(
    name: str, command: list[str], core: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command], stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield process
        finally:
            for sign in (signal.SIGCONT, signal.SIGTERM):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _await(url: str, key: str, body: Path, name: str, log: Path) -> None:
    """Return once the server predicts. Raises RuntimeError with the end of its log."""
    headers = ["-H", "Content-Type: application/json"]
    headers += ["-H", f"Authorization: Bearer {key}"] if key else []
    deadline = time.monotonic() + START_S
    said = ""
    while time.monotonic() < deadline:
        asked = subprocess.run(
            ["curl", "-sk", "-m", "5", *headers, "--data-binary", f"@{body}", url],
            capture_output=True,
            text=True,
            check=False,
        )
        said = asked.stdout
        if asked.returncode == 0 and '"label"' in said:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{name} does not predict: {said[:300]} {log.read_text('utf-8')[-800:]}")


def _load(contender: Contender, body: Path, core: str, seconds: int) -> float:
    """Requests per second that were answered with a prediction."""
    environment = {**os.environ, "BENCH_BODY": str(body), "BENCH_KEY": contender.key}
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "-s", str(SERVERS / "load.lua"), contender.url]
    with contender.awake():
        said = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    total = re.search(r"([0-9]+) requests in", said)
    if rate is None or total is None:
        raise RuntimeError(f"wrk said {said[-300:]}")
    refused = re.search(r"Non-2xx or 3xx responses: ([0-9]+)", said)
    bad = int(refused[1]) if refused is not None else 0
    return float(rate[1]) * (1 - bad / max(1, int(total[1])))


def _peer_python(peer: str) -> str:
    return str(python_of(peer))


@contextlib.contextmanager
def _contenders(root: Path, model: Path, body: Path, core: str) -> Iterator[dict[str, Contender]]:
    with contextlib.ExitStack() as stack:
        found: dict[str, Contender] = {}

        def start(name: str, python: str, program: str, *arguments: str, tls: bool = False) -> None:
            port = _free_port()
            folder = root / name
            folder.mkdir()
            log = folder / "log"
            given = [each.format(port=port, folder=folder) for each in arguments]
            process = stack.enter_context(
                _server(name, [python, str(SERVERS / program), str(model), *given], core, log)
            )
            url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{PATH}"
            key = ""
            if program == "secured.py":
                file = folder / "key"
                deadline = time.monotonic() + START_S
                while not file.exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
                key = file.read_text("utf-8")
            _await(url, key, body, name, log)
            found[name] = Contender(url, key, process.pid)
            os.killpg(process.pid, signal.SIGSTOP)

        for mode in ("strict", "group"):
            for transport in ("plain", "tls"):
                name = f"endpoint.{mode}" + (".tls" if transport == "tls" else "")
                given = ("{port}", mode, transport, "{folder}")
                start(name, sys.executable, "secured.py", *given, tls=transport == "tls")
        start("own-unsecured", sys.executable, "unsecured.py", "{port}")
        start("fastapi", _peer_python("fastapi"), "fastapi_peer.py", "{port}")
        start("litserve", _peer_python("litserve"), "litserve_peer.py", "{port}")
        start("mlserver", _peer_python("mlserver"), "mlserver_peer.py", "{port}", "{folder}")
        yield found


def _row(name: str, peer: str, rates: dict[str, list[float]]) -> dict[str, Any]:
    target = TARGETS[name, peer]
    ratio = statistics.median(a / b for a, b in zip(rates[name], rates[peer], strict=True))
    beats_only = target == 1.0
    return {
        "name": name,
        "ours": statistics.median(rates[name]),
        "peer": peer,
        "peer_value": statistics.median(rates[peer]),
        "unit": "requests/s",
        "ratio": ratio,
        "target": f"> {target:g} x" if beats_only else (f">= {target:g} x" if target else "shown"),
        "met": ratio > target if beats_only else ratio >= target,
    }


def rows() -> list[dict[str, Any]]:
    """Rows `endpoint.strict` and `endpoint.group` per peer, and what TLS costs."""
    for program in ("wrk", "taskset", "curl"):
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} is not installed")
    servers, load = _cores()
    # The ledger syncs: it belongs on a disk, not in a temporary file system.
    PEERS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PEERS.parent, prefix="endpoint-") as folder:
        root = Path(folder)
        model, body = root / "digits.onnx", root / "body.json"
        write_model(model)
        body.write_bytes(request_body())
        with _contenders(root, model, body, servers) as contenders:
            rates: dict[str, list[float]] = {name: [] for name in contenders}
            for contender in contenders.values():
                _load(contender, body, load, 1)
            for _ in range(ROUNDS):
                for name, contender in contenders.items():
                    rates[name].append(_load(contender, body, load, SECONDS))
    return [_row(name, peer, rates) for name, peer in TARGETS]
